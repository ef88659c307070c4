"""The counters against a recount of everything that was said, after random changes of mind."""

import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import orjson
import pytest
from redis import Redis

from feedback import layout
from feedback.errors import AnsweredPair, NoRating
from feedback.filters import Window
from feedback.formats import parse
from feedback.imports import Origin, entry_of
from feedback.recount import Recount
from feedback.redis import connect_async
from feedback.stats import Stats
from feedback.store import FeedbackStore
from feedback.types import Comparison, Completion, Opened, Pair, Rating, Thumb, Winner, new_id
from tests.servers import ValkeyProcess

START = 1_700_000_000.5
HOURS = 60
POLICIES = ("policy-v0", "policy-v1", "policy-v2")
TAGS = (None, "search", "help desk")
REASONS = ("clear", "too long", "wrong")
RATERS = ("ann", "bob", "eve")


@pytest.fixture
async def store(valkey: ValkeyProcess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FeedbackStore]:
    monkeypatch.setattr("feedback.store.FLUSH_WAIT", 0.0)
    redis = connect_async(valkey.url)
    yield FeedbackStore(redis)
    await redis.aclose()


class People:
    """Who say things at random, and change their minds."""

    def __init__(self, store: FeedbackStore, seed: int, tags: tuple[str | None, ...] = TAGS) -> None:
        self._store, self._dice, self._tags = store, random.Random(seed), tags
        self._replies: list[Completion] = []
        self._writing: list[Completion] = []
        self._pairs: list[Pair] = []

    async def begin(self) -> None:
        for _ in range(10):
            await self._reply()
        for _ in range(3):
            await self._pair()

    async def say(self, things: int) -> None:
        say = (
            self._reply,
            self._end,
            self._pair,
            self._import,
            *3 * (self._rate, self._withdraw),
            *4 * (self._compare,),
        )
        for _ in range(things):
            await self._dice.choice(say)()

    def _time(self) -> float:
        return START + self._dice.random() * HOURS * 3600

    async def _reply(self) -> Completion:
        dice, tag = self._dice, self._dice.choice(self._tags)
        reply = Completion(
            id=new_id("chatcmpl"),
            policy=dice.choice(POLICIES),
            messages=[{"role": "user", "content": "Hello?"}],
            reply="Hi.",
            finish_reason=dice.choice(("stop", None)),
            completion_tokens=dice.randint(1, 9),
            metadata={} if tag is None else {"tag": tag},
            pair_id=dice.choice((None, "pair-of-it")),
            key_id="k",
            conversation="c",
            created=self._time(),
            duration=1.0,
        )
        opened = dice.random() < 0.5
        if opened:
            await self._store.open([Opened(reply.id, reply.policy, None, reply.created, tag)])
        if dice.random() < 0.8 or not self._replies:
            await self._store.log([reply])
            self._replies.append(reply)
        elif opened:
            self._writing.append(reply)
        return reply

    async def _end(self) -> None:
        """A reply that was still being written, and may have been rated by then, is logged."""
        if self._writing:
            reply = self._writing.pop()
            await self._store.log([reply])
            self._replies.append(reply)

    async def _pair(self) -> None:
        one, two = self._dice.sample(self._replies, 2)
        if self._dice.random() < 0.5:
            pair, _ = await self._store.pair_of(one.id, two.id)
        else:
            pair = Pair(
                id=new_id("pair"),
                a=one.id,
                b=two.id,
                policy_a=one.policy,
                policy_b=two.policy,
                created=START,
                expires=2**40,
            )
            await self._store.offer(pair)
        self._pairs.append(pair)

    async def _rate(self) -> None:
        rating = Rating(
            completion_id=self._dice.choice([*self._replies, *self._writing]).id,
            rater=self._dice.choice(RATERS),
            rating=self._dice.choice(list(Thumb)),
            reasons=self._dice.sample(REASONS, self._dice.randint(0, 2)),
            comment=self._dice.choice((None, "", "a comment")),
            created=self._time(),
        )
        await self._store.rate(rating)

    async def _withdraw(self) -> None:
        with suppress(NoRating):
            reply = self._dice.choice([*self._replies, *self._writing])
            await self._store.withdraw(reply.id, self._dice.choice(RATERS))

    async def _compare(self) -> None:
        pair = self._dice.choice(self._pairs)
        comparison = Comparison(
            pair_id=pair.id,
            rater=self._dice.choice(RATERS),
            winner=self._dice.choice(list(Winner)),
            reasons=self._dice.sample(REASONS, self._dice.randint(0, 2)),
            comment=self._dice.choice((None, "a comment")),
            created=self._time(),
        )
        with suppress(AnsweredPair):
            await self._store.compare(pair, comparison)

    async def _import(self) -> None:
        word = str(self._dice.randint(1, 5))
        lines = [
            {"prompt": "One?", "completion": word, "label": self._dice.random() < 0.5},
            {"prompt": "One?", "chosen": word, "rejected": word + "."},
        ]
        origin = Origin("key", None, self._time())
        await self._store.bring_in([entry_of(parse(line), origin) for line in lines])


class Said:
    """What the events come to, the slow way."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.counters: dict[str, Counter[str]] = defaultdict(Counter)
        self.raters: dict[str, Counter[str]] = defaultdict(Counter)
        self.comments: dict[str, dict[str, float]] = defaultdict(dict)
        self.labelled: set[str] = set()
        ratings, comparisons = self._replayed()
        for rating in ratings:
            self._rating(rating)
        for comparison in comparisons:
            self._comparison(comparison)
        for _, entry in redis.xrange(layout.COMPLETIONS):
            self._completion(entry["id"])

    def _replayed(self) -> tuple[list[Rating], list[Comparison]]:
        ratings, comparisons = {}, {}
        for _, entry in self.redis.xrange(layout.EVENTS):
            body = orjson.loads(entry["body"])
            if entry["kind"] == "comparison":
                comparison = Comparison(**body)
                comparisons[comparison.pair_id, comparison.rater] = comparison
            elif entry["kind"] == "rating":
                rating = Rating(**body)
                ratings[rating.completion_id, rating.rater] = rating
            else:
                del ratings[body["completion_id"], body["rater"]]
        return list(ratings.values()), list(comparisons.values())

    def _completion(self, completion_id: str) -> None:
        body = Completion.model_validate_json(self.redis.hget(layout.completion_key(completion_id), "body"))
        tag = body.metadata.get("tag")
        self._count(body.created, tag, f"of {body.policy} completions")
        if body.pair_id is None or completion_id in self.labelled:
            self._count(body.created, tag, f"of {body.policy} tokens", body.completion_tokens)
        self._count(body.created, tag, f"of {body.policy} broken", body.finish_reason is None)
        self._count(body.created, tag, f"of {body.policy} rated", completion_id in self.labelled)

    def _rating(self, rating: Rating) -> None:
        policy, tag = self._policy_and_tag(rating.completion_id)
        self.labelled.add(rating.completion_id)
        self._count(rating.created, tag, f"of {policy} {rating.rating}")
        for reason in rating.reasons:
            self._count(rating.created, tag, f"reason {rating.rating} {policy} {reason}")
        self._rest(rating, {policy}, f"rating {rating.completion_id} {rating.rater} {tag or ''}")

    def _comparison(self, comparison: Comparison) -> None:
        pair = Pair.model_validate_json(self.redis.hget(layout.pair_key(comparison.pair_id), "body"))
        self.labelled |= {pair.a, pair.b}
        _, tag = self._policy_and_tag(pair.a)
        way = "named" if pair.expires is None else "blind"
        winner = comparison.winner
        self._count(comparison.created, tag, f"pair {way} {pair.policy_a} {pair.policy_b} {winner}")
        kinds = {"a": {("chosen", pair.policy_a)}, "b": {("chosen", pair.policy_b)}}
        both = {(winner, pair.policy_a), (winner, pair.policy_b)}
        for kind, policy in kinds.get(winner, both):
            for reason in comparison.reasons:
                self._count(comparison.created, tag, f"reason {kind} {policy} {reason}")
        member = f"comparison {pair.id} {comparison.rater} {tag or ''}"
        self._rest(comparison, {pair.policy_a, pair.policy_b}, member)

    def _policy_and_tag(self, completion_id: str) -> tuple[str, str | None]:
        policy, tag = self.redis.hmget(layout.completion_key(completion_id), "policy", "tag")
        return policy, tag or None

    def _rest(self, label: Rating | Comparison, policies: set[str], member: str) -> None:
        if label.source == "human":
            self.raters[layout.RATERS][label.rater] += 1
            self.raters[layout.raters_key(int(label.created // 86400 * 86400))][label.rater] += 1
        if label.comment:
            for policy in policies:
                self.comments[layout.comments_key(policy)][member] = label.created

    def _count(self, created: float, tag: str | None, field: str, by: int = 1) -> None:
        hour, day = int(created // 3600 * 3600), int(created // 86400 * 86400)
        for words in {None, tag}:
            for key in (
                layout.totals_key(words),
                layout.day_key(day, words),
                layout.hour_key(hour, words),
            ):
                self.counters[key][field] += by


def kept(redis: Redis, pattern: str, read: Callable[[str], dict[str, float]]) -> dict[str, dict[str, float]]:
    """What stands under some keys, without zeros."""
    found = {key: {name: value for name, value in read(key).items() if value} for key in redis.keys(pattern)}
    return {key: values for key, values in found.items() if values}


def assert_counted(redis: Redis) -> None:
    said = Said(redis)
    expected = {key: dict(+counts) for key, counts in said.counters.items() if +counts}
    found = kept(redis, "tw:counts:*", lambda key: {k: int(v) for k, v in redis.hgetall(key).items()})
    assert found == expected
    ranked = lambda key: dict(redis.zrange(key, 0, -1, withscores=True))  # noqa: E731
    assert kept(redis, "tw:raters:*", ranked) == said.raters
    comments = kept(redis, "tw:comments:*", ranked)
    assert comments.keys() == said.comments.keys()
    for key, members in said.comments.items():
        assert comments[key] == pytest.approx(members)


@pytest.mark.parametrize("seed", range(5))
async def test_counters_are_what_a_recount_of_the_events_comes_to(store, redis, seed):
    people = People(store, seed)
    await people.begin()
    await people.say(150)
    assert_counted(redis)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_who_keeps_looking_sees_what_a_first_look_sees(store, redis, seed):
    """What one gateway has read it keeps, while others take feedback of any hour."""
    people, open_page = People(store, seed), Stats(redis)
    looks = [Window.of(START, START + days * layout.DAY) for days in (HOURS / 24, 30)]
    await people.begin()
    for _ in range(40):
        await people.say(3)
        for window in looks:
            for tag in TAGS:
                assert open_page.counters(window, tag) == Stats(redis).counters(window, tag)
            assert open_page.loudest(window.days()) == Stats(redis).loudest(window.days())


@pytest.mark.parametrize("seed", range(2))
async def test_what_older_gateways_left_is_counted_while_people_go_on(store, redis, seed, monkeypatch):
    """The same feedback without any counter, mark or tag: swept in small pages with new feedback between."""
    monkeypatch.setattr("feedback.recount.PAGE", 7)
    people = People(store, seed, tags=(None,))
    await people.begin()
    await people.say(100)
    age(redis)
    recount = Recount(redis)
    while not recount.page():
        await people.say(2)
    assert_counted(redis)
    assert recount.page(), "and it is done for ever"
    assert redis.keys("tw:count:*") == redis.keys("tw:policies:seen") == []


def age(redis: Redis) -> None:
    """Feedback as gateways left it that did not know these counters."""
    for pattern in ("tw:counts:*", "tw:raters:*", "tw:comments:*"):
        for key in redis.keys(pattern):
            redis.delete(key)
    for key in redis.keys("tw:completion:*"):
        redis.hdel(key, "created", "tag", "labels", "tokens")
    for key in redis.keys("tw:pair:*"):
        redis.hdel(key, "tag")
    redis.hset("tw:count:policy-v0", "up", 3)
    redis.hset("tw:count:policy-v0:3600", "up", 3)
    redis.sadd("tw:policies:seen", "policy-v0")


async def test_nobody_fills_the_store_with_words(store, redis, monkeypatch):
    for number in range(layout.MOST_TAGS + 5):
        reply = Completion(
            id=f"chatcmpl-{number}",
            policy="policy-v0",
            messages=None,
            reply=None,
            finish_reason="stop",
            metadata={"tag": f"tag {number}"},
            key_id="k",
            conversation="c",
            created=START,
            duration=1.0,
        )
        await store.log([reply])
        reasons = [f"reason {number} {index}" for index in range(3)]
        rating = Rating(completion_id=reply.id, rater="ann", rating=Thumb.up, reasons=reasons, created=START)
        await store.rate(rating)
    assert redis.scard(layout.TAGS) == layout.MOST_TAGS + 1
    assert redis.scard(layout.REASONS) == layout.MOST_REASONS + 1
    assert redis.hget(layout.totals_key("other"), "of policy-v0 up") == "5"
    lost = 3 * (layout.MOST_TAGS + 5) - layout.MOST_REASONS
    assert redis.hget(layout.TOTALS, "reason up policy-v0 other") == str(lost)
    await store.withdraw(f"chatcmpl-{layout.MOST_TAGS + 4}", "ann")
    assert redis.hget(layout.totals_key("other"), "of policy-v0 up") == "4"
    assert redis.hget(layout.TOTALS, "reason up policy-v0 other") == str(lost - 3)


async def test_only_the_newest_comments_are_listed(store, redis, monkeypatch):
    reply = await People(store, 0)._reply()
    await store.log([reply])
    for number in range(layout.MOST_COMMENTS + 3):
        rating = Rating(
            completion_id=reply.id,
            rater=f"rater-{number}",
            rating=Thumb.up,
            comment="hm",
            created=START + number,
        )
        await store.rate(rating)
    listed = redis.zrange(layout.comments_key(reply.policy), 0, -1, withscores=True)
    assert len(listed) == layout.MOST_COMMENTS
    assert listed[0][1] == START + 3
