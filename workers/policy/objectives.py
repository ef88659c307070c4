"""The policy's losses, as in their papers and with the same letters. Pure torch; imported by stages only."""

import torch
from torch import Tensor


def rloo_advantages(rewards: Tensor, kl: Tensor, beta: float, scale: bool) -> Tensor:
    """A_i = R_i - mean_{j≠i} R_j with R = r - β·log(π/π_ref): leave-one-out (arXiv 2402.14740, eq. 8). Shape
    (n, k), k ≥ 2.

    `kl`: log π(y|x) - log π_ref(y|x) summed over a reply, nats, (n, k). `scale` divides by the standard
    deviation over the batch, so that a learning rate means the same whatever the reward's unit. All equal
    rewards give zeros, not noise.
    """
    k = rewards.shape[1]
    returns = rewards - beta * kl
    advantages = (returns - returns.mean(1, keepdim=True)) * k / (k - 1)
    return advantages / (advantages.std() + 1e-4) if scale else advantages


MOST_RATIO = 4.0  # as in arXiv 2505.07291


def most_ratio(epsilon: float) -> float:
    """δ: what no token's importance ratio counts beyond. Above 1+ε, or what became likelier by mistake would
    not be taken back."""
    return max(MOST_RATIO, 2 * (1 + epsilon))


def rloo_loss(
    logps: Tensor, old_logps: Tensor, advantages: Tensor, mask: Tensor, epsilon: float, tokens: float
) -> Tensor:
    """-Σ_i Σ_t min(min(w_t, δ) A_i, clip(w_t, 1-ε, 1+ε) A_i) / `tokens`, a scalar; w_t = π(y_t)/π_old(y_t).

    `logps`, `old_logps`, `mask`: (n, t); `advantages`: (n,), or (n, t) where tokens have their own. TRL's
    RLOO takes one ratio a sequence, which leaves the clip's range after a single step of a CPU-sized batch; a
    ratio a token (arXiv 1707.06347) does not. PPO's clip leaves a bad token all of its ratio, which to an
    ancestor may be any; δ (`most_ratio`) bounds it too (two-sided: arXiv 2505.07291, eq. 3). Dividing by a
    constant number of tokens, not by each reply's length, leaves no preference for long or short replies
    (arXiv 2503.20783).
    """
    ratio = torch.exp(logps - old_logps).clamp(max=most_ratio(epsilon))
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
    each = advantages if advantages.dim() == 2 else advantages[:, None]
    gain = torch.minimum(ratio * each, clipped * each)
    return -(gain * mask).sum() / tokens


def grpo_advantages(rewards: Tensor) -> Tensor:
    """A_i = (r_i - mean r) / (std + ε), shape (n, k): the mean of each group (arXiv 2402.03300, section 4.1),
    the standard deviation within groups over the whole batch. A group's own would make as much of replies
    that hardly differ as of those that do (arXiv 2503.20783, section 3.1), and a young reward model's errors
    with it. All equal rewards give zeros, not noise.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (centred.std() + 1e-4)


def kl_k2(log_ratio: Tensor) -> Tensor:
    """½ mean (log q - log p)², a scalar; `log_ratio`: log q - log p, any shape.

    The estimator k2 of Schulman (2020, "Approximating KL divergence"): of tokens that p wrote it is KL(p ‖ q)
    to second order. Of other texts it says how far both are apart on them, and its gradient leads back.
    """
    return log_ratio.square().mean() / 2


def kl_k3(log_ratio: Tensor) -> Tensor:
    """KL(p ‖ q) a token in nats from tokens that p wrote, a scalar; `log_ratio`: log q - log p, any shape.

    The estimator k3 of Schulman (2020, "Approximating KL divergence"), e^x - 1 - x: as unbiased as -x, and
    never negative, so that a few replies tell a small step from a large one.
    """
    return (log_ratio.exp() - 1 - log_ratio).mean()


def kl_weighted(log_ratio: Tensor, log_weight: Tensor) -> Tensor:
    """KL(π ‖ π_ref) a token in nats from tokens that another policy wrote, a scalar.

    `log_ratio`: log π - log π_ref; `log_weight`: log π - log(the policy that wrote them), both per token. The
    weights are those of single tokens, as in PPO's surrogate: exact for the next token, not for what comes
    before it.
    """
    weight = log_weight.exp()
    return (weight * log_ratio).sum() / weight.sum().clamp(min=1e-6)
