from collections import Counter

from redis import Redis

from feedback import layout
from feedback.reader import FeedbackReader, Said
from feedback.types import Comparison, Pair, Rating, Winner
from tests.filled import fill

HOUR = 3_600_000
START = 1_700_000_000_000


def names(said: list[Said]) -> list[str]:
    found = []
    for one in said:
        assert isinstance(one.label, Rating)
        found.append(one.label.completion_id)
    return found


def when(said: list[Said]) -> Counter[str]:
    return Counter(name.split("-")[1] for name in names(said))


def history(redis: Redis, reader: FeedbackReader) -> str:
    """A quiet month, a busy hour, and another quiet month, with a snapshot after each: where they end."""
    now = START
    for name, count, step in (("early", 600, HOUR), ("busy", 2400, 1500), ("late", 600, HOUR)):
        times = range(now, now + count * step, step)
        reader.mark(fill(redis, name, times), f"{times[-1]}-0")
        now = times[-1] + step
    return reader.cursor()


def test_the_past_is_drawn_evenly_however_busy_it_was(redis: Redis):
    reader = FeedbackReader(redis)
    cursor = history(redis, reader)
    found = Counter[str]()
    for seed in range(5):
        drawn = reader.before(cursor, 240, seed)
        assert len(names(drawn)) == len(set(names(drawn))) == 240
        found += when(drawn)
    share = found["busy"] / found.total()
    assert 0.45 < share < 0.85, "two thirds of the labels were given in a thousandth of the time"
    assert found["early"] > 0
    assert found["late"] > 0
    redis.delete(layout.MARKS)
    unmarked = sum((when(reader.before(cursor, 240, seed)) for seed in range(5)), Counter[str]())
    assert unmarked["busy"] / unmarked.total() < 0.2


def test_the_same_seed_draws_the_same_and_another_draws_others(redis: Redis):
    reader = FeedbackReader(redis)
    cursor = history(redis, reader)
    assert names(reader.before(cursor, 100, 1)) == names(reader.before(cursor, 100, 1))
    assert set(names(reader.before(cursor, 100, 1))) != set(names(reader.before(cursor, 100, 2)))


def test_nothing_after_the_cursor_is_drawn(redis: Redis):
    reader = FeedbackReader(redis)
    cursor = history(redis, reader)
    fill(redis, "new", range(START + 2000 * HOUR, START + 2100 * HOUR, HOUR))
    for count in (100, 10_000):
        assert "new" not in when(reader.before(cursor, count, 1))
    assert when(reader.since(cursor, reader.cursor())) == {"new": 100}


def test_what_was_imported_in_a_moment_is_drawn_from_all_over(redis: Redis):
    """Three thousand labels in three milliseconds: a place is a time and a number."""
    reader = FeedbackReader(redis)
    reader.mark(fill(redis, "file", [START + number // 1000 for number in range(3000)]), reader.cursor())
    drawn = names(reader.before(reader.cursor(), 200, 1))
    numbers = sorted(int(name.rpartition("-")[2]) for name in drawn)
    assert len(numbers) > 100
    assert len({number // 1000 for number in numbers}) == 3
    assert sum(number % 1000 > 15 for number in numbers) > 50


def test_a_past_that_is_small_is_taken_whole(redis: Redis):
    reader = FeedbackReader(redis)
    fill(redis, "all", range(START, START + 50 * HOUR, HOUR))
    assert len(reader.before(reader.cursor(), 50, 1)) == 50
    assert len(reader.before(reader.cursor(), 49, 1)) <= 49
    assert reader.before(reader.cursor(), 0, 1) == []


def test_what_is_drawn_too_much_is_cut_from_thumbs_and_comparisons_alike(redis: Redis):
    """Of a stream in which they take turns."""
    reader = FeedbackReader(redis)
    fill(redis, "all", range(START, START + 200 * HOUR, HOUR))
    thumbs = redis.xrange(layout.EVENTS)
    redis.delete(layout.EVENTS)
    for number, (place, thumb) in enumerate(thumbs):
        pair = Pair.named({f"chatcmpl-all-{n}": "policy-v0" for n in (number, (number + 1) % 200)}, 0.0)
        said = Comparison(pair_id=pair.id, rater="ann", winner=Winner.a, created=0.0)
        redis.hset(layout.pair_key(pair.id), "body", pair.to_json())
        redis.hset(layout.comparisons_key(pair.id), "ann", said.to_json())
        redis.xadd(layout.EVENTS, thumb, id=place)
        redis.xadd(layout.EVENTS, {"kind": "comparison", "body": said.to_json()}, id=f"{place[:-1]}1")
    found = [one for seed in range(20) for one in reader.before(reader.cursor(), 8, seed)]
    assert len(found) == 160
    assert 0.3 < sum(isinstance(one.label, Comparison) for one in found) / 160 < 0.7
