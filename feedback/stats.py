"""Counters per policy version, as the dashboards draw them. Sync: costs the same at any number of ratings."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from redis import Redis

from feedback import layout


@dataclass(frozen=True, slots=True)
class Counts:
    completions: int = 0
    broken: int = 0
    tokens: int = 0
    up: int = 0
    down: int = 0
    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0

    @property
    def approval(self) -> float | None:
        """Share of thumbs that are up; None without thumbs."""
        thumbs = self.up + self.down
        return self.up / thumbs if thumbs else None

    def as_dict(self) -> dict[str, float | int | None]:
        return {**asdict(self), "approval": self.approval}


class Stats:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def labels(self) -> int:
        """Labels ever given."""
        return int(self._redis.get(layout.LABELS) or 0)

    def policies(self) -> dict[str, Counts]:
        """Totals by policy version."""
        seen = sorted((str(policy) for policy in self._redis.smembers(layout.SEEN)), key=_number)
        return dict(zip(seen, self._counts(layout.count_key(policy) for policy in seen), strict=True))

    def hours(self, policy: str, since: float, until: float) -> list[tuple[int, Counts]]:
        """(Unix second at which the hour starts, counters) for each hour of [since, until)."""
        first = int(since - since % 3600)
        hours = range(first, int(until) + 1, 3600)
        return list(zip(hours, self._counts(layout.count_key(policy, hour) for hour in hours), strict=True))

    def _counts(self, keys: Iterable[str]) -> list[Counts]:
        with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            found = pipe.execute()
        return [Counts(**{name: int(value) for name, value in fields.items()}) for fields in found]


def _number(policy: str) -> int:
    return int(policy.rpartition("-v")[2])
