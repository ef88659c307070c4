"""What a reward model is worth on held-out labels: the figures of metrics.json. No torch.

Rewards come as (replies,), the `a` of each label and then the `b` of the comparisons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from workers.labels import Label
from workers.reward.folds import folds, units
from workers.reward.gate import RewardEvidence, auroc, calibration_error, reliability
from workers.reward.thumb_scale import ThumbScale
from workers.statistics import wilson_interval

SCALES = (0.0, *(2.0**power for power in range(-6, 3)))
SHIFTS = (0.0, *(side * step / 10 for step in range(1, 16) for side in (1, -1)))  # logits of a thumb up
FOLDS = 5
_RIDGE = 1.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Version:
    """A reward version on the holdout: `rewards` (replies,) and what a thumb up takes, by each adapter."""

    members: list[str]
    rewards: Mapping[str, Floats]
    thumbs: Mapping[str, ThumbScale]

    def logits(self, holdout: Sequence[Label], names: Sequence[str]) -> Floats:
        """The mean of what some adapters say of each label."""
        said = [logits_of(holdout, self.rewards[name], self.thumbs[name]) for name in names]
        mean: Floats = np.mean(said, 0)
        return mean

    def with_those_of(self, other: "Version", names: Sequence[str]) -> "Version":
        """This version, but some adapters are the other's, as far as that has them."""
        theirs = [name for name in names if name in other.rewards]
        rewards = {**self.rewards, **{name: other.rewards[name] for name in theirs}}
        return Version(self.members, rewards, {**self.thumbs, **{n: other.thumbs[n] for n in theirs}})


def gaps(labels: Sequence[Label], rewards: Floats) -> Floats:
    """(labels,): r_a - r_b of a comparison, r of a thumb."""
    n = len(labels)
    second = np.zeros(n)
    second[_pairs(labels)] = rewards[n:]
    difference: Floats = rewards[:n] - second
    return difference


def logits_of(labels: Sequence[Label], rewards: Floats, scale: ThumbScale) -> Floats:
    """(labels,): the logit of a better than b, or of a thumb up."""
    found = gaps(labels, rewards)
    logits: Floats = np.where(_pairs(labels), found, scale.a * found + scale.b)
    return logits


def measure(
    labels: Sequence[Label], logits: Floats, base_rate: float
) -> tuple[RewardEvidence, dict[str, Any]]:
    """How well logits predict labels. Ties count for the loss and the calibration, not for the accuracy.

    `base_rate`: the logit of a thumb up that one would say who does not see the reply. The losses that decide
    are those at the best of a few scales of what is said beyond that, and of a few shifts of the base rate,
    since what is done with a reward depends on neither: a model that ranks well is not a worse one for being
    too sure, nor for raters being more lenient here than where it learnt. Chance has its shift too, with the
    same prior of one logit, and what is said of all thumbs alike is taken out, else it were a second one.
    Scale and shift of each label are the best for the other folds: picked on the label itself, among them
    scale 0, which says what chance says, rewards at random would come out better than chance. Losses are
    weighed as labels are; shares count each label once.
    """
    target = np.array([label.target for label in labels])
    weights = np.array([label.weight for label in labels])
    pairs = _pairs(labels)
    blind = np.where(pairs, 0.0, base_rate)
    beyond = logits - blind
    beyond -= ~pairs * float((weights * ~pairs) @ beyond) / max(float(weights @ ~pairs), 1e-9)
    conversations = [label.conversation for label in labels]
    fold = folds(units(conversations), FOLDS, seed=0)

    def at_best(scales: Sequence[float]) -> Floats:
        """(labels,): the losses at the scale and shift that suit the other folds."""
        tried = [(scale, shift) for scale in scales for shift in SHIFTS]
        said = [blind + scale * beyond + shift * ~pairs for scale, shift in tried]
        prior = np.array([shift**2 / 2 for _, shift in tried])
        return _cross_fitted(np.stack([log_loss(each, target) for each in said]), weights, prior, fold)

    losses, chance = at_best(SCALES), at_best(SCALES[:1])
    evidence = RewardEvidence(losses.tolist(), chance.tolist(), weights.tolist(), conversations)
    bins = reliability((1 / (1 + np.exp(-logits))).tolist(), target.tolist())
    return evidence, accuracy(labels, logits) | {
        "ece": calibration_error(bins),
        "reliability": [vars(found) for found in bins],
        "log_loss": _mean(log_loss(logits, target), weights),
        "log_loss_scaled": _mean(losses, weights),
        "log_loss_chance": _mean(chance, weights),
    }


def accuracy(labels: Sequence[Label], logits: Floats) -> dict[str, Any]:
    """Which share of the pairs is ordered as people did (95 % interval: Wilson's), and the thumbs' AUROC.
    Equal rewards are half right in both."""
    decided = [
        (said, label) for said, label in zip(logits.tolist(), labels, strict=True) if label.target != 0.5
    ]
    won = [_ordered(said, label.target > 0.5) for said, label in decided if label.kind == "comparison"]
    thumbs = [(said, label.target > 0.5) for said, label in decided if label.kind == "thumb"]
    return {
        "pair_accuracy": sum(won) / len(won) if won else None,
        "pair_accuracy_interval": list(wilson_interval(sum(won), len(won))),
        "pairs": len(won),
        "thumb_auroc": auroc([said for said, _ in thumbs], [up for _, up in thumbs]),
        "thumbs": len(thumbs),
    }


def _ordered(said: float, first: bool) -> float:
    return 0.5 if said == 0 else float((said > 0) == first)


def on_policy(labels: Sequence[Label], logits: Floats, policy: str | None) -> dict[str, Any] | None:
    """`accuracy` on one policy version's own replies, if one is named: of a comparison it wrote both, and a
    correction is a person's."""
    if policy is None:
        return None
    own = [label.policy == policy and (label.kind == "thumb" or label.b_policy == policy) for label in labels]
    mine = [label for label, is_own in zip(labels, own, strict=True) if is_own]
    return {"policy": policy} | accuracy(mine, logits[np.array(own, dtype=bool)])


def agreement(labels: Sequence[Label], members: Sequence[Floats]) -> dict[str, float | None]:
    """`same_order`: the share of the pairs that all members order alike; `correlation`: of two members'
    rewards, on average. None where there is one member, or nothing to compare."""
    if len(members) < 2 or not labels:
        return {"same_order": None, "correlation": None}
    signs = np.sign([gaps(labels, rewards)[_pairs(labels)] for rewards in members])
    same = (signs == signs[0]).all(0)
    varied = [rewards for rewards in members if rewards.std() > 0]
    found = [float(np.corrcoef(one, other)[0, 1]) for one, other in combinations(varied, 2)]
    return {
        "same_order": float(same.mean()) if len(same) else None,
        "correlation": float(np.mean(found)) if found else None,
    }


def base_rate(labels: Sequence[Label]) -> float:
    """The logit of a thumb up among `labels`, with one more of either kind; 0 where there is none."""
    thumbs = [(label.weight, label.target) for label in labels if label.kind == "thumb"]
    up = 1.0 + sum(weight * target for weight, target in thumbs)
    down = 1.0 + sum(weight * (1 - target) for weight, target in thumbs)
    return float(np.log(up / down))


def length_only(train: Sequence[Label], holdout: Sequence[Label]) -> dict[str, Any]:
    """`accuracy` on the holdout of the best that can be said from lengths alone: a logistic regression on
    words and on their logarithm, fitted to the training labels of both kinds.

    What a reward model has more than this, it has from the words. Of the two together the top may lie
    anywhere, so a taste for some length is caught too.
    """
    if not train or not holdout:
        return accuracy(holdout, np.zeros(len(holdout)))
    mean, spread = _words(train).mean(0), _words(train).std(0) + 1e-9
    known = _design(train, mean, spread)
    target = np.array([label.target for label in train])
    weights = np.array([label.weight for label in train])

    def objective(w: Floats) -> float:
        return float((weights * log_loss(known @ w, target)).sum() + _RIDGE / 2 * (w @ w))

    w = minimize(objective, np.zeros(known.shape[1]), method="L-BFGS-B").x
    return accuracy(holdout, _design(holdout, mean, spread) @ w)


def _design(labels: Sequence[Label], mean: Floats, spread: Floats) -> Floats:
    """(labels, 3): the difference of the two replies' standardised lengths, or a thumb's and a constant."""
    scaled = (_words(labels) - mean) / spread
    rows = [gaps(labels, column) for column in scaled.T]
    return np.stack([*rows, 1.0 - _pairs(labels)], 1)


def _words(labels: Sequence[Label]) -> Floats:
    """(replies, 2): words, and the logarithm of one more."""
    replies = [label.a for label in labels] + [
        label.b or "" for label in labels if label.kind == "comparison"
    ]
    count = np.array([len(reply.split()) for reply in replies], dtype=np.float64)
    return np.stack([count, np.log1p(count)], 1)


def _pairs(labels: Sequence[Label]) -> NDArray[np.bool_]:
    return np.array([label.kind == "comparison" for label in labels], dtype=bool)


def log_loss(logits: Floats, target: Floats) -> Floats:
    """Cross-entropy in nats, label by label."""
    loss: Floats = np.logaddexp(0.0, -logits) * target + np.logaddexp(0.0, logits) * (1 - target)
    return loss


def _cross_fitted(losses: Floats, weights: Floats, prior: Floats, fold: NDArray[np.int64]) -> Floats:
    """(labels,): of (choices, labels) each label's loss by the choice that is best for the other folds, with
    its `prior` in nats, or by the first of equals."""
    weighed: Floats = weights * losses
    found: Floats = losses[0].copy()
    for left_out in np.unique(fold):
        best = int((weighed[:, fold != left_out].sum(1) + prior).argmin())
        found[fold == left_out] = losses[best, fold == left_out]
    return found


def _mean(values: Floats, weights: Floats) -> float | None:
    return float((values * weights).sum() / weights.sum()) if len(values) else None
