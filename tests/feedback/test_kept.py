"""Counters that a gateway keeps: read once, again when they changed, and right whatever happens meanwhile."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from feedback import kept, layout, scripts
from feedback.filters import Window
from feedback.kept import Kept, Place
from feedback.layout import DAY, HOUR
from feedback.redis import connect
from feedback.stats import Stats
from feedback.types import Rating, Thumb
from tests.servers import ValkeyProcess, free_port

START = 1_700_000_000 // DAY * DAY
WEEK = Window.of(START, START + 7 * DAY)
Answer = Mapping[str, str]


def rate(redis: Redis, at: float, rater: str = "ann") -> None:
    """A thumb up that was given then, on a reply of the first hour."""
    reply = f"chatcmpl-{rater}"
    redis.eval(scripts.OPEN, 0, 3600, reply, "policy-v0", "", START, "")
    label = Rating(completion_id=reply, rater=rater, rating=Thumb.up, created=at)
    redis.eval(scripts.RATE, 0, reply, rater, label.model_dump_json())


def reads(redis: Redis, look: Callable[[], object]) -> int:
    """Hashes and rankings that it asked for."""
    redis.config_resetstat()
    look()
    found = redis.info("commandstats")
    return sum(found.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("hgetall", "zrevrange"))


def ups(stats: Stats) -> dict[int, int]:
    return {start: found["of policy-v0 up"] for start, found in stats.counters(WEEK, None).items() if found}


def place(read: Callable[[Answer], int]) -> Place[int]:
    return Place(layout.hour_key(START), (START, HOUR), lambda pipe, key: pipe.hgetall(key), read)


def up(answer: Answer) -> int:
    return int(answer.get("of policy-v0 up", 0))


def test_a_second_look_reads_what_changed(redis):
    stats = Stats(redis)
    rate(redis, START + 5 * HOUR)
    assert reads(redis, lambda: stats.counters(WEEK, None)) == len(WEEK.starts())
    assert reads(redis, lambda: stats.counters(WEEK, None)) == 0
    assert reads(redis, lambda: stats.loudest(WEEK.days())) == 2 * 7, "raters and counters of each day"
    rate(redis, START + 30 * HOUR, "bob")
    assert reads(redis, lambda: stats.counters(WEEK, None)) == 1
    assert reads(redis, lambda: stats.loudest(WEEK.days())) == 2
    assert ups(stats) == {START + 5 * HOUR: 1, START + 30 * HOUR: 1}


def test_a_changed_mind_is_seen_in_both_hours(redis):
    stats = Stats(redis)
    rate(redis, START + 5 * HOUR)
    assert ups(stats) == {START + 5 * HOUR: 1}
    rate(redis, START + 30 * HOUR)
    assert {start: count for start, count in ups(stats).items() if count} == {START + 30 * HOUR: 1}


def test_changes_that_lost_their_numbers_are_seen_once_it_is_started_again(tmp_path):
    """A killed Valkey may forget its last second, after which other changes take the same numbers."""
    server = ValkeyProcess(tmp_path, free_port())
    server.start()
    try:
        rate(server.client, START)
        with connect(server.url) as redis:
            stats = Stats(redis)
            assert ups(stats) == {START: 1}
            server.client.hset(layout.hour_key(START), "of policy-v0 up", 7)
            assert ups(stats) == {START: 1}
            server.kill()
            server.start()
            assert ups(stats) == {START: 7}
            assert reads(server.client, lambda: stats.counters(WEEK, None)) == 0
    finally:
        server.client.close()
        server.kill()


@pytest.mark.parametrize("changes", [1, 2, 9])
def test_another_store_in_its_place_is_seen_at_once(redis, changes):
    """Emptied, or restored from what it was before: its numbers go back, or may be as great again."""
    stats = Stats(redis)
    for rater in ("ann", "bob"):
        rate(redis, START, rater)
    assert ups(stats) == {START: 2}
    redis.flushdb()
    for rater in range(changes):
        rate(redis, START + HOUR, f"r{rater}")
    assert ups(stats) == {START + HOUR: changes}


def test_threads_see_what_they_said(valkey: ValkeyProcess, redis: Redis):
    """Each thread's look has its own thumb in it, whatever the others read and keep meanwhile."""
    with connect(valkey.url) as shared:
        stats = Stats(shared)

        def speak(number: int) -> bool:
            at = START + (number % 5) * HOUR
            before = ups(stats).get(at, 0)
            rate(redis, at, f"r{number}")
            return ups(stats)[at] > before

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(speak, range(80)))
    assert sum(ups(stats).values()) == 80


def test_what_changes_while_it_is_read_is_read_again(redis):
    values = Kept(redis)

    def late(answer: Answer) -> int:
        rate(redis, START, "bob")
        return up(answer)

    rate(redis, START)
    assert values.values([place(late)]) == [1]
    assert values.values([place(up)]) == [2]


@pytest.mark.parametrize("changes", [0, 1])
def test_what_was_being_read_when_all_is_forgotten_is_read_again(redis, monkeypatch, changes):
    values = Kept(redis)

    def late(answer: Answer) -> int:
        monkeypatch.setattr(values, "_store", ("another", ""))
        for number in range(1 + changes):
            rate(redis, START, f"bob-{number}")
        values.values([Place("tw:nothing", (0, HOUR), lambda pipe, key: pipe.hgetall(key), up)])
        return up(answer)

    rate(redis, START)
    assert values.values([place(late)]) == [1]
    assert values.values([place(up)]) == [2 + changes]


def test_no_more_is_kept_than_so_many(redis, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 100)
    stats = Stats(redis)
    stats.counters(WEEK, None)
    assert 0 < reads(redis, lambda: stats.counters(WEEK, None)) <= len(WEEK.starts())
    hours = Window.of(START, START + 50 * HOUR)
    stats.counters(hours, None)
    assert reads(redis, lambda: stats.counters(hours, None)) == 0
