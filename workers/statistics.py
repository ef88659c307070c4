"""Intervals and win rates from numbers that were counted. Pure; no torch, no I/O."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

Interval = tuple[float, float]
Scores = Mapping[int, Sequence[float]]  # prompt → a score for each reply
Measured = Mapping[int, Sequence[tuple[float, int]]]  # prompt → (score, length in words) for each reply


def win_probabilities(candidate: Scores, champion: Scores) -> list[float]:
    """P(a reply of the candidate beats one of the champion), for each prompt that both answered; a tie is
    half a win."""
    return [
        float(np.mean([_win(mine, theirs) for mine in candidate[prompt] for theirs in champion[prompt]]))
        for prompt in candidate
        if prompt in champion
    ]


def length_matched_wins(
    candidate: Measured, champion: Measured, tolerance: float = 0.25
) -> list[list[float]]:
    """Wins, halves and losses over pairs whose lengths differ by at most `tolerance` of the longer, for each
    prompt that has such a pair.

    It tells a gain in what is said from a gain in how long it is.
    """
    groups = (
        [
            _win(mine, theirs)
            for mine, my_length in candidate[prompt]
            for theirs, their_length in champion.get(prompt, ())
            if abs(my_length - their_length) <= tolerance * max(my_length, their_length)
        ]
        for prompt in candidate
    )
    return [group for group in groups if group]


def length_matched_win_rate(
    candidate: Measured, champion: Measured, tolerance: float = 0.25
) -> tuple[float | None, int]:
    """Win rate over `length_matched_wins`, every pair counting the same, and the number of pairs. None where
    no pair matches."""
    wins = [win for group in length_matched_wins(candidate, champion, tolerance) for win in group]
    return (float(np.mean(wins)) if wins else None, len(wins))


def length_slope(sides: Iterable[Measured]) -> float:
    """By how much a score rises with the logarithm of a reply's words, among the replies of one side to one
    prompt: Σ(s - s̄)(l - l̄)/Σ(l - l̄)² over all of these groups. 0 where no group varies."""
    above = below = 0.0
    for group in (replies for side in sides for replies in side.values()):
        scores, lengths = np.array([score for score, _ in group]), _log_words(group)
        off = lengths - lengths.mean()
        above += float(off @ (scores - scores.mean()))
        below += float(off @ off)
    return above / below if below > 0 else 0.0


def without_length(side: Measured, slope: float) -> Measured:
    """The scores less what is due to length by a `length_slope`."""
    return {
        prompt: [
            (score - slope * float(length), words)
            for (score, words), length in zip(group, _log_words(group), strict=True)
        ]
        for prompt, group in side.items()
    }


def _log_words(group: Sequence[tuple[float, int]]) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.maximum([words for _, words in group], 1))
    return logs


def bootstrap_interval(
    values: Sequence[float],
    confidence: float,
    seed: int = 0,
    draws: int = 4000,
    weights: Sequence[float] | None = None,
) -> Interval:
    """Percentile interval of the (weighted) mean of `values`, one a prompt: prompts are drawn again, the
    replies to one stay together.

    With few prompts the percentile interval is too narrow, so it is widened about the mean by
    sqrt(n / (n - 1)) and by Student's t with n - 1 degrees of freedom over the normal quantile (Hesterberg
    2015, arXiv 1411.5279). One value says nothing of its spread: (-inf, inf).
    """
    n = len(values)
    if n < 2:
        return (-math.inf, math.inf)
    data: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    mass = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, n, size=(draws, n))
    means = (data * mass)[picks].sum(1) / mass[picks].sum(1)
    tail = (1 - confidence) / 2
    low, high = np.percentile(means, [100 * tail, 100 * (1 - tail)])
    center, stretch = float((data * mass).sum() / mass.sum()), _stretch(n, tail)
    return (center + (float(low) - center) * stretch, center + (float(high) - center) * stretch)


def share_interval(
    values: Sequence[float], confidence: float, seed: int = 0, weights: Sequence[float] | None = None
) -> Interval:
    """`bootstrap_interval` of shares in [0, 1], no surer than their number allows.

    Values that are all alike have no spread to draw again: four prompts all won would give (1, 1). So no end
    lies beyond that of n wins, or losses, in n trials (Clopper and Pearson 1934): low <= tail^(1/n), that is
    0.56 for n = 4 at 80 % and 0.32 at 98 %. Everything won is sure to be more than half only where 2^-n is
    within the tail.
    """
    low, high = bootstrap_interval(values, confidence, seed, weights=weights)
    if len(values) < 2:
        return (low, high)
    utmost = ((1 - confidence) / 2) ** (1 / len(values))
    return (min(low, utmost), max(high, 1 - utmost))


def wilson_interval(wins: float, n: int, z: float = 1.96) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927). No trials: (0, 1)."""
    if n == 0:
        return (0.0, 1.0)
    p, z2 = wins / n, z * z
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return (max(0.0, center - half), min(1.0, center + half))


def mantel_haenszel(strata: Sequence[tuple[int, int, int, int]]) -> float:
    """z of a change in the rate of passes over strata (passes, trials, passes before, trials before), each
    with its own rate (Mantel and Haenszel 1959, without correction of continuity).

    Negative where the rate fell. 0 where no stratum can tell: all passed, or none.
    """
    gap = variance = 0.0
    for passes, trials, passes_before, trials_before in strata:
        total, passed = trials + trials_before, passes + passes_before
        if trials and trials_before:
            gap += passes - trials * passed / total
            variance += trials * trials_before * passed * (total - passed) / (total**2 * (total - 1))
    return gap / math.sqrt(variance) if variance > 0 else 0.0


def _stretch(n: int, tail: float) -> float:
    """By what a percentile interval of n values is too narrow. Towards the median the quantiles are 0."""
    normal = float(ndtri(tail))
    t = float(stdtrit(n - 1, tail)) / normal if normal < -1e-6 else 1.0
    return math.sqrt(n / (n - 1)) * t


def _win(mine: float, theirs: float) -> float:
    return (mine > theirs) + 0.5 * (mine == theirs)
