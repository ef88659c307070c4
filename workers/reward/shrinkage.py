"""How much of an adapter to believe, by labels that it has not seen. No torch.

A judge of a hundred labels, some of them wrong, may have learnt little but what is wrong in them; what its
head says of the same replies, fitted at once, is then the better guess. So what its adapter adds counts
to the share at which the reward predicts best what others said: the smallest that is not worse by more than a
standard error (the one-standard-error rule: Breiman et al. 1984, Classification and Regression Trees, 3.4.3).
Few labels bear out little, so of a young judge it is mostly the head that speaks.
"""

from collections.abc import Sequence

import numpy as np

from workers.labels import Label
from workers.reward.folds import units
from workers.reward.report import Floats, log_loss, logits_of
from workers.reward.thumb_scale import ThumbScale

SHARES = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


def believed(labels: Sequence[Label], head: Floats, added: Floats, scale: ThumbScale) -> float:
    """Which of `SHARES` of `added` to add to `head`, both (replies,) as in workers.reward.report, by labels
    that neither was fitted to. All of it where fewer than two conversations could tell."""
    conversations = [label.conversation for label in labels]
    if len(set(conversations)) < 2:
        return 1.0
    group = units(conversations)
    target = np.array([label.target for label in labels])
    weights = np.array([label.weight for label in labels])

    def losses(share: float) -> Floats:
        """(conversations,): nats times weight."""
        said = log_loss(logits_of(labels, head + share * added, scale), target)
        summed: Floats = np.bincount(group, weights * said).astype(np.float64)
        return summed

    each = [losses(share) for share in SHARES]
    best = min(each, key=lambda found: float(found.sum()))
    for share, found in zip(SHARES, each, strict=True):
        worse = found - best
        if worse.sum() <= worse.std(ddof=1) * np.sqrt(len(worse)):
            return share
    return SHARES[-1]
