"""The audit log: who did what to the service, when, why, and what it changed.

tw:audit   stream  one entry per action, as JSON under `body`
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from redis import Redis

from serving.errors import BadRequest

AUDIT = "tw:audit"


@dataclass(frozen=True, slots=True)
class Action:
    """`who`: a key's name, or a part of the service. `before` and `after`: what it changed, if anything."""

    who: str
    what: str
    why: str | None
    before: Any = None
    after: Any = None

    def to_json(self) -> str:
        return orjson.dumps({**asdict(self), "when": time.time()}).decode()


class Audit:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def write(self, action: Action) -> None:
        self._redis.xadd(AUDIT, {"body": action.to_json()})

    def page(self, limit: int, after: str | None) -> tuple[list[dict[str, Any]], bool]:
        """The newest actions first, those older than `after`; and whether there are more."""
        newest = "+" if after is None else f"({_entry_id(after)}"
        entries: Any = self._redis.xrevrange(AUDIT, max=newest, count=limit + 1)
        actions = [{"id": str(entry_id), **orjson.loads(entry["body"])} for entry_id, entry in entries]
        return actions[:limit], len(actions) > limit

    def between(self, since: float, until: float, count: int) -> list[dict[str, Any]]:
        """At most `count` actions of [since, until] (Unix seconds), the newest first."""
        last, first = round(until * 1000), round(since * 1000)
        entries: Any = self._redis.xrevrange(AUDIT, max=last, min=first, count=count)
        return [{"id": str(entry_id), **orjson.loads(entry["body"])} for entry_id, entry in entries]


def _entry_id(text: str) -> str:
    """An id of the stream as it came from a page before. Raises BadRequest."""
    numbers = text.split("-")
    if len(numbers) != 2 or not all(n.isascii() and n.isdigit() and int(n) < 2**64 for n in numbers):
        raise BadRequest("`after` must be the `id` of an action in the page before.", "after")
    return text
