"""What a thumb up takes besides a good reply: P(up) = s(a·r + b + u of the rater), s the sigmoid. Torch;
imported by stages only.

Parameters of training. Rewards stay r; a and b are kept with a version (workers.reward.thumb_scale), so that
one can say how likely a thumb up is.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from workers import objectives
from workers.labels import Label
from workers.reward.thumb_scale import OFFSET_SPREAD, ThumbScale

# Standard deviation of log a. Narrow, as a is fitted to the labels that r was fitted to: of those, an r that
# is shrunk says too little, which looks like a greater a.
SCALE_SPREAD = 0.2


class Thumbs(nn.Module):
    """a > 0, b and an offset for each of `raters`. It starts at what is known of a and b, with no offset."""

    def __init__(self, raters: Sequence[str], start: ThumbScale) -> None:
        super().__init__()
        self._number = {rater: number for number, rater in enumerate(sorted(set(raters)))}
        self.pre_a = nn.Parameter(torch.tensor(start.a).expm1().log())
        self.b = nn.Parameter(torch.tensor(start.b))
        self.u = nn.Parameter(torch.zeros(len(self._number)))

    @property
    def a(self) -> Tensor:
        return softplus(self.pre_a)

    @property
    def scale(self) -> ThumbScale:
        return ThumbScale(float(self.a.detach()), float(self.b.detach()))

    def raters(self, labels: Sequence[Label]) -> Tensor:
        """(n,): the number of each label's rater; KeyError for one that is not known."""
        return torch.tensor([self._number[label.rater] for label in labels], dtype=torch.long)

    def loss(self, r: Tensor, y: Tensor, raters: Tensor, smoothing: float) -> Tensor:
        """Each thumb's loss in nats, (n,)."""
        return objectives.thumb_logistic(r, y, self.a, self.b, self.u[raters], smoothing)

    def prior(self) -> Tensor:
        """Of all parameters, in nats: to be counted once, beside the sum of all labels' losses."""
        offsets = objectives.offset_prior(self.u, OFFSET_SPREAD)
        return offsets + objectives.scale_prior(self.a, SCALE_SPREAD)

    def fit(self, labels: Sequence[Label], r: Tensor, smoothing: float) -> None:
        """To the thumbs among `labels`, for the rewards `r` (n,) of their replies as they are: a smooth
        problem in a few numbers, solved by L-BFGS."""
        rows = [row for row, label in enumerate(labels) if label.kind == "thumb"]
        if not rows:
            return
        here = self.u.device
        thumbs = [labels[row] for row in rows]
        r, raters = r[rows].to(here), self.raters(thumbs).to(here)
        y = torch.tensor([label.target for label in thumbs], device=here)
        weight = torch.tensor([label.weight for label in thumbs], device=here)
        optimiser = torch.optim.LBFGS(self.parameters(), max_iter=50, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            optimiser.zero_grad()
            total = (weight * self.loss(r, y, raters, smoothing)).sum() + self.prior()
            total.backward()  # type: ignore[no-untyped-call]
            return total

        optimiser.step(objective)  # type: ignore[no-untyped-call]
        self.zero_grad()
