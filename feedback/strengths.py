"""How strong versions are, from who beat whom: Bradley-Terry, with bootstrap intervals. Pure, no numpy.

P(i beats j) = s(θ_i - θ_j), s the logistic function. The likelihood is climbed by Newton's method,

    θ ← θ + t H⁻¹ g,   g_i = Σ_j (w_ij - n_ij s(θ_i - θ_j)),   H = the Laplacian of n_ij s'(θ_i - θ_j),

with w_ij: how often i beat j, n_ij: how often they met; t = ln(1 + d) / d, where d is the most that a whole
step would change any θ_i - θ_j of two that met. As |s''| ≤ s', such a step never goes down, from wherever
(Sun and Tran-Dinh 2019, Math. Program. 178, 145-213), and near the top it is a whole one. A tie is half a win
for each, a `both_bad` no game. Each pair that met is given half a win more on both sides, so that a version
that never lost has a finite strength. A draw of the bootstrap plays the games again, each pair's by its share
of wins (a binomial of n_ij). Its top is mostly so near that the H of what was seen leads there too, in a few
steps that cost a fifth of Newton's.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import exp, lgamma, log, log1p, sqrt
from operator import mul

from feedback.tally import Choices, PairOf

DRAWS = 200
ALMOST_SURE = 0.95
PRIOR = 0.5
ENOUGH = 3e-3  # of a strength: how near to its top a draw's climb ends
CLOSE = 1e-5  # … and that of what is shown
MOST_STEPS = 100  # a dozen do where one wins thousands to none
SLACK = 0.3  # a pair's part of H differs in a draw by about its root, and too little of it goes too far
CLEARLY = 0.7  # of the step before: what a step that leads straight to the top is less than
EXACT = 200  # games up to which a binomial is drawn exactly; of more, by its normal approximation

_FACTORIALS = [lgamma(n + 1) for n in range(EXACT + 1)]  # their logarithms

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
    climb = _Climb(len(names), [(place[a], place[b], won + lost) for a, b, won, lost in games])
    found = climb.top([won for _, _, won, _ in games], [0.0] * len(names), CLOSE)
    dice = random.Random(0)
    # By the shares that are believed: by those that were seen, who won all games would always win all again.
    shares = [(won + lost, (won + PRIOR) / (won + lost + 2 * PRIOR)) for _, _, won, lost in games]
    draws = zip(*(_draws(played, share, dice) for played, share in shares), strict=True)
    sampled = climb.near(found, draws)
    played = [sum(won + lost for a, b, won, lost in games if name in (a, b)) for name in names]
    result = [
        Strength(name, found[i], _interval([thetas[i] for thetas in sampled]), round(played[i]))
        for i, name in enumerate(names)
    ]
    return tuple(sorted(result, key=lambda strength: -strength.value))


class _Climb:
    """From wins to strengths whose mean is zero, for one list of pairs (i, j, games)."""

    def __init__(self, count: int, pairs: Sequence[tuple[int, int, float]]) -> None:
        self._count = count
        self._pairs = [(i, j, games + 2 * PRIOR) for i, j, games in pairs]

    def top(self, wins: Sequence[float], start: Sequence[float], enough: float) -> list[float]:
        thetas = start
        for _ in range(MOST_STEPS):
            steps = [*_solved(self._bent(thetas), self._slope(thetas, wins)), 0.0]
            most = max(abs(steps[i] - steps[j]) for i, j, _ in self._pairs)
            part = log1p(most) / most if most else 1.0
            thetas = [theta + part * step for theta, step in zip(thetas, steps, strict=True)]
            if most * most < enough:  # what is left is of the order of a step's square
                break
        return _centred(thetas)

    def near(self, found: Sequence[float], draws: Iterable[Sequence[float]]) -> list[list[float]]:
        """The tops of some draws of wins, from the one that was found."""
        inverse = _inverse(self._bent(found, SLACK))
        return [self._near(found, inverse, wins) or self.top(wins, found, ENOUGH) for wins in draws]

    def _near(
        self, found: Sequence[float], inverse: list[list[float]], wins: Sequence[float]
    ) -> list[float] | None:
        """By the H of what was found; None where that does not lead straight to the top."""
        thetas, farthest = found, 1.0
        while True:
            slope = self._slope(thetas, wins)
            steps = [*(sum(map(mul, row, slope)) for row in inverse), 0.0]
            thetas = [theta + step for theta, step in zip(thetas, steps, strict=True)]
            most = (max(steps) - min(steps)) / 2
            if most < ENOUGH:
                return _centred(thetas)
            if most > farthest:
                return None
            farthest = CLEARLY * most

    def _slope(self, thetas: Sequence[float], wins: Sequence[float]) -> list[float]:
        """g, but of the last version: it stays where it is, since only differences matter."""
        slope = [0.0] * self._count
        powers = [exp(theta) for theta in thetas]
        for (i, j, games), won in zip(self._pairs, wins, strict=True):
            one = powers[i]
            more = won + PRIOR - games * one / (one + powers[j])
            slope[i] += more
            slope[j] -= more
        slope.pop()
        return slope

    def _bent(self, thetas: Sequence[float], slack: float = 0.0) -> list[list[float]]:
        """H without the last version; a pair's part is `slack` of its root more, up to what it can be."""
        bent = [[0.0] * self._count for _ in thetas]
        powers = [exp(theta) for theta in thetas]
        for i, j, games in self._pairs:
            one, other = powers[i], powers[j]
            weight = games * one * other / (one + other) ** 2
            weight = min(weight + slack * sqrt(weight), games / 4)
            bent[i][i] += weight
            bent[j][j] += weight
            bent[i][j] -= weight
            bent[j][i] -= weight
        return [row[:-1] for row in bent[:-1]]


def _centred(thetas: Sequence[float]) -> list[float]:
    mean = sum(thetas) / len(thetas)
    return [theta - mean for theta in thetas]


def _solved(matrix: list[list[float]], right: Sequence[float]) -> list[float]:
    """x of matrix · x = right, for a positive definite matrix, by Gauss."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    tops = []
    while rows:
        (pivot, *top), *rows = rows
        top = [value / pivot for value in top]
        tops.append(top)
        rows = [
            [value - factor * above for value, above in zip(row, top, strict=True)] for factor, *row in rows
        ]
    found: list[float] = []
    for top in reversed(tops):
        found.insert(0, top[-1] - sum(map(mul, top, found)))
    return found


def _inverse(matrix: list[list[float]]) -> list[list[float]]:
    """Of a positive definite matrix; it is symmetric."""
    size = range(len(matrix))
    return [_solved(matrix, [float(i == j) for j in size]) for i in size]


def _interval(values: list[float]) -> tuple[float, float]:
    ranked = sorted(values)
    cut = round((1 - ALMOST_SURE) / 2 * len(ranked))
    return ranked[cut], ranked[-1 - cut]


def _draws(games: float, share: float, dice: random.Random) -> list[float]:
    """How often i would beat j in as many games again, by chance alone: DRAWS times."""
    if games > EXACT:
        spread = sqrt(games * share * (1 - share))
        return [min(games, max(0.0, dice.gauss(games * share, spread))) for _ in range(DRAWS)]
    won = range(round(games) + 1)
    return list(map(float, dice.choices(won, cum_weights=_cumulated(round(games), share), k=DRAWS)))


def _cumulated(games: int, share: float) -> list[float]:
    """The binomial's distribution function at 0, 1, … games."""
    odds, none = log(share / (1 - share)), _FACTORIALS[games] + games * log(1 - share)
    chances = (exp(none - _FACTORIALS[k] - _FACTORIALS[games - k] + k * odds) for k in range(games + 1))
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
