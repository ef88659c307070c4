"""The top of Bradley-Terry's likelihood, and of its bootstrap: of all draws at once. Pure; loads numpy.

P(i beats j) = s(θ_i - θ_j), s the logistic function. The likelihood is climbed by Newton's method,

    θ ← θ + t H⁻¹ g,   g_i = Σ_j (w_ij - n_ij s(θ_i - θ_j)),   H = the Laplacian of n_ij s'(θ_i - θ_j),

with w_ij: how often i beat j, n_ij: how often they met; t = ln(1 + d) / d, where d is the most that a whole
step would change any θ_i - θ_j of two that met. As |s''| ≤ s', such a step never goes down, from wherever
(Sun and Tran-Dinh 2019, Math. Program. 178, 145-213), and near the top it is a whole one. Each pair that met
is given half a win more on both sides, so that a version that never lost has a finite strength. A draw of the
bootstrap plays the games again, each pair's by its share of wins (a binomial of n_ij).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DRAWS = 200
ALMOST_SURE = 0.95
PRIOR = 0.5
# Of a strength: the step after which a climb ends. What is left is of the order of its square; of a draw it
# may be more, as draws lie much further apart.
CLOSE, CLOSE_OF_A_DRAW = 1e-3, 2e-2
MOST_STEPS = 100  # a dozen do where one wins thousands to none

Floats = NDArray[np.float64]


def strongest(
    pairs: Sequence[tuple[int, int]], played: Sequence[tuple[float, float]]
) -> tuple[list[float], list[tuple[float, float]]]:
    """The strengths θ, natural log odds whose mean is zero, and their intervals, of versions numbered from 0.

    `pairs`: who met, each two once; all have met, be it by way of others. `played`: the wins of either.
    """
    won, lost = np.array(played, dtype=float).T
    games = np.round(won + lost)
    signs = np.zeros((len(pairs), 1 + max(map(max, pairs))))
    for row, (i, j) in enumerate(pairs):
        signs[row, i], signs[row, j] = 1, -1
    found = _tops(signs, games, won[None], np.zeros((1, signs.shape[1])), CLOSE)
    # By the shares that are believed: by those that were seen, who won all games would always win all again.
    shares = (won + PRIOR) / (games + 2 * PRIOR)
    draws = np.random.default_rng(0).binomial(games.astype(int), shares, (DRAWS, len(pairs)))
    ranked = np.sort(_tops(signs, games, draws.astype(float), found, CLOSE_OF_A_DRAW), axis=0)
    cut = round((1 - ALMOST_SURE) / 2 * DRAWS)
    return found[0].tolist(), list(zip(ranked[cut].tolist(), ranked[-1 - cut].tolist(), strict=True))


def _tops(signs: Floats, games: Floats, wins: Floats, start: Floats, close: float) -> Floats:
    """θ [draws, versions] of `wins` [draws, pairs], of `games` [pairs]. `signs` [pairs, versions]: 1 for the
    first of a pair, -1 for the second. The last version's step is 0, since only differences matter."""
    free = signs[:, :-1]
    squares = (free[:, :, None] * free[:, None, :]).reshape(len(free), -1)
    thetas = np.broadcast_to(start, (len(wins), signs.shape[1])).copy()
    met = games + 2 * PRIOR
    for _ in range(MOST_STEPS):
        expected = 1 / (1 + np.exp(-thetas @ signs.T))
        slopes = (wins + PRIOR - met * expected) @ free
        bent = (met * expected * (1 - expected)) @ squares
        steps = np.linalg.solve(bent.reshape(-1, free.shape[1], free.shape[1]), slopes[:, :, None])[:, :, 0]
        most = np.abs(steps @ free.T).max(axis=1, keepdims=True)
        thetas[:, :-1] += steps * np.log1p(most) / np.maximum(most, 1e-12)
        if most.max() < close:
            break
    return np.asarray(thetas - thetas.mean(axis=1, keepdims=True))
