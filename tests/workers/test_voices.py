"""What counts of what raters say while two versions are on trial, on a real Valkey."""

import pytest
from redis.asyncio import Redis as AsyncRedis

from feedback.reader import FeedbackReader
from feedback.store import FeedbackStore
from feedback.types import Comparison, Completion, Opened, Pair, Rating, Winner
from serving.canary.lead import Voice
from serving.releases import Trial
from workers.voices import Voices

BEGAN = 100.0
MESSAGES = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
async def store(valkey):
    async with AsyncRedis.from_url(valkey.url, decode_responses=True) as redis:
        yield FeedbackStore(redis)


@pytest.fixture
def trial(redis) -> Trial:
    place = FeedbackReader(redis).cursor()
    return Trial("canary", "policy-v2", "policy-v1", 0.1, BEGAN, 200.0, BEGAN, place)


@pytest.fixture
def voices(redis, trial) -> Voices:
    return Voices(redis, trial)


def reply(name: str, policy: str, **more) -> Completion:
    given = {"routed": True, "created": BEGAN + 1, **more}
    return Completion(
        id=name,
        policy=policy,
        messages=MESSAGES,
        reply="Hi.",
        finish_reason="stop",
        key_id="k",
        conversation="c",
        duration=1.0,
        **given,
    )


async def rate(store, completion: Completion, rating: str, rater: str = "ann", source: str = "human") -> None:
    await store.log([completion])
    given = Rating(completion_id=completion.id, rater=rater, rating=rating, created=BEGAN + 2, source=source)
    await store.rate(given)


async def choose(store, pair: Pair, winner: str, rater: str = "ann") -> None:
    for side, policy in ((pair.a, pair.policy_a), (pair.b, pair.policy_b)):
        await store.log([reply(side, policy, routed=False, pair_id=pair.id, created=pair.created)])
    given = Comparison(pair_id=pair.id, rater=rater, winner=Winner(winner), created=BEGAN + 2)
    await store.compare(pair, given)


def pair(number: int, a: str, b: str, **more) -> Pair:
    given = {"created": BEGAN + 1, "expires": BEGAN + 99, **more}
    return Pair(id=f"pair-{number}", a=f"a-{number}", b=f"b-{number}", policy_a=a, policy_b=b, **given)


async def test_each_rater_has_one_voice_of_all_that_he_said(store, voices):
    await rate(store, reply("1", "policy-v1"), "up")
    await rate(store, reply("2", "policy-v2"), "down")
    await rate(store, reply("3", "policy-v2"), "up", rater="bob")
    await choose(store, pair(1, "policy-v2", "policy-v1"), "a")
    await choose(store, pair(2, "policy-v1", "policy-v2"), "a")
    await choose(store, pair(3, "policy-v1", "policy-v2"), "tie")
    await choose(store, pair(4, "policy-v1", "policy-v2"), "both_bad", rater="bob")
    assert voices.read() == [
        Voice(champion=(1, 0), challenger=(0, 1), wins=1, losses=1, ties=1),
        Voice(challenger=(1, 0), ties=1),
    ]


async def test_a_changed_mind_counts_once_and_a_withdrawn_one_not_at_all(store, voices):
    await rate(store, reply("1", "policy-v1"), "up")
    await rate(store, reply("2", "policy-v2"), "up", rater="bob")
    assert len(voices.read()) == 2
    await rate(store, reply("1", "policy-v1"), "down")
    await store.withdraw("2", "bob")
    assert voices.read() == [Voice(champion=(0, 1))]


@pytest.mark.parametrize(
    "completion",
    [
        reply("1", "policy-v3"),
        reply("1", "policy-v2", routed=False),
        reply("1", "policy-v2", created=BEGAN - 1),
    ],
    ids=["of another version", "asked for by name", "from before"],
)
async def test_what_chance_did_not_deal_out_does_not_count(store, voices, completion):
    await rate(store, completion, "up")
    assert voices.read() == []


@pytest.mark.parametrize(
    "shown",
    [
        pair(1, "policy-v2", "policy-v2"),
        pair(1, "policy-v2", "policy-v3"),
        pair(1, "policy-v2", "policy-v1", expires=None),
        pair(1, "policy-v2", "policy-v1", created=BEGAN - 1),
    ],
    ids=["twice the same", "with another", "named by the rater", "from before"],
)
async def test_other_pairs_do_not_count(store, voices, shown):
    await choose(store, shown, "a")
    assert voices.read() == []


async def test_only_people_are_heard(store, voices):
    await rate(store, reply("1", "policy-v2"), "up", source="import")
    assert voices.read() == []


async def test_what_does_not_count_is_not_kept(store, voices):
    for number in range(3):
        await rate(store, reply(f"other-{number}", "policy-v0"), "up")
    await rate(store, reply("1", "policy-v2"), "up")
    voices.read()
    assert len(voices._said) == 1


async def test_many_labels_are_read_page_by_page(store, voices, monkeypatch):
    monkeypatch.setattr("workers.voices.PAGE", 2)
    for number in range(5):
        await rate(store, reply(f"{number}", "policy-v2"), "up")
    assert voices.read() == [Voice(challenger=(5, 0))]


async def test_a_thumb_that_came_before_its_reply_was_logged_is_not_lost(store, voices, redis):
    await store.open([Opened("1", "policy-v2", None, BEGAN + 1)])
    await store.rate(Rating(completion_id="1", rater="ann", rating="up", created=BEGAN + 2))
    assert voices.read() == []
    await store.log([reply("1", "policy-v2")])
    assert voices.read() == [Voice(challenger=(1, 0))]


async def test_a_reply_that_many_rate_is_one_witness(store, voices):
    shown_to_all = reply("1", "policy-v2")
    for rater in ("ann", "bob", "eve"):
        await rate(store, shown_to_all, "down", rater)
    await choose(store, pair(1, "policy-v2", "policy-v1"), "a")
    await rate(store, reply("2", "policy-v1"), "up", "bob")
    assert voices.read() == [Voice(challenger=(0, 1), wins=1), Voice(champion=(1, 0))]
    await store.withdraw("1", "ann")
    assert voices.read() == [Voice(challenger=(0, 1), champion=(1, 0)), Voice(wins=1)]


async def test_what_was_said_before_the_trial_is_not_read(store, redis):
    await rate(store, reply("1", "policy-v2"), "up")
    later = Trial(
        "canary", "policy-v2", "policy-v1", 0.1, BEGAN, 200.0, BEGAN, FeedbackReader(redis).cursor()
    )
    assert Voices(redis, later).read() == []


async def test_what_a_rater_said_before_tells_how_lenient_they_are(store, redis):
    for number, thumb in enumerate(["up", "down", "down", "up"]):
        await rate(store, reply(f"old-{number}", "policy-v0"), thumb)
    await rate(store, reply("old-0", "policy-v0"), "down")
    await store.withdraw("old-3", "ann")
    place = FeedbackReader(redis).cursor()
    await rate(store, reply("1", "policy-v2"), "up")
    await rate(store, reply("2", "policy-v2"), "up", rater="bob")
    trial = Trial("canary", "policy-v2", "policy-v1", 0.1, BEGAN, 200.0, BEGAN, place)
    assert Voices(redis, trial).read() == [
        Voice(challenger=(1, 0), before=(0, 3)),
        Voice(challenger=(1, 0)),
    ]
