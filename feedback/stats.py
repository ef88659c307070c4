"""Counters as the dashboards draw them. Sync: a look costs the same at any number of ratings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from redis import Redis

from feedback import layout
from feedback.filters import EVERYTHING, Filter, Window
from feedback.tally import Counts, Tally, tally

MOST_RATERS = 10
PEOPLE = Filter(source="human")


@dataclass(frozen=True, slots=True)
class Loudest:
    """(rater, labels), the most first; and the labels of all raters. `raters` is empty where it is forgotten
    who gave them."""

    raters: list[tuple[str, int]]
    labels: int

    @property
    def share(self) -> float | None:
        named = self.raters and self.labels
        return sum(labels for _, labels in self.raters) / self.labels if named else None


class Stats:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def labels(self) -> int:
        """Labels ever given."""
        return int(self._redis.get(layout.LABELS) or 0)

    def tags(self) -> list[str]:
        """The tags that have counters of their own."""
        return sorted(str(tag) for tag in self._redis.smembers(layout.TAGS))

    def policies(self) -> dict[str, Counts]:
        """Totals by policy version, since ever."""
        return versions(self.total())

    def total(self, only: Filter = EVERYTHING) -> Tally:
        """What all that stands comes to."""
        return tally(self._hashes([layout.totals_key(only.tag)]), only)

    def totals_by_tag(self) -> dict[str, Tally]:
        tags = self.tags()
        found = self._hashes([layout.totals_key(tag) for tag in tags])
        return {tag: tally([counters]) for tag, counters in zip(tags, found, strict=True)}

    def hours(self, policy: str, since: float, until: float) -> list[tuple[int, Counts]]:
        """(Unix second at which the hour starts, counters) for each hour of [since, until)."""
        starts = range(int(since - since % layout.HOUR), ceil(until), layout.HOUR)
        found = self._hashes([layout.hour_key(start) for start in starts])
        return _of_policy(policy, starts, found)

    def days(self, policy: str, since: float, until: float) -> list[tuple[int, Counts]]:
        """The same by UTC days."""
        starts = range(int(since - since % layout.DAY), ceil(until), layout.DAY)
        found = self._hashes([layout.day_key(start) for start in starts])
        return _of_policy(policy, starts, found)

    def counters(self, window: Window, tag: str | None) -> dict[int, Mapping[str, str]]:
        """The raw counters of each hour or day of a window, by its start."""
        key = layout.hour_key if window.unit == "hour" else layout.day_key
        starts = window.starts()
        return dict(zip(starts, self._hashes([key(start, tag) for start in starts]), strict=True))

    def loudest(self, days: Sequence[int] | None = None) -> Loudest:
        """Who gave the most labels; since ever, or on some UTC days. Whatever the versions and tags.

        Of each day the first 2 · MOST_RATERS are looked at, so of many days it is at least so many.
        """
        keys = [layout.RATERS] if days is None else [layout.raters_key(day) for day in days]
        with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.zrevrange(key, 0, 2 * MOST_RATERS - 1, withscores=True)
            found: list[list[tuple[str, float]]] = pipe.execute()
        sums: Counter[str] = Counter()
        for day in found:
            for rater, labels in day:
                sums[rater] += int(labels)
        ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:MOST_RATERS]
        counted = [layout.TOTALS] if days is None else [layout.day_key(day) for day in days]
        return Loudest(ranked, tally(self._hashes(counted), PEOPLE).labels)

    def _hashes(self, keys: Sequence[str]) -> list[Mapping[str, str]]:
        with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            found: list[Mapping[str, str]] = pipe.execute()
        return found


def versions(found: Tally) -> dict[str, Counts]:
    """By version of ours, oldest first."""
    ours = [policy for policy in found.policies if policy != layout.IMPORTED]
    return {policy: found.policies[policy] for policy in sorted(ours, key=age_of)}


def _of_policy(
    policy: str, starts: Sequence[int], found: Sequence[Mapping[str, str]]
) -> list[tuple[int, Counts]]:
    only = Filter(versions=frozenset([policy]))
    sums = [tally([counters], only).policies for counters in found]
    return [(start, by_policy.get(policy, Counts())) for start, by_policy in zip(starts, sums, strict=True)]


def age_of(policy: str) -> tuple[int, str]:
    """The order of versions: by number; what has none, first."""
    number = policy.rpartition("-v")[2]
    return (int(number) if number.isdecimal() else -1, policy)
