"""Whether a candidate may replace what is live. Pure functions on numbers; no torch, no I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    accepted: bool
    reasons: list[str] = field(default_factory=list)


def win_probabilities(
    candidate: Mapping[int, Sequence[float]], champion: Mapping[int, Sequence[float]]
) -> list[float]:
    """P(a reply of the candidate beats one of the champion), for each prompt that both answered; a tie is
    half a win."""
    return [
        float(
            np.mean(
                [
                    (mine > theirs) + 0.5 * (mine == theirs)
                    for mine in candidate[prompt]
                    for theirs in champion[prompt]
                ]
            )
        )
        for prompt in candidate
        if prompt in champion
    ]


def bootstrap_interval(
    values: Sequence[float], confidence: float, seed: int = 0, draws: int = 4000
) -> Interval:
    """Percentile interval of the mean of `values`, one a prompt: prompts are drawn again, the replies to one
    stay together.

    With few prompts the percentile interval is too narrow, so it is widened by sqrt(n / (n - 1)) about the
    mean. One value says nothing of its spread: (-inf, inf).
    """
    n = len(values)
    if n < 2:
        return (-math.inf, math.inf)
    data: NDArray[np.float64] = np.asarray(values)
    picks = np.random.default_rng(seed).integers(0, n, size=(draws, n))
    means = data[picks].mean(1)
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(means, [tail, 100 - tail])
    center, stretch = float(data.mean()), math.sqrt(n / (n - 1))
    return (center + (low - center) * stretch, center + (high - center) * stretch)


def wilson_interval(wins: float, n: int, z: float = 1.96) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927). No trials: (0, 1)."""
    if n == 0:
        return (0.0, 1.0)
    p, z2 = wins / n, z * z
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return (max(0.0, center - half), min(1.0, center + half))


def length_matched_win_rate(
    candidate: Mapping[int, Sequence[tuple[float, int]]],
    champion: Mapping[int, Sequence[tuple[float, int]]],
    tolerance: float = 0.25,
) -> tuple[float | None, int]:
    """Win rate over pairs of (score, length) whose lengths differ by at most `tolerance` of the longer, and
    their number.

    It tells a gain in what is said from a gain in how long it is. None where no pair matches.
    """
    wins = [
        (mine > theirs) + 0.5 * (mine == theirs)
        for prompt in candidate
        for mine, my_length in candidate[prompt]
        for theirs, their_length in champion.get(prompt, ())
        if abs(my_length - their_length) <= tolerance * max(my_length, their_length)
    ]
    return (float(np.mean(wins)) if wins else None, len(wins))


@dataclass(frozen=True)
class Evidence:
    """What `evaluate` measured. `win_rate_interval` is at the gate's confidence, two-sided."""

    win_rate: float
    win_rate_interval: Interval
    prompts: int
    kl_base: float
    empty: float
    repeated: float


def judge_candidate(
    evidence: Evidence, min_prompts: int, max_kl: float, max_repeated: float = 0.5
) -> Verdict:
    """Accept a candidate that the held-out judge prefers, and that is still a language model.

    Better: the win rate's lower end lies above ½. So an equal one passes as rarely as half of what the
    confidence leaves out. `kl_base`: nats a token. `empty` and `repeated`: shares of the replies that are
    blank, or that were given to another prompt as well.
    """
    low, high = evidence.win_rate_interval
    rate = (
        f"the held-out judge prefers it in {evidence.win_rate:.0%} [{low:.0%}, {high:.0%}]"
        f" of comparisons on {evidence.prompts} prompts"
    )
    faults = []
    if evidence.prompts < min_prompts:
        faults.append(f"only {evidence.prompts} held-out prompts were answered, {min_prompts} are needed")
    elif not all(map(math.isfinite, (evidence.win_rate, low, high, evidence.kl_base))):
        faults.append("a score or log-probability is not finite")
    elif low <= 0.5:
        faults.append(f"{rate}: not surely more than half")
    if evidence.kl_base > max_kl:
        faults.append(
            f"it is {evidence.kl_base:.2f} nats a token away from the base, {max_kl:.2f} are allowed"
        )
    if evidence.empty > max_repeated:
        faults.append(f"{evidence.empty:.0%} of its replies are empty")
    if evidence.repeated > max_repeated:
        faults.append(f"{evidence.repeated:.0%} of its replies are the same for different prompts")
    return Verdict(not faults, faults or [rate])


@dataclass(frozen=True)
class RewardEvidence:
    """A reward model on a holdout. `losses`: the log loss of each label, nats; pairs won and AUROC as in
    metrics.json."""

    losses: Sequence[float]
    pair_accuracy: float | None
    thumb_auroc: float | None


def judge_reward(new: RewardEvidence, old: RewardEvidence | None) -> Verdict:
    """Accept a reward model that predicts the same held-out labels better than the one it replaces; a first
    one, than chance.

    By mean log loss, which moves with every label. The holdout is small where labels are few, so the point
    decides, and the reasons say when it alone does not prove the difference.
    """
    n = len(new.losses)
    if n == 0:
        return (
            Verdict(True, ["there is no held-out label yet: accepted unseen"]) if old is None else _unseen()
        )
    theirs = [math.log(2)] * n if old is None else list(old.losses)
    gains = [before - after for before, after in zip(theirs, new.losses, strict=True)]
    gain, (low, _) = float(np.mean(gains)), bootstrap_interval(gains, 0.8)
    what = "chance" if old is None else "the live one"
    said = (
        f"log loss {np.mean(new.losses):.3f} against {np.mean(theirs):.3f} of {what} on {n} held-out labels"
    )
    if not math.isfinite(gain):
        return Verdict(False, ["a reward is not finite"])
    if gain <= 0:
        return Verdict(False, [f"not better than {what}: {said}"])
    if low <= 0:
        return Verdict(True, [f"{said}; so few labels do not prove it"])
    return Verdict(True, [said])


def _unseen() -> Verdict:
    return Verdict(False, ["there is no held-out label to compare with the live one: it stays"])


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """P(a positive scores above a negative), ties half (Mann and Whitney). None unless there are both."""
    positive = [score for score, label in zip(scores, labels, strict=True) if label]
    negative = [score for score, label in zip(scores, labels, strict=True) if not label]
    if not positive or not negative:
        return None
    return float(np.mean([(p > q) + 0.5 * (p == q) for p in positive for q in negative]))


def calibration_error(
    probabilities: Sequence[float], outcomes: Sequence[float], bins: int = 5
) -> float | None:
    """Expected calibration error: mean |said - happened| over equal-width bins, weighted by size (arXiv
    1706.04599)."""
    if not probabilities:
        return None
    said, happened = np.asarray(probabilities), np.asarray(outcomes)
    bin_of = np.minimum((said * bins).astype(int), bins - 1)
    gaps = [
        abs(said[bin_of == b].mean() - happened[bin_of == b].mean()) * (bin_of == b).sum()
        for b in range(bins)
        if (bin_of == b).any()
    ]
    return float(sum(gaps) / len(said))
