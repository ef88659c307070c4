"""From a figure down to what was said: a completion's ratings, a pair with both its replies. Sync."""

from typing import Any

from redis import Redis

from feedback import layout
from feedback.errors import UnknownCompletion, UnknownPair
from feedback.figures import Json
from feedback.reader import FeedbackReader
from feedback.types import Comparison, Pair, Rating

MOST_SHOWN = 100


class Conversations:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._reader = FeedbackReader(redis)

    def ratings(self, completion_id: str) -> Json:
        """Who said what of a completion, the newest first; of very many, some. Raises UnknownCompletion."""
        if not self._redis.exists(layout.completion_key(completion_id)):
            raise UnknownCompletion(f"There is no completion {completion_id!r}.", "completion_id")
        found = [Rating.model_validate_json(body) for body in self._some(layout.ratings_key(completion_id))]
        return _newest_first(found)

    def pair(self, pair_id: str) -> Json:
        """A pair, its replies where they are logged, and what was chosen. Raises UnknownPair."""
        body: Any = self._redis.hget(layout.pair_key(pair_id), "body")
        found = [Comparison.model_validate_json(said) for said in self._some(layout.comparisons_key(pair_id))]
        # One that waits for its answer is shown to nobody: its versions are hidden until then.
        if body is None or not found:
            raise UnknownPair(f"There is no answered pair {pair_id!r}.", "pair_id")
        pair = Pair.model_validate_json(body)
        replies = self._reader.completions([pair.a, pair.b])
        sides = {
            side: replies[reply].model_dump(mode="json") if reply in replies else None
            for side, reply in (("a", pair.a), ("b", pair.b))
        }
        blind = pair.expires is not None
        return {"id": pair.id, "created": pair.created, "blind": blind, **sides, **_newest_first(found)}

    def _some(self, key: str) -> list[str]:
        """The values of a hash, of a large one the first page."""
        found: Any = self._redis.hscan(key, count=MOST_SHOWN)[1]
        return [str(value) for value in found.values()]


def _newest_first(found: list[Rating] | list[Comparison]) -> Json:
    ordered = sorted(found, key=lambda label: -label.created)[:MOST_SHOWN]
    return {"data": [label.model_dump(mode="json") for label in ordered]}
