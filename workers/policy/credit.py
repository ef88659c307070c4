"""Which of a reply's tokens earned its reward. Torch; for stages only.

A reward comes once a reply, and a policy gradient that gives it to each of its tokens alike is mostly noise:
of seventy tokens a handful mattered. Here a value function V(s_t), what the advantage will be once the reply
stands up to token t, is fitted to the samples themselves, and each token gets what it changed of it
(generalised advantage estimation, arXiv 1506.02438, eq. 16).

V is a ridge regression on what the base sees (a hidden state, see `workers.methods.round`), on how the reply
looks so far (workers.reward.style), and on what the reward model would give it if it ended there, beside
what the other replies to the prompt came to; closed in form and cross-fitted: no reply's value comes from a
fit to its own reward. All of them choose the penalty. What V did not foresee falls to a reply's last tokens,
to its end of turn above all: that it ended there is what nobody could foresee. Where V foresees next to
nothing on the way, all tokens share the advantage instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.reward.folds import folds, units

FOLDS = 5
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # a row, of features of unit variance
LOOKS = 3.0  # how much more freely the few features of the prefix are used than the many of the hidden state
FEW = 4  # replies at a place by which its mean is half believed
SETTLED = 16  # tokens after which half of what the reward model makes of a reply is taken to stand
WIDEST = 1024  # dimensions of a hidden state; wider ones are projected
LEAST = 0.02  # what values must explain, see `Credit`, to deal anything out by them


@dataclass(frozen=True)
class Credit:
    """`advantages`: one (t,) tensor a reply. `explained`: what the values on its way tell of an unseen
    reply's advantage beyond its value at the beginning, as a share of what that leaves open, over all tokens.
    At `LEAST` or less all tokens share alike."""

    advantages: list[Tensor]
    explained: float


def standing(so_far: Tensor, others: float) -> Tensor:
    """Features of what the reward model makes of a reply before each of its tokens, (t,) → (t, 4), beside
    `others`, what it makes of the other replies to the prompt: an advantage is over those."""
    place = torch.arange(len(so_far))
    settled = place / (place + SETTLED)
    lead = so_far - others
    return torch.stack([torch.full_like(so_far, others), lead, settled * lead, settled**2 * lead], 1)


def of_others(rewards: Tensor) -> Tensor:
    """For each reply the mean reward of the other replies to its prompt: (n, k) → (n, k), k ≥ 2."""
    return (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)


def deal_out(
    states: Sequence[Tensor],
    prefixes: Sequence[Tensor],
    advantages: Tensor,
    prompts: Sequence[str],
    decay: float,
    seed: int,
) -> Credit:
    """A_t = Σ_l λ^l·δ_{t+l}, δ_t = V(s_{t+1}) - V(s_t), with the reply's whole advantage for V after its
    last token; λ = `decay` in [0, 1]. Scaled so that the tokens' standard deviation stays what it was.

    `states`, `prefixes`: (t, d) and (t, features) a reply, before each of its tokens. `advantages`: (n,),
    with mean 0 over the replies to a prompt. `prompts`: whose replies they are; a fit never sees the prompts
    that it values.
    """
    wholes = [advantage.expand(len(rows)) for advantage, rows in zip(advantages, states, strict=True)]
    if decay >= 1 or float(advantages.abs().max()) == 0:
        return Credit(wholes, 0.0)
    values, explained = fit_values(states, prefixes, advantages, prompts, seed)
    if explained <= LEAST:
        return Credit(wholes, explained)
    dealt = [gae(value, float(whole), decay) for value, whole in zip(values, advantages, strict=True)]
    scale = float(torch.cat(wholes).std() / (torch.cat(dealt).std() + 1e-8))
    return Credit([scale * part for part in dealt], explained)


def gae(values: Tensor, advantage: float, decay: float) -> Tensor:
    """`deal_out` for one reply, (t,) → (t,)."""
    after = torch.cat([values[1:], values.new_tensor([advantage])])
    left = 0.0
    found = []
    for delta in (after - values).flip(0).tolist():
        left = delta + decay * left
        found.append(left)
    return torch.tensor(found[::-1])


def fit_values(
    states: Sequence[Tensor], prefixes: Sequence[Tensor], targets: Tensor, prompts: Sequence[str], seed: int
) -> tuple[list[Tensor], float]:
    """V before each token of each reply, and what it explains, see `Credit`."""
    x = torch.cat(
        [
            _scaled(_narrowed(torch.cat(list(states)).float(), seed)),
            LOOKS * _scaled(torch.cat(list(prefixes))),
        ],
        1,
    )
    sizes = [len(rows) for rows in states]
    y = targets.float().repeat_interleave(torch.tensor(sizes))
    unit = torch.from_numpy(folds(units(prompts), FOLDS, seed)).repeat_interleave(torch.tensor(sizes))
    parts = [x[unit == fold] for fold in range(FOLDS)]
    grams = [(part.T @ part).double() for part in parts]
    moments = [(part.T @ y[unit == fold]).double() for fold, part in enumerate(parts)]
    found = []
    for penalty in PENALTIES:
        values = torch.zeros_like(y)
        for fold, part in enumerate(parts):
            seen = len(x) - len(part)
            gram = sum(grams) - grams[fold] + penalty * seen * torch.eye(x.shape[1], dtype=torch.double)
            weights = torch.linalg.solve(gram, sum(moments) - moments[fold])
            values[unit == fold] = part @ weights.float()
        values = _levelled(values, y, sizes, unit)
        found.append((float(((values - y) ** 2).mean()), values))
    error, values = min(found, key=lambda pair: pair[0])
    each = list(torch.split(values, sizes))
    begin = torch.cat([value[:1].expand(len(value)) for value in each])
    begin *= (begin @ y) / (begin @ begin).clamp(min=1e-12)  # it is shrunken, and more than what comes later
    return each, 1 - error / max(float(((begin - y) ** 2).mean()), 1e-12)


def _levelled(values: Tensor, y: Tensor, sizes: Sequence[int], unit: Tensor) -> Tensor:
    """Values that are right on average at each place, by what the other folds' replies that get there missed.
    Else all replies would seem to have won or lost by their first token, which looks like no other."""
    place = torch.cat([torch.arange(size) for size in sizes])
    missed, count = torch.zeros(2, FOLDS, max(sizes)).unbind(0)
    missed.index_put_((unit, place), y - values, accumulate=True)
    count.index_put_((unit, place), torch.ones_like(y), accumulate=True)
    of_rest, rest = missed.sum(0) - missed, count.sum(0) - count
    return values + (of_rest / (rest + FEW))[unit, place]


def _scaled(x: Tensor) -> Tensor:
    """Columns with mean 0 and standard deviation 1, at most 5 of them either way."""
    scaled: Tensor = ((x - x.mean(0)) / (x.std(0) + 1e-3)).clamp(-5, 5)
    return scaled


def _narrowed(x: Tensor, seed: int) -> Tensor:
    """`WIDEST` random directions (Johnson and Lindenstrauss 1984) of a wider one."""
    if x.shape[1] <= WIDEST:
        return x
    chance = torch.Generator().manual_seed(seed)
    narrow: Tensor = x @ (torch.randn(x.shape[1], WIDEST, generator=chance) / WIDEST**0.5)
    return narrow
