"""Labels, the newest first, with words or without: found in the events, read as they stand now. Sync.

A page costs the same however much was said, since it looks at MOST_READ events at most. Where few of those
are asked for, as with a rare tag, it is short, and says from where to look on.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis

from feedback import layout
from feedback.filters import Filter
from feedback.reader import Place, place_of

CHUNK = 100
MOST_READ = 500
SLACK = 3600.0  # seconds that a label's own time and its place in the events may lie apart

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """`rows`: newest first. `after`: what the next page comes after; None where there is none."""

    rows: list[Row]
    after: str | None


class Labels:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def newest(
        self,
        only: Filter,
        since: float,
        until: float,
        count: int,
        after: str | None = None,
        reason: str | None = None,
    ) -> Page:
        """At most `count` labels of [since, until) that the filter takes, those said before `after`; where a
        `reason` is given, of those that count under it."""
        takes = _takes if reason is None else self._given(reason)
        rows: list[Row] = []
        last = ""
        first, newest = places_of(since, until)
        before = newest if after is None else f"({after}"
        for _ in range(MOST_READ // CHUNK):
            entries: Any = self._redis.xrevrange(layout.EVENTS, max=before, min=first, count=CHUNK)
            for event, row in self._standing(entries):
                if not since <= row["created"] < until or not takes(only, row):
                    continue
                if len(rows) == count:
                    return Page(rows, last)
                rows.append(row)
                last = event
            if len(entries) < CHUNK:
                return Page(rows, None)
            before = f"({entries[-1][0]}"
        return Page(rows, before.removeprefix("("))

    def _given(self, reason: str) -> Callable[[Filter, Row], bool]:
        """Whether a filter takes a label that counts under a reason. Those of a decided comparison count for
        the chosen version alone; words that have no counters of their own are `other`."""
        other = reason == layout.OTHER
        counted = {str(word) for word in self._redis.smembers(layout.REASONS)} - {reason} if other else set()

        def takes(only: Filter, row: Row) -> bool:
            given = not counted.issuperset(row["reasons"]) if other else reason in row["reasons"]
            return given and _takes(only, row, chosen=True)

        return takes

    def _standing(self, entries: list[tuple[str, dict[str, str]]]) -> Iterator[tuple[str, Row]]:
        """What was said by these events and stands as it was said there, each with the event's id."""
        said: dict[Place, tuple[str, float]] = {}
        for event, entry in entries:
            if entry["kind"] != "withdrawal":
                body = orjson.loads(entry["body"])
                said.setdefault(place_of(entry["kind"], body), (event, body["created"]))
        for place, row in standing(self._redis, list(said)).items():
            event, created = said[place]
            if row["created"] == created:
                yield event, row


def standing(redis: "Redis", places: Sequence[Place]) -> dict[Place, Row]:
    """The label at each place as a JSON object, with `kind`, `tag` and, of a comparison, `policies`; of a
    rating, `policy`. Nothing where it was withdrawn."""
    with redis.pipeline(transaction=False) as pipe:
        for kind, of, rater in places:
            if kind == "rating":
                pipe.hget(layout.ratings_key(of), rater)
                pipe.hmget(layout.completion_key(of), "policy", "tag")
            else:
                pipe.hget(layout.comparisons_key(of), rater)
                pipe.hmget(layout.pair_key(of), "body", "tag")
        answers: list[Any] = pipe.execute()
    return {
        place: {"kind": place.kind, "tag": tag or None, **_where(place, where), **orjson.loads(label)}
        for place, label, (where, tag) in zip(places, answers[::2], answers[1::2], strict=True)
        if label is not None and where is not None
    }


def places_of(since: float, until: float) -> tuple[str, str]:
    """The first and the last place among the events of what was said in a stretch of time."""
    return _milliseconds(since - SLACK), _milliseconds(until + SLACK)


def _where(place: Place, where: str) -> Row:
    if place.kind == "rating":
        return {"policy": where}
    pair = orjson.loads(where)
    return {"policies": {"a": pair["policy_a"], "b": pair["policy_b"]}}


def _takes(only: Filter, row: Row, chosen: bool = False) -> bool:
    return only.tag in (None, row["tag"]) and any(only.takes(policy) for policy in _policies(row, chosen))


def _policies(row: Row, chosen: bool) -> Iterable[str]:
    """Whom a label is about: of a comparison both, or the chosen one alone, where one was."""
    if row["kind"] == "rating":
        return [row["policy"]]
    sides: dict[str, str] = row["policies"]
    return [sides[row["winner"]]] if chosen and row["winner"] in sides else sides.values()


def _milliseconds(seconds: float) -> str:
    return str(max(0, round(seconds * 1000)))
