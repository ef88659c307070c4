"""The workers' side of feedback's Redis layout: what was said since a cursor, and before it. Sync."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis

from feedback import layout
from feedback.types import Comparison, Completion, Pair, Rating

START = "0-0"
PAGE = 1000
CHUNK = 32


@dataclass(frozen=True, slots=True)
class Said:
    """A label as it stands now: a rating with its completion, or a comparison with its two."""

    label: Rating | Comparison
    a: Completion
    b: Completion | None = None


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

    def before(self, cursor: str, count: int, seed: int) -> list[Said]:
        """At most about `count` labels given up to `cursor`, drawn at random places of the past.

        Costs the same however much was said: a few short ranges of the stream, never all of it.
        """
        oldest: Any = self._redis.xrange(layout.EVENTS, count=1)
        if not oldest or count <= 0 or cursor == START:
            return []
        if self._past(cursor) <= count:
            return self._resolve(self._events(START, cursor))
        first, last = _milliseconds(oldest[0][0]), _milliseconds(cursor)
        drawn: dict[str, dict[str, str]] = {}
        chance = random.Random(seed)
        for _ in range(4 * count // CHUNK + 1):
            if len(drawn) >= count:
                break
            place = chance.randint(first, last)
            drawn.update(self._range(f"{place}-0", cursor, CHUNK))
        return self._resolve(dict(sorted(drawn.items())).values())[:count]

    def recent(self, count: int) -> list[Completion]:
        """The newest logged completions, newest first."""
        entries: Any = self._redis.xrevrange(layout.COMPLETIONS, count=count)
        return list(self.completions(str(entry["id"]) for _, entry in entries).values())

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

    def _past(self, cursor: str) -> int:
        """How many events there are up to `cursor`, counted no further than a page."""
        counted: Any = self._redis.xrange(layout.EVENTS, max=cursor, count=PAGE)
        return len(counted) if len(counted) < PAGE else 1 << 62

    def _events(self, after: str, until: str) -> Iterator[dict[str, str]]:
        while True:
            page = self._range(f"({after}", until, PAGE)
            yield from page.values()
            if len(page) < PAGE:
                return
            after = next(reversed(page))

    def _range(self, first: str, last: str, count: int) -> dict[str, dict[str, str]]:
        entries: Any = self._redis.xrange(layout.EVENTS, min=first, max=last, count=count)
        return {str(entry_id): entry for entry_id, entry in entries}

    def _resolve(self, events: Iterable[dict[str, str]]) -> list[Said]:
        """From what was said to what holds now: a changed mind counts once, a withdrawn one not at all."""
        ratings: dict[tuple[str, str], None] = {}
        comparisons: dict[tuple[str, str], None] = {}
        for event in events:
            body = orjson.loads(event["body"])
            if event["kind"] == "comparison":
                comparisons[(body["pair_id"], body["rater"])] = None
            else:
                ratings[(body["completion_id"], body["rater"])] = None
        return [*self._ratings(list(ratings)), *self._comparisons(list(comparisons))]

    def _ratings(self, keys: list[tuple[str, str]]) -> Iterator[Said]:
        completions = self.completions(completion_id for completion_id, _ in keys)
        for body in self._hashes((layout.ratings_key(name), rater) for name, rater in keys):
            if body is not None:
                rating = Rating.model_validate_json(body)
                if rating.completion_id in completions:
                    yield Said(rating, completions[rating.completion_id])

    def _comparisons(self, keys: list[tuple[str, str]]) -> Iterator[Said]:
        pair_ids = list(dict.fromkeys(pair_id for pair_id, _ in keys))
        bodies = self._hashes((layout.pair_key(pair_id), "body") for pair_id in pair_ids)
        found = [Pair.model_validate_json(body) for body in bodies if body is not None]
        pairs = {pair.id: pair for pair in found}
        completions = self.completions(side for pair in found for side in (pair.a, pair.b))
        for body in self._hashes((layout.comparisons_key(name), rater) for name, rater in keys):
            if body is None:
                continue
            comparison = Comparison.model_validate_json(body)
            pair = pairs.get(comparison.pair_id)
            if pair and pair.a in completions and pair.b in completions:
                yield Said(comparison, completions[pair.a], completions[pair.b])

    def _hashes(self, places: Iterable[tuple[str, str]]) -> list[str | None]:
        with self._redis.pipeline(transaction=False) as pipe:
            for key, field in places:
                pipe.hget(key, field)
            return [None if value is None else str(value) for value in pipe.execute()]


def _milliseconds(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])
