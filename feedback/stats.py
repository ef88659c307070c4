"""Counters as the dashboards draw them. Sync: a look costs the same at any number of ratings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

from redis import Redis
from redis.client import Pipeline

from feedback import layout
from feedback.filters import EVERYTHING, Filter, Window
from feedback.kept import Kept, Place
from feedback.sums import Sums
from feedback.tally import Counts, Heard, Tally, age_of, drawn, heard, tally

MOST_RATERS = 10
LOUDEST = (0, 2 * MOST_RATERS - 1)  # ranks that are looked at of each day


class Hash(dict[str, int]):
    """One of `layout`'s hashes of counters, field → count. Not to be changed."""

    _drawn: tuple[Filter, dict[str, int]] | None = None

    @cached_property
    def heard(self) -> Heard:
        return heard(self)

    def drawn(self, only: Filter) -> Mapping[str, int]:
        """Kept for the filter that was asked for last, since a page asks again and again."""
        kept = self._drawn
        if kept is None or kept[0] != only:
            kept = self._drawn = only, drawn(self, only)
        return kept[1]


Counters = Mapping[int, Hash]  # by the start of an hour or a day


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
        self._kept = Kept(redis)
        self._sums = Sums()

    def labels(self) -> int:
        """Labels ever given, less those that were withdrawn before an update saw them."""
        return int(self._redis.get(layout.LABELS) or 0)

    def tags(self) -> list[str]:
        """The tags that have counters of their own."""
        return sorted(str(tag) for tag in self._redis.smembers(layout.TAGS))

    def policies(self) -> dict[str, Counts]:
        """Totals by policy version, since ever."""
        return versions(self.total())

    def total(self, only: Filter = EVERYTHING) -> Tally:
        """What all that stands comes to."""
        return tally(self._hashes([layout.totals_key(only.tag)])[0], only)

    def heard(self) -> Heard:
        """Who was heard of since ever, and what of."""
        return self._hashes([layout.TOTALS])[0].heard

    def totals_by_tag(self) -> dict[str, Tally]:
        tags = self.tags()
        found = self._hashes([layout.totals_key(tag) for tag in tags])
        return {tag: tally(counters) for tag, counters in zip(tags, found, strict=True)}

    def hours(self, policy: str, since: float, until: float) -> list[tuple[int, Counts]]:
        """(Unix second at which the hour starts, counters) for each hour of [since, until)."""
        return _of_policy(policy, self._hours(range(_floor(since, layout.HOUR), ceil(until), layout.HOUR)))

    def days(self, policy: str, since: float, until: float) -> list[tuple[int, Counts]]:
        """The same by UTC days."""
        return _of_policy(policy, self._days(range(_floor(since, layout.DAY), ceil(until), layout.DAY)))

    def counters(self, window: Window, tag: str | None) -> Counters:
        """The counters of each hour or day of a window, by its start. Not to be changed."""
        return (self._hours if window.unit == "hour" else self._days)(window.starts(), tag)

    def within(self, window: Window, only: Filter, counters: Counters) -> Tally:
        """What the `counters` of a window and of the filter's tag come to together."""
        return tally(self._sums.of((window, only.tag), counters), only)

    def loudest(self, days: Sequence[int] | None = None) -> Loudest:
        """Who gave the most labels; since ever, or on some UTC days. Whatever the versions and tags.

        Of each day the first 2 · MOST_RATERS are looked at, so of many days it is at least so many.
        """
        if days is None:
            found = [_ranking(self._redis.zrevrange(layout.RATERS, *LOUDEST, withscores=True))]
            counted = self._hashes([layout.TOTALS])
        else:
            found = self._kept.values(
                [Place(layout.raters_key(day), (day, layout.DAY), _rank, _ranking) for day in days]
            )
            counted = list(self._days(days).values())
        sums: Counter[str] = Counter()
        for labels in found:
            sums.update(labels)
        ranked = sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:MOST_RATERS]
        return Loudest(ranked, sum(found.heard.human for found in counted))

    def _hours(self, starts: Sequence[int], tag: str | None = None) -> Counters:
        return self._counters({start: layout.hour_key(start, tag) for start in starts}, layout.HOUR)

    def _days(self, starts: Sequence[int], tag: str | None = None) -> Counters:
        return self._counters({start: layout.day_key(start, tag) for start in starts}, layout.DAY)

    def _counters(self, keys: Mapping[int, str], length: int) -> Counters:
        places = [Place(key, (start, length), _all, _numbers) for start, key in keys.items()]
        return dict(zip(keys, self._kept.values(places), strict=True))

    def _hashes(self, keys: Sequence[str]) -> list[Hash]:
        with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                _all(pipe, key)
            return [_numbers(found) for found in pipe.execute()]


def _all(pipe: "Pipeline", key: str) -> None:
    pipe.hgetall(key)


def _numbers(found: Mapping[str, str]) -> Hash:
    return Hash(zip(found, map(int, found.values()), strict=True))


def _rank(pipe: "Pipeline", key: str) -> None:
    pipe.zrevrange(key, *LOUDEST, withscores=True)


def _ranking(found: Any) -> Mapping[str, int]:
    return {rater: int(labels) for rater, labels in found}


def _floor(time: float, length: int) -> int:
    return int(time // length) * length


def versions(found: Tally) -> dict[str, Counts]:
    """By version of ours, oldest first."""
    ours = [policy for policy in found.policies if policy != layout.IMPORTED]
    return {policy: found.policies[policy] for policy in sorted(ours, key=age_of)}


def _of_policy(policy: str, counters: Counters) -> list[tuple[int, Counts]]:
    only = Filter(versions=frozenset([policy]))
    return [(start, tally(found, only).policies.get(policy, Counts())) for start, found in counters.items()]
