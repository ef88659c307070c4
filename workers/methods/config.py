"""What an update is run with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import model_validator

from serving.methods import Method
from workers.stage import StageConfig


@dataclass(frozen=True)
class Pace:
    """What a method is run with where nothing else is said: it means another thing to each. `k`: replies to a
    prompt; a policy gradient compares each with all others, pairs and bests are few of many."""

    learning_rate: float
    beta: float
    batch: int
    max_kl_step: float
    k: int


PACES: dict[Method, Pace] = {
    Method.rloo: Pace(1e-3, 0.02, 32, 0.06, 8),
    Method.grpo: Pace(1e-3, 0.02, 32, 0.06, 8),
    Method.online_dpo: Pace(4e-3, 0.1, 16, 0.15, 4),
    Method.dpo: Pace(4e-3, 0.1, 16, 0.15, 4),
    Method.kto: Pace(4e-3, 0.1, 16, 0.15, 4),
    Method.best_of_n: Pace(4e-3, 0.0, 16, 0.15, 4),
}


class Config(StageConfig):
    """`learning_rate`, `beta`, `batch`, `max_kl_step`: None for the method's own, see `PACES`. `beta`: weight
    of the KL to the base (DPO's β, GRPO's weight of the KL in the loss, RLOO's penalty per nat). `batch`:
    replies a step. `budget`: tokens in one pass of the model. `epsilon`: how far from 1 a token's importance
    ratio may be and still be moved further away (PPO's clip; back it may be moved from farther, see
    `policy_objectives.most_ratio`).

    `pairs`: pairs a prompt that online_dpo makes of its K replies. `people`: people's newest comparisons that
    it takes beside them, at most; they are pairs too, and more often right than those of a young reward
    model. `chosen_weight`: how much the preferred reply's own mean log-probability counts beside the pair's
    (RPO, arXiv 2404.19733, eq. 2), without which DPO makes both replies of a pair less likely, and whatever
    else more. `credit_decay`: λ of the policy gradients' credit for single tokens (workers.policy.credit); at
    1 all tokens of a reply share its advantage; `credit_scores`: also by what the reward model makes of it
    before each. `sft_weight`: the share of SFT on well-rated replies. `plain_weight`: that of staying with
    the base on plain texts, `plain_batch` of them a step; `restores`: how often those are restored at the
    end, and at 0 never.

    `targets`, `top_layers`: the modules that a new adapter is on, and the share of the layers, from the top.
    `max_kl_step`, `max_kl_base`: how far a round may go from the policy that sampled and from the base, nats
    a token, measured on `watched` replies every `check_every` steps; `max_nll_rise`: how much less likely
    the reference texts may become than to the base, as a share, measured along with it. `reach`: the share
    of `max_kl_step` that a policy gradient goes in a round, by steps that are shortened where they are ahead
    and taken further where they end before, see `KeepNear`; how far the other methods go, their β says.
    """

    base_model: str
    init: Path | None
    method: Method
    scores: Path
    labels: Path | None = None
    rank: int = 16
    targets: tuple[str, ...] = ("o_proj",)
    top_layers: float = 0.5
    learning_rate: float | None = None
    beta: float | None = None
    epochs: int = 1
    batch: int | None = None
    budget: int = 2048
    pairs: int = 1
    people: int = 0
    chosen_weight: float = 0.0
    credit_decay: float = 0.7
    credit_scores: bool = True
    epsilon: float = 1.5
    sft_weight: float = 0.0
    plain_weight: float = 0.0
    plain_batch: int = 16
    restores: int = 2
    max_kl_step: float | None = None
    max_kl_base: float = 0.45
    max_nll_rise: float = 0.02
    reach: float = 0.8
    check_every: int = 4
    watched: int = 32
    max_grad_norm: float = 1.0
    probes: int = 4
    seed: int = 0

    @model_validator(mode="after")
    def _need_beta(self) -> Self:
        if self.pace.beta == 0 and self.method in (Method.online_dpo, Method.dpo, Method.kto):
            raise ValueError(f"{self.method} learns nothing at β = 0: take more")
        return self

    @property
    def pace(self) -> Pace:
        own = PACES[self.method]
        return Pace(
            own.learning_rate if self.learning_rate is None else self.learning_rate,
            own.beta if self.beta is None else self.beta,
            own.batch if self.batch is None else self.batch,
            own.max_kl_step if self.max_kl_step is None else self.max_kl_step,
            own.k,
        )
