"""How strong versions are, from who beat whom: Bradley-Terry, with bootstrap intervals. Pure, no numpy.

P(i beats j) = s(θ_i - θ_j), s the logistic function. The likelihood is climbed by an MM algorithm (Hunter
2004, Ann. Stat. 32, 384-406); not by that paper's iteration, which takes hundreds of steps where versions met
only their neighbours, but by the quadratic bound of Böhning and Lindsay (1988, Ann. Inst. Stat. Math. 40,
641-663): as s' is at most 1/4,

    θ ← θ + B⁻¹ g,   g_i = Σ_j (w_ij - n_ij s(θ_i - θ_j)),   B = the Laplacian of n_ij / 4

never goes down. B is the same for each draw of the bootstrap, since the numbers of games n_ij are, so it is
inverted once. w_ij: how often i beat j; a tie is half a win for each, a `both_bad` no game. Each pair that
met is given half a win more on both sides, so that a version that never lost has a finite strength. A draw
plays the games again, each pair's by its share of wins (a binomial of n_ij).
"""

import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import exp, lgamma, log, sqrt
from operator import mul

from feedback.tally import Choices, PairOf

DRAWS = 200
ALMOST_SURE = 0.95
PRIOR = 0.5
ENOUGH = 1e-3  # step of a strength below which a draw's climb ends
CLOSE = 1e-5  # … and that of what is shown; a version that wins hundreds to none climbs slowly
MOST_STEPS = 5000
EXACT = 200  # games up to which a binomial is drawn exactly; of more, by its normal approximation

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


@lru_cache(maxsize=64)
def _strengths(games: Games) -> tuple[Strength, ...]:
    names = sorted({name for game in games for name in game[:2]})
    if not names:
        return ()
    place = {name: index for index, name in enumerate(names)}
    pairs = [(place[a], place[b], won + lost) for a, b, won, lost in games]
    climb = _Climb(len(names), pairs)
    found = climb([won for _, _, won, _ in games], [0.0] * len(names), CLOSE)
    dice = random.Random(0)
    # By the shares that are believed: by those that were seen, who won all games would always win all again.
    draws = [_Draw(won + lost, (won + PRIOR) / (won + lost + 2 * PRIOR), dice) for _, _, won, lost in games]
    sampled = [climb([draw() for draw in draws], found) for _ in range(DRAWS)]
    played = [sum(n for i, j, n in pairs if index in (i, j)) for index in range(len(names))]
    result = [
        Strength(name, found[i], _interval([thetas[i] for thetas in sampled]), round(played[i]))
        for i, name in enumerate(names)
    ]
    return tuple(sorted(result, key=lambda strength: -strength.value))


class _Climb:
    """From wins to strengths whose mean is zero, for one list of pairs (i, j, games)."""

    def __init__(self, count: int, pairs: Sequence[tuple[int, int, float]]) -> None:
        self._pairs = [(i, j, games + 2 * PRIOR) for i, j, games in pairs]
        bound = [[0.0] * count for _ in range(count)]
        for i, j, games in self._pairs:
            bound[i][i] += games / 4
            bound[j][j] += games / 4
            bound[i][j] -= games / 4
            bound[j][i] -= games / 4
        # The last one stays where it is: only differences matter.
        self._step = _inverse([row[:-1] for row in bound[:-1]])

    def __call__(self, wins: Sequence[float], start: Sequence[float], enough: float = ENOUGH) -> list[float]:
        thetas = list(start)
        games = [(i, j, n, won + PRIOR) for (i, j, n), won in zip(self._pairs, wins, strict=True)]
        for _ in range(MOST_STEPS):
            slope = [0.0] * len(thetas)
            for i, j, n, won in games:
                more = won - n / (1 + exp(thetas[j] - thetas[i]))
                slope[i] += more
                slope[j] -= more
            slope.pop()
            steps = [sum(map(mul, row, slope)) for row in self._step]
            for i, step in enumerate(steps):
                thetas[i] += step
            if max(map(abs, steps)) < enough:
                break
        mean = sum(thetas) / len(thetas)
        return [theta - mean for theta in thetas]


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """Of a positive definite matrix, by Gauss and Jordan."""
    size = len(matrix)
    rows = [[*row, *(float(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = rows[i][i]
        top = rows[i] = [value / pivot for value in rows[i]]
        for j in range(size):
            if j != i and (factor := rows[j][i]):
                rows[j] = [value - factor * above for value, above in zip(rows[j], top, strict=True)]
    return [row[size:] for row in rows]


def _interval(values: list[float]) -> tuple[float, float]:
    ranked = sorted(values)
    cut = round((1 - ALMOST_SURE) / 2 * len(ranked))
    return ranked[cut], ranked[-1 - cut]


class _Draw:
    """How often i would beat j in as many games again, by chance alone."""

    def __init__(self, games: float, share: float, dice: random.Random) -> None:
        self._games, self._share, self._dice = games, share, dice
        self._table = _cumulated(round(games), share) if games <= EXACT else None

    def __call__(self) -> float:
        if self._table is not None:
            return min(self._games, bisect_left(self._table, self._dice.random() * self._table[-1]))
        spread = sqrt(self._games * self._share * (1 - self._share))
        return min(self._games, max(0.0, self._dice.gauss(self._games * self._share, spread)))


def _cumulated(games: int, share: float) -> list[float]:
    """The binomial's distribution function at 0, 1, … games."""
    chances = (
        exp(
            lgamma(games + 1) - lgamma(k + 1) - lgamma(games - k + 1)
            + k * log(share) + (games - k) * log(1 - share)
        )
        for k in range(games + 1)
    )  # fmt: skip
    return list(accumulate(chances))


def _together(games: Sequence[tuple[str, str, float, float]]) -> Games:
    """The games of the largest group of versions that met each other, be it by way of others."""
    group: dict[str, set[str]] = {}
    for a, b, _, _ in games:
        joined = group.get(a, {a}) | group.get(b, {b})
        for name in joined:
            group[name] = joined
    largest = max(group.values(), key=len, default=set())
    return tuple(game for game in games if game[0] in largest)
