"""How strong versions are, from who beat whom: Bradley-Terry, with bootstrap intervals. See `feedback.climb`.

A tie is half a win for each, a `both_bad` no game.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

from feedback.tally import Choices, PairOf

Games = tuple[tuple[str, str, float, float], ...]  # i, j, wins of i, wins of j


@dataclass(frozen=True, slots=True)
class Strength:
    """`value`: natural log odds against an average version of those compared; `games`: its comparisons that
    were decided or tied."""

    policy: str
    value: float
    interval: tuple[float, float]
    games: int


def strengths(cells: Mapping[PairOf, Choices]) -> list[Strength]:
    """The strongest first. Of versions that never met, even by way of others, those that most are among."""
    wins: dict[PairOf, float] = defaultdict(float)
    for (a, b), choices in cells.items():
        if a != b:
            wins[a, b] += choices.a + choices.tie / 2
            wins[b, a] += choices.b + choices.tie / 2
    games = [
        (a, b, wins[a, b], wins.get((b, a), 0.0))
        for a, b in sorted(wins)
        if a < b and wins[a, b] + wins.get((b, a), 0.0) > 0
    ]
    return list(_strengths(_together(games)))


def load_climb() -> ModuleType:
    """`feedback.climb`, which loads numpy: a gateway starts without it."""
    from feedback import climb  # noqa: PLC0415

    return climb


@lru_cache(maxsize=64)
def _strengths(games: Games) -> tuple[Strength, ...]:
    if not games:
        return ()
    names = sorted({name for game in games for name in game[:2]})
    place = {name: index for index, name in enumerate(names)}
    pairs = [(place[a], place[b]) for a, b, _, _ in games]
    found, intervals = load_climb().strongest(pairs, [(won, lost) for _, _, won, lost in games])
    played = [sum(won + lost for a, b, won, lost in games if name in (a, b)) for name in names]
    result = [Strength(*row) for row in zip(names, found, intervals, map(round, played), strict=True)]
    return tuple(sorted(result, key=lambda strength: -strength.value))


def _together(games: Sequence[tuple[str, str, float, float]]) -> Games:
    """The games of the largest group of versions that met each other, be it by way of others."""
    group: dict[str, set[str]] = {}
    for a, b, _, _ in games:
        joined = group.get(a, {a}) | group.get(b, {b})
        for name in joined:
            group[name] = joined
    largest = max(group.values(), key=len, default=set())
    return tuple(game for game in games if game[0] in largest)
