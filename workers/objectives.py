"""The reward model's losses, as in their papers and with the same letters. Pure torch; for stages only."""

from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(r_a: Tensor, r_b: Tensor, p: Tensor, margin: Tensor, smoothing: float) -> Tensor:
    """-[p̃ log s(d) + (1 - p̃) log s(-d)], d = r_a - r_b - m·(2p - 1), s the sigmoid. Nats, shape (n,).

    `p`: P(a better) ∈ {1, ½, 0}; a tie has no margin. p̃ = (1 - ε)p + ε/2 keeps the reward finite when raters
    err (Bradley and Terry 1952; margin: Llama 2, arXiv 2307.09288, eq. 2; smoothing: cDPO).
    """
    d = r_a - r_b - margin * (2 * p - 1)
    p_smooth = (1 - smoothing) * p + smoothing / 2
    return -(p_smooth * logsigmoid(d) + (1 - p_smooth) * logsigmoid(-d))


def thumb_logistic(r: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """-[ỹ log s(r) + (1 - ỹ) log s(-r)]: the reward is the logit of a thumb up. Nats, shape (n,).

    Comparisons see only differences of r; thumbs fix its zero. So both train one scalar in one unit.
    """
    y_smooth = (1 - smoothing) * y + smoothing / 2
    return -(y_smooth * logsigmoid(r) + (1 - y_smooth) * logsigmoid(-r))
