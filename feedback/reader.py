"""The workers' side of feedback's Redis layout: what was said since a cursor, and before it. Sync."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import orjson
from redis import Redis

from feedback import layout
from feedback.types import Comparison, Completion, ImportedPrompt, Pair, Rating, Thumb

START = "0-0"
PAGE = 1000
CHUNK = 16  # events in one range of the past

Events = dict[str, dict[str, str]]  # id → entry, in order


class Place(NamedTuple):
    """Where a label is: `of` a completion (a rating) or a pair (a comparison), and whose it is."""

    kind: Literal["rating", "comparison"]
    of: str
    rater: str


@dataclass(frozen=True, slots=True)
class Said:
    """A label as it stands now: a rating with its completion, or a comparison with its two."""

    label: Rating | Comparison
    a: Completion
    b: Completion | None = None
    pair: Pair | None = None


class FeedbackReader:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def cursor(self) -> str:
        """The place after everything that was said so far."""
        newest: Any = self._redis.xrevrange(layout.EVENTS, count=1)
        return str(newest[0][0]) if newest else START

    def since(self, after: str, until: str) -> list[Said]:
        """Labels that were given or changed in (after, until], each once, as they stand now."""
        return self._resolve(self._events(after, until))

    def changed(self, after: str, until: str) -> list[Place]:
        """Where something was said, changed or withdrawn in (after, until], each once."""
        return _places(self._events(after, until))

    def standing(self, places: Sequence[Place]) -> dict[Place, Said]:
        """What stands there now. Nothing where it was withdrawn, or its completion is not logged yet."""
        ratings = self._ratings([place for place in places if place.kind == "rating"])
        comparisons = self._comparisons([place for place in places if place.kind == "comparison"])
        return dict([*ratings, *comparisons])

    def thumbs_before(self, cursor: str, count: int) -> dict[str, tuple[int, int]]:
        """rater → thumbs (up, down) among the `count` events up to `cursor`, as they stood there."""
        events: Any = self._redis.xrevrange(layout.EVENTS, max=cursor, count=count)
        last: dict[Place, str | None] = {}
        for _, event in events:
            if event["kind"] == "comparison":
                continue
            body = orjson.loads(event["body"])
            place = Place("rating", body["completion_id"], body["rater"])
            last.setdefault(place, body.get("rating"))
        found: dict[str, tuple[int, int]] = {}
        for place, rating in last.items():
            if rating is not None:
                up, down = found.get(place.rater, (0, 0))
                found[place.rater] = (up + 1, down) if rating == Thumb.up else (up, down + 1)
        return found

    def mark(self, labels: int, place: str) -> None:
        """Remember that `labels` had been given up to `place`, so that `before` can draw from them evenly."""
        self._redis.zadd(layout.MARKS, {place: labels})

    def before(self, cursor: str, count: int, seed: int) -> list[Said]:
        """At most about `count` labels given up to `cursor`, drawn evenly from all of the past.

        Costs the same however much was said: short ranges of the stream, never all of it. A stream can be
        entered at a time, not at a number, and at random times quiet periods come too often. So a number is
        drawn, and then a time between the two marks (of which each snapshot leaves one) that the number lies
        between. Only within a stretch between marks do quiet times come more often; where there is no mark,
        that is all of the past.
        """
        oldest: Any = self._redis.xrange(layout.EVENTS, count=1)
        if not oldest or count <= 0 or cursor == START:
            return []
        if self._past(cursor, count):
            return self._resolve(self._events(START, cursor))
        chance, drawn = random.Random(seed), dict[str, dict[str, str]]()
        places = self._places(str(oldest[0][0]), cursor, 2 * (count // CHUNK + 1), chance)
        for found in self._ranges(places, cursor):
            if len(drawn) >= count:
                break
            drawn.update(found)
        # The last range may be too much. Not the tail of the labels: those are the comparisons.
        kept = chance.sample(sorted(drawn), min(count, len(drawn)))
        return self._resolve(drawn[place] for place in sorted(kept))

    def recent(self, count: int) -> list[Completion]:
        """The newest logged completions, newest first."""
        entries: Any = self._redis.xrevrange(layout.COMPLETIONS, count=count)
        return list(self.completions(str(entry["id"]) for _, entry in entries).values())

    def prompts(self, count: int) -> list[ImportedPrompt]:
        """The newest imported prompts, newest first."""
        entries: Any = self._redis.xrevrange(layout.PROMPTS, count=count)
        keys = [layout.prompt_key(str(entry["messages"])) for _, entry in entries]
        found: Any = self._redis.mget(keys) if keys else []
        return [ImportedPrompt.model_validate_json(body) for body in found if body is not None]

    def completions(self, ids: Iterable[str]) -> dict[str, Completion]:
        """Those of the completions that are logged."""
        wanted = list(dict.fromkeys(ids))
        found = {}
        for start in range(0, len(wanted), PAGE):
            with self._redis.pipeline(transaction=False) as pipe:
                for completion_id in wanted[start : start + PAGE]:
                    pipe.hget(layout.completion_key(completion_id), "body")
                bodies = pipe.execute()
            for completion_id, body in zip(wanted[start : start + PAGE], bodies, strict=True):
                if body is not None:
                    found[completion_id] = Completion.model_validate_json(body)
        return found

    def _past(self, cursor: str, count: int) -> bool:
        """Whether there are no more than `count` events up to `cursor`."""
        counted: Any = self._redis.xrange(layout.EVENTS, max=cursor, count=count + 1)
        return len(counted) <= count

    def _places(self, oldest: str, cursor: str, count: int, chance: random.Random) -> list[str]:
        """Random places of the past, as evenly spread over its labels as the marks allow."""
        last: Any = self._redis.zscore(layout.MARKS, cursor) or 0
        numbers = [chance.random() * float(last) for _ in range(count)]
        with self._redis.pipeline(transaction=False) as pipe:
            for number in numbers:
                pipe.zrevrangebyscore(layout.MARKS, f"({number}", "-inf", start=0, num=1)
                pipe.zrangebyscore(layout.MARKS, number, "+inf", start=0, num=1)
            ends: list[Any] = pipe.execute()
        places = []
        for before, after in zip(ends[::2], ends[1::2], strict=True):
            low = _milliseconds(before[0] if last and before else oldest)
            high = _milliseconds(after[0] if last and after else cursor)
            # Many events share a millisecond where they were imported: begin somewhere among them.
            places.append(f"{chance.randint(low, max(low, high))}-{int(2 ** (10 * chance.random())) - 1}")
        return places

    def _events(self, after: str, until: str) -> Iterator[dict[str, str]]:
        while True:
            page = self._range(f"({after}", until, PAGE)
            yield from page.values()
            if len(page) < PAGE:
                return
            after = next(reversed(page))

    def _range(self, first: str, last: str, count: int) -> Events:
        entries: Any = self._redis.xrange(layout.EVENTS, min=first, max=last, count=count)
        return {str(entry_id): entry for entry_id, entry in entries}

    def _ranges(self, places: Sequence[str], last: str) -> Iterator[Events]:
        """The `CHUNK` events from each place on."""
        for start in range(0, len(places), PAGE):
            with self._redis.pipeline(transaction=False) as pipe:
                for place in places[start : start + PAGE]:
                    pipe.xrange(layout.EVENTS, min=place, max=last, count=CHUNK)
                replies: list[Any] = pipe.execute()
            for entries in replies:
                yield {str(entry_id): entry for entry_id, entry in entries}

    def _resolve(self, events: Iterable[dict[str, str]]) -> list[Said]:
        """From what was said to what holds now: a changed mind counts once, a withdrawn one not at all."""
        return list(self.standing(_places(events)).values())

    def _ratings(self, places: list[Place]) -> Iterator[tuple[Place, Said]]:
        completions = self.completions(place.of for place in places)
        bodies = self._hashes((layout.ratings_key(place.of), place.rater) for place in places)
        for place, body in zip(places, bodies, strict=True):
            if body is not None and place.of in completions:
                yield place, Said(Rating.model_validate_json(body), completions[place.of])

    def _comparisons(self, places: list[Place]) -> Iterator[tuple[Place, Said]]:
        pair_ids = list(dict.fromkeys(place.of for place in places))
        bodies = self._hashes((layout.pair_key(pair_id), "body") for pair_id in pair_ids)
        found = [Pair.model_validate_json(body) for body in bodies if body is not None]
        pairs = {pair.id: pair for pair in found}
        completions = self.completions(side for pair in found for side in (pair.a, pair.b))
        said = self._hashes((layout.comparisons_key(place.of), place.rater) for place in places)
        for place, body in zip(places, said, strict=True):
            pair = pairs.get(place.of)
            if body is None or pair is None:
                continue
            if pair.a in completions and pair.b in completions:
                comparison = Comparison.model_validate_json(body)
                yield place, Said(comparison, completions[pair.a], completions[pair.b], pair)

    def _hashes(self, places: Iterable[tuple[str, str]]) -> list[str | None]:
        wanted, found = list(places), []
        for start in range(0, len(wanted), PAGE):
            with self._redis.pipeline(transaction=False) as pipe:
                for key, field in wanted[start : start + PAGE]:
                    pipe.hget(key, field)
                found += [None if value is None else str(value) for value in pipe.execute()]
        return found


def place_of(kind: str, body: dict[str, Any]) -> Place:
    """Where the label is that an event tells of."""
    if kind == "comparison":
        return Place("comparison", body["pair_id"], body["rater"])
    return Place("rating", body["completion_id"], body["rater"])


def _places(events: Iterable[dict[str, str]]) -> list[Place]:
    """Ratings first."""
    ratings: dict[Place, None] = {}
    comparisons: dict[Place, None] = {}
    for event in events:
        place = place_of(event["kind"], orjson.loads(event["body"]))
        (comparisons if place.kind == "comparison" else ratings)[place] = None
    return [*ratings, *comparisons]


def _milliseconds(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])
