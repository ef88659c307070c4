"""Labels that stand, read in the order they were given, page by page: never all at once. Sync."""

from collections.abc import Iterator
from typing import Any, Literal

import orjson
from redis import Redis

from feedback import layout
from feedback.dashboard import Look
from feedback.export import csv_head, csv_line, json_line
from feedback.labels import places_of
from feedback.reader import FeedbackReader, Place, Said, place_of

PAGE = 200

Format = Literal["csv", "jsonl"]


class Download:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._reader = FeedbackReader(redis)

    def lines(self, look: Look, form: Format) -> Iterator[bytes]:
        if form == "csv":
            yield csv_head().encode()
        for page in self._pages(look):
            if form == "csv":
                yield "".join(csv_line(said) for said in page).encode()
            else:
                yield b"".join(json_line(said) for said in page)

    def _pages(self, look: Look) -> Iterator[list[Said]]:
        # A window goes back no further than its counters are read; labels have no such end.
        first = min(look.since or 0.0, look.window.first)
        after, last = places_of(first, look.window.end)
        while True:
            entries: Any = self._redis.xrange(layout.EVENTS, min=after, max=last, count=PAGE)
            if not entries:
                return
            after = f"({entries[-1][0]}"
            yield [said for said in self._standing(entries, look) if _between(said, first, look.window.end)]

    def _standing(self, entries: list[tuple[str, dict[str, str]]], look: Look) -> list[Said]:
        """What was said by these events and still stands as it was said there."""
        times: dict[Place, float] = {}
        for _, entry in entries:
            if entry["kind"] != "withdrawal":
                body = orjson.loads(entry["body"])
                times[place_of(entry["kind"], body)] = body["created"]
        taken = self._with_tag(list(times), look.only.tag)
        found = self._reader.standing(taken)
        return [
            found[place]
            for place in taken
            if place in found and found[place].label.created == times[place] and _takes(look, found[place])
        ]

    def _with_tag(self, places: list[Place], tag: str | None) -> list[Place]:
        """Those that count under a tag, if one is asked for."""
        if tag is None:
            return places
        with self._redis.pipeline(transaction=False) as pipe:
            for place in places:
                key = layout.completion_key if place.kind == "rating" else layout.pair_key
                pipe.hget(key(place.of), "tag")
            tags = pipe.execute()
        return [place for place, own in zip(places, tags, strict=True) if own == tag]


def _takes(look: Look, said: Said) -> bool:
    return any(look.only.takes(side.policy) for side in (said.a, said.b) if side is not None)


def _between(said: Said, first: float, end: float) -> bool:
    return first <= said.label.created < end
