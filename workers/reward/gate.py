"""Whether a reward model may replace the live one. Pure functions on numbers; no torch, no I/O."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers.gate import Verdict
from workers.reward.folds import units
from workers.statistics import Interval, bootstrap_interval

SURELY = 0.95  # one-sided: of what the holdout alone decides


@dataclass(frozen=True)
class RewardEvidence:
    """A reward model on a holdout, label by label. `losses`: log loss, nats; `chance`: that of one who knows
    how many thumbs are up, and nothing of the replies; `weights`: how much a label counts; `groups`: its
    conversation, whose labels stand or fall together."""

    losses: Sequence[float]
    chance: Sequence[float]
    weights: Sequence[float]
    groups: Sequence[str]


@dataclass(frozen=True)
class Gain:
    """How much less a reward model is surprised than another, nats a label, and the interval that decides.
    Where there is but one conversation, its labels were drawn one by one for it."""

    mean: float
    interval: Interval
    new: float
    old: float
    labels: int
    conversations: int


def paired_gain(new: RewardEvidence, old: RewardEvidence | None, confidence: float) -> Gain | None:
    """The weighted mean of what each label's loss fell by, against `old` or else against chance. None with
    fewer than two labels, which tell nothing.

    Paired: both see the same labels, so what makes a label hard falls out. The interval is a bootstrap over
    conversations (workers.reward.folds.units), whose lower end the true gain is above with the probability
    `confidence`.
    """
    if len(new.losses) < 2:
        return None
    theirs = new.chance if old is None else old.losses
    weights, losses, before = (np.asarray(row, dtype=np.float64) for row in (new.weights, new.losses, theirs))
    group = units(new.groups)
    mass = np.bincount(group, weights)
    gains = np.bincount(group, weights * (before - losses)) / mass
    return Gain(
        mean=float((gains * mass).sum() / mass.sum()),
        interval=bootstrap_interval(gains.tolist(), 2 * confidence - 1, weights=mass.tolist()),
        new=float((weights * losses).sum() / mass.sum()),
        old=float((weights * before).sum() / mass.sum()),
        labels=len(losses),
        conversations=len(set(new.groups)),
    )


def judge_reward(gain: Gain | None, first: bool, confidence: float, holdout: Gain | None = None) -> Verdict:
    """Accept a reward model that predicts the same unseen labels better than the one it replaces; a first
    one, than chance. `holdout`: the gain on those of them that nobody learns from, which have a veto: it may
    not be surely worse there (`SURELY`).

    By log loss, which moves with every label, in a one-sided paired test: the gain has to lie above 0 with
    the probability `confidence`. What is refused costs little: the labels stay new, and the next job has
    more. What is accepted wrongly costs little too, as it is no worse by more than the noise. So the level
    that suits is far below the usual 95 %, at which no model would follow another before there are thousands
    of labels.
    """
    what = "chance" if first else "the live one"
    if gain is None:
        if first:
            return Verdict(
                True, ["there are no two labels yet that its members did not learn from: accepted untested"]
            )
        return Verdict(False, ["there are no two unseen labels to compare with the live one on: it stays"])
    said = f"log loss {gain.new:.3f} against {gain.old:.3f} of {what} on {gain.labels} unseen labels"
    if gain.conversations == 1:
        said += " of one conversation, each taken for itself"
    if not math.isfinite(gain.mean):
        return Verdict(False, ["a reward is not finite"])
    if gain.mean <= 0:
        return Verdict(False, [f"not better than {what}: {said}"])
    if gain.interval[0] <= 0:
        return Verdict(
            False, [f"not surely better than {what}: {said}, which is too little at {confidence:.0%}"]
        )
    if holdout is not None and holdout.interval[1] < 0:
        return Verdict(
            False,
            [
                f"surely worse than {what} on the holdout alone: log loss {holdout.new:.3f} against "
                f"{holdout.old:.3f} on its {holdout.labels} labels"
            ],
        )
    return Verdict(True, [said])


def telling(holdout: Gain | None, wide: Gain | None) -> Gain | None:
    """Which comparison of two judges decides: the holdout's, with its interval at `SURELY`, where it is sure
    either way and of more than one conversation; else the `wide` one, on the holdout and the members' labels,
    from which no judge learns what is good. None where there is no holdout.

    Together they are three to four times as many. With a quarter of all labels wrong, a judge of 80 labels
    that told no better from worse was kept against three that learnt from more, by 0.0002 to 0.011 nats on 80
    to 136 held-out labels. How far the new one's adapter is believed (workers.reward.shrinkage) and how wide
    its looks spread was chosen with these labels too, which favours it a little.
    """
    if holdout is None:
        return None
    sure = holdout.conversations > 1 and (holdout.interval[0] > 0 or holdout.interval[1] < 0)
    return holdout if sure else wide


def judge_follows(gain: Gain | None, first: bool, with_members: bool) -> bool:
    """Whether a new judge takes the place of the live one, by the gain that is `telling`: of two the less
    surprised one. `with_members`: with members that are accepted; alone it has to be surely better, as they
    have, and cannot be the first. A first one has nothing to follow."""
    if first or gain is None:
        return with_members
    return gain.mean > 0 and (with_members or gain.interval[0] > 0)


def auroc(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """P(a positive scores above a negative), ties half (Mann and Whitney). None unless there are both."""
    positive = [score for score, label in zip(scores, labels, strict=True) if label]
    negative = [score for score, label in zip(scores, labels, strict=True) if not label]
    if not positive or not negative:
        return None
    return float(np.mean([(p > q) + 0.5 * (p == q) for p in positive for q in negative]))


@dataclass(frozen=True)
class Bin:
    """Of labels for which about the same was said: the mean of what was said, the share that happened."""

    said: float
    happened: float
    count: int


def reliability(said: Sequence[float], happened: Sequence[float], bins: int = 5) -> list[Bin]:
    """Bins of equal width between 0 and 1, those that hold anything."""
    probabilities, outcomes = np.asarray(said), np.asarray(happened)
    bin_of = np.minimum((probabilities * bins).astype(int), bins - 1)
    return [
        Bin(float(probabilities[own].mean()), float(outcomes[own].mean()), int(own.sum()))
        for own in (bin_of == number for number in range(bins))
        if own.any()
    ]


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """Expected calibration error: mean |said - happened| over bins, weighted by size (arXiv 1706.04599)."""
    total = sum(found.count for found in bins)
    return sum(abs(found.said - found.happened) * found.count for found in bins) / total if total else None
