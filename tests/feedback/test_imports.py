"""Imported lines on a real Valkey: like what was said here, but no policy version's, and never twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from feedback.formats import parse
from feedback.imports import Entry, Kind, Origin, entry_of
from feedback.reader import START, FeedbackReader
from feedback.redis import connect, connect_async
from feedback.stats import Stats
from feedback.store import FeedbackStore
from feedback.types import Comparison, Rating, Thumb
from tests.servers import ValkeyProcess

PAIR = {"prompt": "The sky is", "chosen": "blue.", "rejected": "green."}
THUMB = {"prompt": "Grass is", "completion": "blue.", "label": False}
PROMPT = {"prompt": "Snow is"}


@pytest.fixture
async def store(valkey: ValkeyProcess) -> AsyncIterator[FeedbackStore]:
    redis = connect_async(valkey.url)
    yield FeedbackStore(redis)
    await redis.aclose()


@pytest.fixture
def reader(valkey: ValkeyProcess) -> Iterator[FeedbackReader]:
    with connect(valkey.url) as redis:
        yield FeedbackReader(redis)


@pytest.fixture
def stats(valkey: ValkeyProcess) -> Iterator[Stats]:
    with connect(valkey.url) as redis:
        yield Stats(redis)


def entries(*records: dict, at: float = 1.0) -> list[Entry]:
    return [entry_of(parse(record), Origin("key-1", "a set", at)) for record in records]


async def test_lines_become_labels_and_prompts(store, reader, stats):
    assert await store.bring_in(entries(PAIR, THUMB, PROMPT)) == [False] * 3
    thumb, pair = reader.since(START, reader.cursor())
    assert isinstance(thumb.label, Rating)
    assert (thumb.label.rating, thumb.a.reply, thumb.label.source) == (Thumb.down, "blue.", "import")
    assert isinstance(pair.label, Comparison)
    assert pair.b is not None
    chosen = pair.a if pair.label.winner == "a" else pair.b
    assert (chosen.reply, pair.label.source) == ("blue.", "import")
    for completion in (thumb.a, pair.a, pair.b):
        assert completion.trainable
        assert (completion.policy, completion.finish_reason) == ("import", "stop")
        assert completion.metadata == {"import": "a set"}
    assert pair.a.conversation == pair.b.conversation != thumb.a.conversation
    assert {prompt.messages[0]["content"] for prompt in reader.prompts(10)} == {
        "The sky is",
        "Grass is",
        "Snow is",
    }
    assert stats.labels() == 2


async def test_the_same_lines_are_there_already(store, reader, stats, redis):
    await store.bring_in(entries(PAIR, THUMB))
    cursor = reader.cursor()
    again = entries(PROMPT, PAIR, THUMB, PROMPT, at=2.0)
    assert await store.bring_in(again) == [False, True, True, True], "the last one is in the batch twice"
    assert stats.labels() == 2
    assert reader.since(cursor, reader.cursor()) == []
    assert redis.xlen("tw:prompts") == 3
    assert redis.xlen("tw:events") == 2


async def test_imports_at_the_same_time_add_each_line_once(store, stats, redis):
    lines = [{**PAIR, "rejected": f"red {number}"} for number in range(50)]
    answers = await asyncio.gather(*(store.bring_in(entries(*lines)) for _ in range(4)))
    assert sum(not was for answer in answers for was in answer) == 50
    assert stats.labels() == 50
    assert redis.xlen("tw:events") == 50


async def test_a_dry_run_looks_and_writes_nothing(store, redis):
    await store.bring_in(entries(PAIR))
    keys = set(redis.keys("*"))
    assert await store.bring_in(entries(PAIR, THUMB, PROMPT), dry_run=True) == [True, False, False]
    assert set(redis.keys("*")) == keys
    assert await store.bring_in([]) == []


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_line_that_stands_twice_is_new_once(store, dry_run):
    lines = entries(THUMB, THUMB, PROMPT, PROMPT, PAIR, PAIR)
    assert await store.bring_in(lines, dry_run) == [False, True] * 3


async def test_imports_are_no_policy_version_even_when_people_judge_them(store, stats):
    """The counters are those of versions; who knows an imported reply's id may rate it all the same."""
    await store.bring_in(entries(PAIR))
    [entry] = entries(PAIR)
    one, two = (completion.id for completion in entry.completions)
    assert await store.rate(Rating(completion_id=one, rater="ann", rating=Thumb.up, created=1.0)) == "import"
    pair, winner = await store.pair_of(one, two)
    assert pair.id == entry.pair.id
    await store.compare(pair, Comparison(pair_id=pair.id, rater="ann", winner=winner, created=1.0))
    await store.withdraw(one, "ann")
    assert stats.policies() == {}
    assert stats.labels() == 2, "the thumb was withdrawn before an update saw it"


async def test_imported_replies_do_not_push_chats_out_of_the_newest(store, reader):
    await store.bring_in(entries(PAIR, THUMB))
    assert reader.recent(10) == []
    assert len(reader.prompts(1)) == 1
    assert reader.prompts(1)[0].messages[0]["content"] == "Grass is", "the newest first"


async def test_each_line_has_a_rater_of_its_own(store, reader):
    """Training caps what a rater weighs, and a file is not one person."""
    lines = [{**PAIR, "rejected": "red."}, PAIR, THUMB, {**THUMB, "label": True}]
    swapped = {**PAIR, "chosen": PAIR["rejected"], "rejected": PAIR["chosen"]}
    await store.bring_in(entries(*lines, swapped))
    found = reader.since(START, reader.cursor())
    assert len(found) == 5, "contradictions are two raters' words, on the same completions"
    assert len({label.label.rater for label in found}) == 5
    assert all(label.label.rater.startswith("import-") for label in found)


def test_identity_is_what_was_said_and_not_when_or_in_which_file():
    [one] = entries(PAIR)
    other = entry_of(parse({**PAIR, "margin": 0.5, "id": 3}), Origin("key-2", "another", 9.0))
    assert one.kind is other.kind is Kind.preference
    assert [c.id for c in one.completions] == [c.id for c in other.completions]
    assert one.label.rater == other.label.rater
