"""The reward model's losses, as in their papers and with the same letters. Pure torch; for stages only."""

from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(r_a: Tensor, r_b: Tensor, p: Tensor, margin: Tensor, smoothing: float) -> Tensor:
    """-[p̃ log s(d) + (1 - p̃) log s(-d)], d = r_a - r_b - m·(2p - 1), s the sigmoid. Nats, shape (n,).

    `p`: P(a better) ∈ {1, ½, 0}; a tie has no margin. p̃ = (1 - ε)p + ε/2 keeps the reward finite when raters
    err (Bradley and Terry 1952; margin: Llama 2, arXiv 2307.09288, eq. 2; smoothing: cDPO).
    """
    d = r_a - r_b - margin * (2 * p - 1)
    return _logistic(d, p, smoothing)


def thumb_logistic(r: Tensor, y: Tensor, a: Tensor, b: Tensor, u: Tensor, smoothing: float) -> Tensor:
    """-[ỹ log s(z) + (1 - ỹ) log s(-z)], z = a·r + b + u: a thumb up where the reward is high, and where its
    rater is lenient. Nats, shape (n,).

    `a` > 0 and `b` are scalars, `u` (n,) the offset of each thumb's rater. Comparisons fix the unit of r but
    neither its zero nor what a thumb up takes; those differ from rater to rater (a Rasch model, 1960, with a
    random intercept).
    """
    return _logistic(a * r + b + u, y, smoothing)


def offset_prior(u: Tensor, spread: float) -> Tensor:
    """Σ u² / (2τ²): raters' offsets are u ~ N(0, τ²), so those of few thumbs stay near 0. Nats, a scalar."""
    return u.square().sum() / (2 * spread**2)


def scale_prior(a: Tensor, spread: float) -> Tensor:
    """(log a)² / (2τ²): a thumb and a comparison weigh a reward alike, until labels say otherwise. Nats."""
    return a.log().square() / (2 * spread**2)


def _logistic(z: Tensor, p: Tensor, smoothing: float) -> Tensor:
    p_smooth = (1 - smoothing) * p + smoothing / 2
    return -(p_smooth * logsigmoid(z) + (1 - p_smooth) * logsigmoid(-z))
