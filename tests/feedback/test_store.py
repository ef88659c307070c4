"""The store on a real Valkey: counters through every change of mind, and nothing acknowledged is lost."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis as redis_client

from feedback import layout
from feedback.errors import ExpiredPair, NoRating, NotComparable, UnknownCompletion, UnknownPair
from feedback.reader import FeedbackReader
from feedback.redis import connect, connect_async
from feedback.stats import Stats
from feedback.store import FeedbackStore
from feedback.tally import Counts
from feedback.types import Comparison, Completion, Opened, Pair, Rating, Thumb, Winner
from tests.servers import ValkeyProcess, free_port

HOUR = 3600
TEN = 1_700_000_000 // HOUR * HOUR  # some full hour
ASK = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
async def store(valkey: ValkeyProcess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FeedbackStore]:
    monkeypatch.setattr("feedback.store.FLUSH_WAIT", 0.2)
    redis = connect_async(valkey.url)
    yield FeedbackStore(redis)
    await redis.aclose()


@pytest.fixture
def stats(valkey: ValkeyProcess) -> Iterator[Stats]:
    with connect(valkey.url) as redis:
        yield Stats(redis)


def completion(id_: str, policy: str = "policy-v0", **more: object) -> Completion:
    fields: dict = {"messages": ASK, "reply": "Hi.", "finish_reason": "stop", "completion_tokens": 3, **more}
    return Completion(
        id=id_, policy=policy, key_id="k", conversation="c", created=TEN + 5.5, duration=1.0, **fields
    )


def opened(id_: str, policy: str = "policy-v0", user: str | None = None) -> Opened:
    return Opened(id_, policy, user, TEN + 5.5)


def rating(id_: str, thumb: str, rater: str = "ann", at: float = TEN) -> Rating:
    return Rating(completion_id=id_, rater=rater, rating=Thumb(thumb), created=at)


def pair(**more: object) -> Pair:
    fields: dict = {"policy_a": "policy-v1", "policy_b": "policy-v0", "created": TEN, "expires": None, **more}
    return Pair(id="pair-1", a="chatcmpl-a", b="chatcmpl-b", **fields)


def comparison(winner: str, rater: str = "ann", at: float = TEN) -> Comparison:
    return Comparison(pair_id="pair-1", rater=rater, winner=Winner(winner), created=at)


def in_hour(stats: Stats, policy: str, hour: float) -> Counts:
    return dict(stats.hours(policy, hour, hour + 1))[int(hour)]


def test_a_stretch_ends_before_its_end(stats):
    assert [start for start, _ in stats.hours("policy-v0", 0, 2 * HOUR)] == [0, HOUR]
    assert [start for start, _ in stats.hours("policy-v0", 1, 2 * HOUR + 0.5)] == [0, HOUR, 2 * HOUR]
    assert [start for start, _ in stats.days("policy-v0", 0, 2 * layout.DAY)] == [0, layout.DAY]


async def test_completions_are_counted_once_however_often_they_are_sent(store, stats):
    batch = [completion("chatcmpl-1"), completion("chatcmpl-2", finish_reason=None)]
    await store.log(batch)
    await store.log(batch)
    assert stats.policies() == {"policy-v0": Counts(completions=2, broken=1, tokens=6)}
    assert in_hour(stats, "policy-v0", TEN) == Counts(completions=2, broken=1, tokens=6)
    assert await store.completion("chatcmpl-1") == batch[0]


async def test_one_rating_a_rater_and_the_last_wins(store, stats):
    await store.log([completion("chatcmpl-1")])
    for thumb in ("up", "up", "down", "up", "down"):
        assert await store.rate(rating("chatcmpl-1", thumb)) == "policy-v0"
    await store.rate(rating("chatcmpl-1", "up", rater="bob"))
    counts = stats.policies()["policy-v0"]
    assert (counts.up, counts.down, counts.approval) == (1, 1, 0.5)
    assert (await store.rating("chatcmpl-1", "ann")).rating == "down"
    assert stats.labels() == 2


async def test_a_changed_mind_leaves_its_old_hour(store, stats):
    await store.log([completion("chatcmpl-1")])
    await store.rate(rating("chatcmpl-1", "up", at=TEN + 3599.999))
    await store.rate(rating("chatcmpl-1", "down", at=TEN + HOUR))
    assert (in_hour(stats, "policy-v0", TEN).up, in_hour(stats, "policy-v0", TEN).down) == (0, 0)
    assert in_hour(stats, "policy-v0", TEN + HOUR).down == 1
    await store.withdraw("chatcmpl-1", "ann")
    assert in_hour(stats, "policy-v0", TEN + HOUR).down == 0
    assert stats.policies()["policy-v0"].down == 0


async def test_a_thumb_given_and_withdrawn_again_and_again_is_no_new_label(store, stats, redis):
    await store.log([completion("chatcmpl-1")])
    for _ in range(3):
        await store.rate(rating("chatcmpl-1", "up"))
        assert stats.labels() == 1
        await store.withdraw("chatcmpl-1", "ann")
        assert stats.labels() == 0
    await store.rate(rating("chatcmpl-1", "up"))
    reader = FeedbackReader(redis)
    reader.mark(stats.labels(), reader.cursor())
    await store.withdraw("chatcmpl-1", "ann")
    assert stats.labels() == 1, "an update has learnt from it"
    await store.rate(rating("chatcmpl-1", "up", at=time.time() + 1))
    await store.withdraw("chatcmpl-1", "ann")
    assert stats.labels() == 1


async def test_withdrawn_once_and_not_twice(store, stats):
    await store.log([completion("chatcmpl-1")])
    await store.rate(rating("chatcmpl-1", "up"))
    assert (await store.withdraw("chatcmpl-1", "ann")).rating == "up"
    with pytest.raises(NoRating):
        await store.withdraw("chatcmpl-1", "ann")
    with pytest.raises(NoRating):
        await store.rating("chatcmpl-1", "ann")
    assert stats.policies()["policy-v0"].up == 0


async def test_raters_at_the_same_time_are_all_counted(store, stats):
    await store.log([completion("chatcmpl-1")])
    votes = [rating("chatcmpl-1", thumb, rater=f"r{i}") for i in range(20) for thumb in ("up", "down")]
    await asyncio.gather(*(store.rate(vote) for vote in votes))
    counts = stats.policies()["policy-v0"]
    assert counts.up + counts.down == 20
    states = [(await store.rating("chatcmpl-1", f"r{i}")).rating for i in range(20)]
    assert counts.up == states.count("up")


async def test_a_thumb_waits_for_its_completion(store, stats):
    async def log_late() -> None:
        await asyncio.sleep(0.15)
        await store.log([completion("chatcmpl-late", user="ann")])

    late = asyncio.create_task(log_late())
    assert await store.rate(rating("chatcmpl-late", "up")) == "policy-v0"
    await late
    assert stats.policies()["policy-v0"].up == 1


async def test_a_reply_that_has_begun_can_be_rated_and_knows_its_user(store, stats):
    await store.open([opened("chatcmpl-1", "policy-v1", "ann")])
    assert await store.user_of("chatcmpl-1") == "ann"
    assert await store.rate(rating("chatcmpl-1", "up")) == "policy-v1"
    with pytest.raises(UnknownCompletion):
        await store.completion("chatcmpl-1")
    await store.log([completion("chatcmpl-1", policy="policy-v1", user="ann")])
    await store.open([opened("chatcmpl-1", "policy-v9", "eve")])
    assert await store.user_of("chatcmpl-1") == "ann"
    assert stats.policies() == {"policy-v1": Counts(completions=1, tokens=3, rated=1, up=1)}


async def test_a_reply_that_is_rated_while_it_is_written_counts_as_rated_once_it_is_logged(store, stats):
    await store.open([Opened("chatcmpl-1", "policy-v0", None, TEN)])
    await store.rate(rating("chatcmpl-1", "up"))
    assert stats.policies()["policy-v0"] == Counts(up=1)
    await store.log([completion("chatcmpl-1")])
    await store.log([completion("chatcmpl-1")])
    assert stats.policies()["policy-v0"] == Counts(completions=1, tokens=3, rated=1, up=1)
    await store.withdraw("chatcmpl-1", "ann")
    assert stats.policies()["policy-v0"].rated == 0


async def test_a_thumb_on_a_reply_that_was_never_logged_can_be_withdrawn_for_ever(store, stats, redis):
    await store.open([Opened("chatcmpl-1", "policy-v0", None, TEN)])
    await store.rate(rating("chatcmpl-1", "up"))
    assert redis.ttl(layout.completion_key("chatcmpl-1")) == -1, "it does not expire any more"
    await store.withdraw("chatcmpl-1", "ann")
    assert stats.policies()["policy-v0"] == Counts()


async def test_a_reply_that_never_ends_is_forgotten_but_a_logged_one_is_kept(store, redis):
    await store.open([opened("chatcmpl-1"), opened("chatcmpl-2")])
    await store.log([completion("chatcmpl-2")])
    assert 0 < redis.ttl(layout.completion_key("chatcmpl-1")) <= layout.OPEN_TTL
    assert redis.ttl(layout.completion_key("chatcmpl-2")) == -1


async def test_a_rating_of_nothing_changes_nothing(store, redis):
    with pytest.raises(UnknownCompletion):
        await store.rate(rating("chatcmpl-none", "up"))
    assert redis.dbsize() == 0


async def test_comparisons_count_for_both_sides_and_change_with_the_mind(store, stats):
    await store.offer(pair())
    await store.compare(pair(), comparison("a"))
    counts = stats.policies()
    assert (counts["policy-v1"], counts["policy-v0"]) == (Counts(wins=1), Counts(losses=1))
    await store.compare(pair(), comparison("b", at=TEN + HOUR))
    counts = stats.policies()
    assert (counts["policy-v1"], counts["policy-v0"]) == (Counts(losses=1), Counts(wins=1))
    assert in_hour(stats, "policy-v1", TEN) == Counts()
    assert in_hour(stats, "policy-v1", TEN + HOUR) == Counts(losses=1)
    await store.compare(pair(), comparison("tie"))
    await store.compare(pair(), comparison("both_bad", rater="bob"))
    counts = stats.policies()
    assert counts["policy-v1"] == counts["policy-v0"] == Counts(ties=1, both_bad=1)
    assert stats.labels() == 2


async def test_pairs_are_unknown_expire_and_are_kept_once_they_are_answered(store, redis):
    with pytest.raises(UnknownPair):
        await store.pair("pair-1")
    await store.offer(pair(expires=time.time() - 1, created=time.time() - 10))
    with pytest.raises(ExpiredPair):
        await store.pair("pair-1")
    await store.offer(pair(expires=time.time() + 100, created=time.time()))
    assert redis.ttl(layout.pair_key("pair-1")) > 100
    await store.compare(await store.pair("pair-1"), comparison("a"))
    assert redis.ttl(layout.pair_key("pair-1")) == -1


async def test_a_named_pair_is_the_same_whoever_was_chosen(store):
    await store.log([completion("chatcmpl-x", policy="policy-v1"), completion("chatcmpl-y")])
    one, winner = await store.pair_of("chatcmpl-x", "chatcmpl-y")
    other, mirrored = await store.pair_of("chatcmpl-y", "chatcmpl-x")
    assert (one.id, one.a, one.b, one.policy_a, one.policy_b) == (
        other.id, "chatcmpl-x", "chatcmpl-y", "policy-v1", "policy-v0",
    )  # fmt: skip
    assert (winner, mirrored) == (Winner.a, Winner.b)


async def test_what_cannot_be_compared(store):
    await store.log(
        [
            completion("chatcmpl-x"),
            completion("chatcmpl-other", messages=[{"role": "user", "content": "Bye?"}]),
            completion("chatcmpl-unstored", messages=None, reply=None),
        ]
    )
    with pytest.raises(NotComparable, match="different messages"):
        await store.pair_of("chatcmpl-x", "chatcmpl-other")
    with pytest.raises(NotComparable, match="store: false"):
        await store.pair_of("chatcmpl-x", "chatcmpl-unstored")
    with pytest.raises(UnknownCompletion) as caught:
        await store.pair_of("chatcmpl-x", "chatcmpl-none")
    assert caught.value.param == "rejected"


async def test_every_event_is_kept_in_order(store, redis):
    await store.log([completion("chatcmpl-1")])
    await store.rate(rating("chatcmpl-1", "up"))
    await store.rate(rating("chatcmpl-1", "down"))
    await store.withdraw("chatcmpl-1", "ann")
    await store.compare(pair(), comparison("a"))
    kinds = [entry["kind"] for _, entry in redis.xrange(layout.EVENTS)]
    assert kinds == ["rating", "rating", "withdrawal", "comparison"]


@contextmanager
def running(folder: Path, fsync: str) -> Iterator[ValkeyProcess]:
    server = ValkeyProcess(folder, free_port(), fsync=fsync)
    server.start()
    yield server
    server.client.close()
    server.kill()


@pytest.fixture(params=["always", "everysec"])
def own_valkey(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ValkeyProcess]:
    with running(tmp_path, request.param) as server:
        yield server


async def test_what_was_acknowledged_survives_a_kill(own_valkey):
    """kill -9 right after the last answer; with `everysec` the store has to wait for the disk itself."""
    redis = connect_async(own_valkey.url)
    store = FeedbackStore(redis)
    await store.log([completion("chatcmpl-1")])
    raters = [f"r{i}" for i in range(30)]
    await asyncio.gather(*(store.rate(rating("chatcmpl-1", "up", rater=r)) for r in raters))
    await store.rate(rating("chatcmpl-1", "down", rater="r0"))
    await store.compare(pair(), comparison("a"))
    waited = int(own_valkey.client.info("commandstats").get("cmdstat_waitaof", {}).get("calls", 0))
    own_valkey.kill()
    await redis.aclose()
    own_valkey.start()
    assert (waited > 0) is (own_valkey.fsync == "everysec")
    with connect(own_valkey.url) as again:
        assert set(again.hkeys(layout.ratings_key("chatcmpl-1"))) == set(raters)
        counts = Stats(again).policies()
        assert (counts["policy-v0"].up, counts["policy-v0"].down) == (29, 1)
        assert counts["policy-v1"].wins == 1


async def test_a_disk_that_does_not_answer_is_no_success(tmp_path, monkeypatch):
    """WAITAOF that gives up must not pass for a 200."""
    monkeypatch.setattr("feedback.store.FSYNC_WAIT_MS", 1)
    with running(tmp_path, "no") as server:  # nothing is synced, so nothing comes to be waited for
        redis = connect_async(server.url)
        store = FeedbackStore(redis)
        await store.log([completion("chatcmpl-1")])
        with pytest.raises(ConnectionError, match="did not write to its disk"):
            await store.rate(rating("chatcmpl-1", "up"))
        await redis.aclose()


async def test_a_server_that_keeps_no_file_is_said_so(tmp_path, caplog):
    with running(tmp_path, "everysec") as server:
        server.client.config_set("appendonly", "no")
        redis = connect_async(server.url)
        store = FeedbackStore(redis)
        await store.log([completion("chatcmpl-1")])
        await store.rate(rating("chatcmpl-1", "up"))
        await redis.aclose()
    assert "keeps no append-only file" in caplog.text


async def test_redis_errors_pass_through(monkeypatch):
    monkeypatch.setattr("feedback.redis.PATIENCE", 0.0)
    redis = connect_async(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(redis_client.exceptions.ConnectionError):
        await FeedbackStore(redis).rate(rating("chatcmpl-1", "up"))
    await redis.aclose()
