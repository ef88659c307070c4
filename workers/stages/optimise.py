"""One update of the policy: scores.parquet, and people's labels → adapter/, probe.json, curve.json.

    python -m workers.stages.optimise DIR

On replies that the engines sampled, with their token ids and log-probabilities: `rloo`, `grpo` (policy
gradients with a leave-one-out or a group baseline), `online_dpo` (the best of K against the worst),
`best_of_n` (SFT on the best). On what people said: `dpo` (their comparisons), `kto` (their thumbs). Each is
TRL's trainer (see `workers.policy_trainers`), may take a share of SFT on well-rated replies, and is held near
the base on plain texts. The reference is always the base, never the last adapter, so KL does not start again
with every cycle.

How far the policy goes is measured on a few of the samples and on the reference texts all the while, and
bounded (see `KeepNear`).
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from datasets import Dataset
from pydantic import model_validator
from torch import Tensor
from transformers import AutoTokenizer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.kto_config import KTOConfig
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.sft_config import SFTConfig
from trl.trainer.utils import pad

from serving.methods import Method
from workers import policy_data, policy_objectives
from workers.credit import deal_out, of_others, standing
from workers.datasets import for_judge
from workers.device import device
from workers.holding import Held
from workers.labels import Label, Sample, read_labels, read_scores
from workers.packing import IGNORED, Reply, install
from workers.policy_data import Rollouts, Tokens
from workers.policy_model import (
    assert_moved,
    assert_trainable,
    base_logprobs,
    load_policy,
    read_base,
    read_lower,
    reply_logprobs,
    trainable_hash,
)
from workers.policy_trainers import (
    Aside,
    Distance,
    KeepNear,
    Plain,
    Rated,
    SampledDPO,
    SampledGRPO,
    SampledKTO,
    SampledRLOO,
    SampledSFT,
)
from workers.references import Reference, read_plain, read_references
from workers.stage import Stage, StageConfig, StageError, run, write_json
from workers.style import looks


@dataclass(frozen=True)
class Pace:
    """What a method is run with where nothing else is said: it means another thing to each."""

    learning_rate: float
    beta: float
    batch: int
    max_kl_step: float


class Config(StageConfig):
    """`learning_rate`, `beta`, `batch`, `max_kl_step`: None for the method's own, see `PACES`. `beta`: weight
    of the KL to the base (DPO's β, GRPO's weight of the KL in the loss, RLOO's penalty per nat). `batch`:
    replies a step. `budget`: tokens in one pass of the model. `epsilon`: how far a token's importance ratio
    may be from 1.

    `pairs`: pairs a prompt that online_dpo makes of its K replies. `people`: people's newest comparisons that
    it takes beside them, at most; they are pairs too, and more often right than those of a young reward
    model. `chosen_weight`: how much the preferred reply's own mean log-probability counts beside the pair's
    (RPO, arXiv 2404.19733, eq. 2), without which DPO makes both replies of a pair less likely, and whatever
    else more. `credit_decay`: λ of the policy gradients' credit for single tokens (workers.credit); at 1 all
    tokens of a reply share its advantage; `credit_scores`: also by what the reward model makes of it before
    each. `sft_weight`: the share of SFT on well-rated replies. `plain_weight`: that of staying with the base
    on plain texts, `plain_batch` of them a step; `restores`: how often those are restored at the end.

    `targets`, `top_layers`: the modules that a new adapter is on, and the share of the layers, from the top.
    `max_kl_step`, `max_kl_base`: how far a round may go from the policy that sampled and from the base, nats
    a token, measured on `watched` replies every `check_every` steps; `max_nll_rise`: how much less likely
    the reference texts may become than to the base, as a share, measured along with it. `reach`: the share
    of `max_kl_step` that a policy gradient is taken on to where its steps end before, see `KeepNear`; how far
    the other methods go, their β says.
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
    check_every: int = 3
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
        )


class Round:
    """What a method works with: the policy, the samples, and what people said."""

    def __init__(self, config: Config, stage: Stage) -> None:
        self.config, self.stage = config, stage
        self.tokenizer = AutoTokenizer.from_pretrained(config.base_model)
        torch.manual_seed(config.seed)
        self.model = load_policy(
            config.base_model, config.init, config.rank, config.targets, config.top_layers
        )
        self.data = policy_data.rollouts(read_scores(config.scores))
        self.labels = _not_the_judges([] if config.labels is None else read_labels(config.labels))
        self.tokens = Tokens(self.tokenizer)
        self.watched = _spread(self.data, config.watched)
        self.refer_to(self.watched)
        self.texts = self.read_texts(read_references())
        self.texts_nll = _nll(self.base(self.texts))

    def read_texts(self, texts: Sequence[Reference]) -> list[Reply]:
        return [self.tokens.reply(text.messages, text.reply, "stop") for text in texts]

    def refer_to(self, rows: Sequence[int]) -> None:
        """Let the samples `rows` have the base's log-probabilities, once each."""
        rows = [row for row in rows if not len(self.data.reference[row])]
        self._remember(rows, self.base([_reply(self.data, row) for row in rows]))

    def read(self, rows: Sequence[int]) -> list[Tensor]:
        """`refer_to`, and what the base sees before each token of the samples `rows`, (t, d) each: its last
        hidden state. Where the base itself sampled, the engines have said its log-probabilities already; then
        it is the state that goes into the lowest adapter, unless more than half of the layers are above."""
        replies = [_reply(self.data, row) for row in rows]
        if self.config.init is None and self.config.top_layers <= 0.5:
            states = read_lower(self.model, replies, self.config.budget)
            if states is not None:
                rest = [row for row in rows if not len(self.data.reference[row])]
                self._remember(rest, [torch.tensor(self.data.samples[row].logprobs) for row in rest])
                return states
        found = read_base(self.model, replies, self.config.budget)
        self._remember(rows, [logprobs for logprobs, _ in found])
        return [states for _, states in found]

    def _remember(self, rows: Sequence[int], logprobs: Sequence[Tensor]) -> None:
        reference = list(self.data.reference)
        for row, found in zip(rows, logprobs, strict=True):
            reference[row] = found
        self.data = replace(self.data, reference=reference)

    def base(self, replies: Sequence[Reply]) -> list[Tensor]:
        prompts, tokens = [reply.prompt for reply in replies], [reply.tokens for reply in replies]
        return base_logprobs(self.model, prompts, tokens, self.config.budget)

    def mine(self, replies: Sequence[Reply]) -> list[Tensor]:
        prompts, tokens = [reply.prompt for reply in replies], [reply.tokens for reply in replies]
        return reply_logprobs(self.model, prompts, tokens, self.config.budget)

    def distance(self) -> Distance:
        """How far the policy is from the one that sampled and from the base, by the watched replies and the
        reference texts."""
        said = self.mine([*(_reply(self.data, row) for row in self.watched), *self.texts])
        now = torch.cat(said[: len(self.watched)])
        sampled = torch.cat([torch.tensor(self.data.samples[row].logprobs) for row in self.watched])
        base = torch.cat([self.data.reference[row] for row in self.watched])
        return Distance(
            step=float(policy_objectives.kl_k3(now - sampled)),
            base=float(policy_objectives.kl_weighted(now - base, now - sampled)),
            plain=_nll(said[len(self.watched) :]) / self.texts_nll - 1,
        )


def main(config: Config, stage: Stage) -> dict[str, Any]:
    stage.progress(0, 3, "loading the policy")
    work = Round(config, stage)
    before = trainable_hash(work.model)
    stage.progress(1, 3, f"{config.method} on {len(work.data.samples)} replies")
    trainer, figures = METHODS[config.method](work)
    guard, figures = _train(work, trainer, figures)
    if not math.isfinite(figures["loss"]):
        raise StageError("the policy's loss is not finite: lower the learning rate")
    after = trainable_hash(work.model)
    if not guard.cut:
        assert_moved(before, after)
    stage.progress(2, 3, "writing the adapter")
    work.model.save_pretrained(str(stage.path("adapter")))
    write_json(stage.path("probe.json"), probe(work))
    return figures | {
        "method": config.method,
        "held": held(config) if before == after else None,
        "replies": len(work.data.samples),
        "earlier": sum(not sample.fresh for sample in work.data.samples),
        "kl_base_before": kl_before(work),
        "trainable": assert_trainable(work.model),
        "hash_before": before,
        "hash_after": after,
    }


def held(config: Config) -> str:
    """Why a policy stayed where it was, though it was trained."""
    return (
        f"even a small step leaves the bounds: a KL of {config.pace.max_kl_step} nats a token from the "
        f"policy that sampled, of {config.max_kl_base} from the base, plain text {config.max_nll_rise:.1%} "
        "less likely (THUMBWHEEL_OPTIMISE_MAX_KL_STEP, …_MAX_KL_BASE, THUMBWHEEL_EVALUATE_MAX_NLL_RISE)"
    )


Made = tuple[Any, dict[str, Any]]  # a trainer, and figures for metrics.json


def rloo(work: Round) -> Made:
    groups = policy_batch(work)
    batch, k = groups.batch, groups.k
    log_ratio = batch.pop("log_ratio")
    advantages = policy_objectives.rloo_advantages(
        batch.pop("rewards").view(-1, k), log_ratio.view(-1, k), work.config.pace.beta, scale=True
    )
    batch["advantages"], credit = dealt_out(work, groups, advantages)
    trainer = SampledRLOO(
        batch=batch,
        epsilon=work.config.epsilon,
        model=work.model,
        processing_class=work.tokenizer,
        train_dataset=Dataset.from_dict({"prompt": list(range(groups.count))}),
        args=RLOOConfig(
            **common_arguments(work), **rollout_arguments(work.config, groups.count, k), beta=0.0
        ),  # the KL is in the advantages already
    )
    return trainer, {"groups": groups.count, "k": k, **credit}


def grpo(work: Round) -> Made:
    groups = policy_batch(work)
    batch, k = groups.batch, groups.k
    del batch["log_ratio"], batch["mean_tokens"]
    advantages = policy_objectives.grpo_advantages(batch.pop("rewards").view(-1, k))
    batch["advantages"], credit = dealt_out(work, groups, advantages)
    trainer = SampledGRPO(
        batch=batch,
        model=work.model,
        processing_class=work.tokenizer,
        train_dataset=Dataset.from_dict({"prompt": list(range(groups.count))}),
        args=GRPOConfig(
            **common_arguments(work),
            **rollout_arguments(work.config, groups.count, k),
            beta=work.config.pace.beta,
            epsilon=work.config.epsilon,
            loss_type="bnpo",
        ),
    )
    return trainer, {"groups": groups.count, "k": k, **credit}


def online_dpo(work: Round) -> Made:
    pairs = policy_data.best_and_worst(work.data, work.config.pairs)
    theirs = people_rows(work, work.config.people)
    if not pairs and not theirs:
        raise StageError("no prompt has two replies of different reward: there is nothing to prefer")
    work.refer_to(sorted({row for pair in pairs for row in pair}))
    data = work.data
    rows = [
        preference_row(_reply(data, best), _reply(data, worst), data.reference[best], data.reference[worst])
        for best, worst in pairs
    ]
    return _preference_trainer(work, rows + theirs), {"pairs": len(rows), "people": len(theirs)}


def dpo(work: Round) -> Made:
    rows = people_rows(work, len(work.labels))
    if not rows:
        raise StageError("people have not chosen between two answers yet; dpo learns from comparisons alone")
    return _preference_trainer(work, rows), {"pairs": len(rows)}


def people_rows(work: Round, count: int) -> list[dict[str, Any]]:
    """People's `count` newest comparisons."""
    if count == 0:
        return []
    choices = [label for label in work.labels if label.kind == "comparison" and label.target != 0.5]
    newest = sorted(choices, key=lambda label: label.time)[-2 * count :]
    found = policy_data.preferences(newest, work.tokens, work.config.seed)[-count:]
    base = work.base([reply for pair in found for reply in (pair.chosen, pair.rejected)])
    return [
        preference_row(pair.chosen, pair.rejected, base[2 * number], base[2 * number + 1])
        for number, pair in enumerate(found)
    ]


def kto(work: Round) -> Made:
    found = policy_data.thumbs(work.labels, work.tokens, work.config.seed)
    ups = sum(thumb.up for thumb in found)
    downs = len(found) - ups
    if not ups or not downs:
        raise StageError(f"kto needs thumbs up and down; there are {ups} up and {downs} down")
    random.Random(work.config.seed).shuffle(found)
    size = max(2, min(work.config.pace.batch, len(found)))
    found += found[: -len(found) % size]  # whole batches: the first ones again
    others = [
        found[first + (place - 1) % size].reply.tokens
        for first in range(0, len(found), size)
        for place in range(size)
    ]
    mixed = [Reply(thumb.reply.prompt, other) for thumb, other in zip(found, others, strict=True)]
    base, base_mixed = work.base([thumb.reply for thumb in found]), work.base(mixed)
    rows = [
        {
            "prompt": "",
            "prompt_ids": thumb.reply.prompt,
            "completion_ids": thumb.reply.tokens,
            "KL_completion_ids": other,
            "label": thumb.up,
            "ref_logps": float(base[number].sum()),
            "ref_KL_logps": float(base_mixed[number].sum()),
        }
        for number, (thumb, other) in enumerate(zip(found, others, strict=True))
    ]
    up, down = kto_weights(ups, downs)
    trainer = SampledKTO(
        model=work.model,
        processing_class=work.tokenizer,
        train_dataset=Dataset.from_list(rows),
        args=KTOConfig(
            **common_arguments(work),
            per_device_train_batch_size=size,
            num_train_epochs=work.config.epochs,
            beta=work.config.pace.beta,
            desirable_weight=up,
            undesirable_weight=down,
            max_length=None,
        ),
    )
    trainer.precompute_ref_logps = True  # they are in the rows
    return trainer, {"thumbs": len(found), "thumbs_up": ups}


def kto_weights(ups: int, downs: int) -> tuple[float, float]:
    """Of thumbs up and down, so that both sides weigh the same in total (arXiv 2402.01306, eq. 8)."""
    return (max(1.0, downs / max(ups, 1)), max(1.0, ups / max(downs, 1)))


def best_of_n(work: Round) -> Made:
    best = policy_data.best_of(work.data)
    if not best:
        raise StageError("no prompt has two replies of different reward: none is the best")
    rows = []
    for row in best:
        reply = _reply(work.data, row)
        ids = [*reply.prompt, *reply.tokens]
        rows.append({"input_ids": ids, "labels": [IGNORED] * len(reply.prompt) + reply.tokens})
    trainer = SampledSFT(
        model=work.model,
        processing_class=work.tokenizer,
        train_dataset=Dataset.from_list(rows),
        args=SFTConfig(
            **common_arguments(work),
            per_device_train_batch_size=max(1, min(work.config.pace.batch, len(rows))),
            num_train_epochs=work.config.epochs,
            max_length=None,
        ),
    )
    return trainer, {"best": len(rows)}


METHODS: dict[Method, Callable[[Round], Made]] = {
    Method.rloo: rloo,
    Method.grpo: grpo,
    Method.online_dpo: online_dpo,
    Method.dpo: dpo,
    Method.kto: kto,
    Method.best_of_n: best_of_n,
}


PACES: dict[Method, Pace] = {
    Method.rloo: Pace(1e-3, 0.02, 32, 0.06),
    Method.grpo: Pace(1e-3, 0.02, 32, 0.06),
    Method.online_dpo: Pace(4e-3, 0.1, 16, 0.15),
    Method.dpo: Pace(4e-3, 0.1, 16, 0.15),
    Method.kto: Pace(4e-3, 0.1, 16, 0.15),
    Method.best_of_n: Pace(4e-3, 0.0, 16, 0.15),
}


def _preference_trainer(work: Round, rows: list[dict[str, Any]]) -> SampledDPO:
    random.Random(work.config.seed).shuffle(rows)
    chosen = work.config.chosen_weight
    trainer = SampledDPO(
        model=work.model,
        processing_class=work.tokenizer,
        train_dataset=Dataset.from_list(rows),
        args=DPOConfig(
            **common_arguments(work),
            per_device_train_batch_size=max(1, min(work.config.pace.batch // 2, len(rows))),
            num_train_epochs=work.config.epochs,
            beta=work.config.pace.beta,
            loss_type=["sigmoid", "sft"] if chosen else ["sigmoid"],
            loss_weights=[1.0, chosen] if chosen else [1.0],
            max_length=None,
        ),
    )
    trainer.precompute_ref_logps = True  # they are in the rows
    return trainer


def preference_row(
    chosen: Reply, rejected: Reply, base_chosen: Tensor, base_rejected: Tensor
) -> dict[str, Any]:
    return {
        "prompt": "",  # TRL looks for it; the ids below are what counts
        "prompt_ids": chosen.prompt,
        "chosen_ids": chosen.tokens,
        "rejected_ids": rejected.tokens,
        "ref_chosen_logps": float(base_chosen.sum()),
        "ref_rejected_logps": float(base_rejected.sum()),
    }


def common_arguments(work: Round) -> dict[str, Any]:
    """Of every trainer here. TRL's defaults ask for bfloat16 autocast and checkpointing, which a CPU cannot
    use."""
    return {
        "output_dir": str(work.stage.path("trainer")),
        "use_cpu": device().type == "cpu",
        "bf16": False,
        "gradient_checkpointing": False,
        "gradient_accumulation_steps": 1,
        "learning_rate": work.config.pace.learning_rate,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "max_grad_norm": work.config.max_grad_norm,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "seed": work.config.seed,
    }


def rollout_arguments(config: Config, groups: int, k: int) -> dict[str, Any]:
    """Whole groups a step, and as many steps as pass over all of them `epochs` times."""
    size = max(1, min(config.pace.batch // k, groups))
    return {
        "per_device_train_batch_size": size * k,
        "steps_per_generation": 1,
        "num_generations": k,
        "max_steps": max(1, groups // size * config.epochs),
        "temperature": 1.0,
    }


@dataclass(frozen=True)
class Groups:
    """All replies, group by group, `k` in each. `batch`: as TRL's policy gradients want them, prompts padded
    left, completions right; `so_far`: as in Score; `states`: what the base sees before each of a reply's
    tokens, (t, d), or (t, 0) where nobody looks."""

    batch: dict[str, Tensor]
    samples: list[Sample]
    so_far: list[list[float]]
    states: list[Tensor]
    k: int

    @property
    def count(self) -> int:
        return len(self.samples) // self.k


def policy_batch(work: Round) -> Groups:
    groups, k = policy_data.full_groups(work.data)
    if all(len({work.data.rewards[row] for row in group}) == 1 for group in groups):
        # What is left are penalties and rounding, which `reach` would make much of.
        raise StageError(f"no prompt has {k} replies that differ in reward: there is nothing to learn")
    rows = [row for group in groups for row in group]
    samples = [work.data.samples[row] for row in rows]
    if work.config.credit_decay < 1:
        states = work.read(rows)
    else:
        work.refer_to(rows)
        states = [torch.empty(len(sample.token_ids), 0) for sample in samples]
    old = [torch.tensor(sample.logprobs) for sample in samples]
    reference = [work.data.reference[row] for row in rows]
    prompts = [torch.tensor(sample.prompt_token_ids) for sample in samples]
    replies = [torch.tensor(sample.token_ids) for sample in samples]
    pad_id = work.tokenizer.pad_token_id
    return Groups(
        {
            "prompt_ids": pad(prompts, padding_value=pad_id, padding_side="left"),
            "prompt_mask": pad([torch.ones_like(p) for p in prompts], padding_value=0, padding_side="left"),
            "completion_ids": pad(replies, padding_value=pad_id),
            "completion_mask": pad([torch.ones_like(reply) for reply in replies], padding_value=0),
            "old_per_token_logps": pad(old, padding_value=0),
            "ref_per_token_logps": pad(reference, padding_value=0),
            "rewards": torch.tensor([work.data.rewards[row] for row in rows]),
            "log_ratio": torch.stack([(o - r).sum() for o, r in zip(old, reference, strict=True)]),
            "mean_tokens": torch.full((len(rows),), sum(map(len, replies)) / len(replies)),
        },
        samples,
        [work.data.so_far[row] for row in rows],
        states,
        k,
    )


def dealt_out(work: Round, groups: Groups, advantages: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Each token's advantage, (n, t) padded on the right, from those of the groups' replies, (n / k, k); and
    the share that the values explain, and whether the reward model's scores were among what they know."""
    config, texts = work.config, groups.samples
    scored = config.credit_scores and all(groups.so_far)
    prompts = [str(sample.prompt_id) for sample in texts]
    prefixes: list[Tensor] = []
    if config.credit_decay < 1:
        prefixes = [torch.tensor(looks(work.tokenizer.decode, sample.token_ids)) for sample in texts]
        if scored:
            whole = torch.tensor([so_far[-1] for so_far in groups.so_far]).view(-1, groups.k)
            stand = map(
                standing, (torch.tensor(row[:-1]) for row in groups.so_far), of_others(whole).flatten()
            )
            prefixes = [torch.cat(both, 1) for both in zip(prefixes, stand, strict=True)]
    credit = deal_out(
        groups.states, prefixes, advantages.flatten(), prompts, config.credit_decay, config.seed
    )
    return pad(credit.advantages, padding_value=0), {"credit": credit.explained, "credit_scores": scored}


def _train(work: Round, trainer: Any, figures: dict[str, Any]) -> tuple[KeepNear, dict[str, Any]]:
    model, config = work.model, work.config
    if "ref" in model.peft_config:
        model.delete_adapter("ref")  # TRL's copy of the adapter; without it the reference is the base
    install(model.get_base_model(), config.budget)
    trainable = assert_trainable(model)
    bound = Distance(config.pace.max_kl_step, config.max_kl_base, config.max_nll_rise)
    reach = config.reach if config.method in (Method.rloo, Method.grpo) else 0.0
    trainer.asides, texts, beside = asides(work)
    figures |= beside
    restore = None if texts is None or config.restores == 0 else texts.restore
    guard = KeepNear(model, work.distance, bound, config.check_every, reach, restore, config.restores)
    trainer.add_callback(guard)
    loss = float(trainer.train().training_loss)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    write_json(work.stage.path("curve.json"), curve(steps, guard))
    last = guard.measured[-1][1]
    return guard, figures | {
        "loss": loss,
        "steps": trainer.state.global_step,
        "optimised": trainable,
        "grad_norm": max(float(entry["grad_norm"]) for entry in steps),
        "kl_step": last.step,
        "kl_base": last.base,
        "nll_rise": last.plain,
        "cut_short": guard.cut,
        "stretched": guard.stretched,
        "last": {key: value for key, value in steps[-1].items() if isinstance(value, int | float)},
    }


def asides(work: Round) -> tuple[list[Aside], Held | None, dict[str, Any]]:
    """What is learnt beside the samples, the plain texts that are held, and figures for metrics.json."""
    config, pad_id = work.config, work.tokenizer.pad_token_id
    found: list[Aside] = []
    held = None
    figures = {}
    if config.sft_weight > 0:
        rated = policy_data.well_rated(work.labels, work.tokens, config.seed)
        figures["rated"] = len(rated)
        if rated:
            size = max(1, config.pace.batch // 4)
            found.append(Rated(rated, config.sft_weight, size, pad_id, config.seed))
    if config.plain_weight > 0:
        plain = work.read_texts(read_plain())
        base = work.base(plain)
        found.append(Plain(plain, base, config.plain_weight, config.plain_batch, pad_id, config.seed))
        held = Held(work.model.get_base_model(), plain, base, config.budget)
    return found, held, figures


_CURVE = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "rewards/chosen": "reward",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
}


def curve(steps: Sequence[dict[str, Any]], guard: KeepNear) -> list[dict[str, Any]]:
    """Step by step what was logged; `kl` (to the base), `kl_step` and `nll_rise` where they were measured."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in steps:
        named = {name: entry[key] for key, name in _CURVE.items() if key in entry}
        rows[entry["step"]] = {"step": entry["step"], **named}
    for step, distance in guard.measured:
        rows.setdefault(step, {"step": step}).update(
            kl=distance.base, kl_step=distance.step, nll_rise=distance.plain
        )
    return [rows[step] for step in sorted(rows)]


def kl_before(work: Round) -> float:
    """KL(policy that sampled ‖ base), nats a token: the mean log ratio of its own samples, where the base's
    are known."""
    ratios = [
        torch.tensor(sample.logprobs) - base
        for sample, base in zip(work.data.samples, work.data.reference, strict=True)
        if len(base) and sample.fresh
    ]
    return float(torch.cat(ratios).mean())


def probe(work: Round) -> list[dict[str, Any]]:
    """A few replies with their log-probabilities under the new adapter and under the base, for `publish` to
    compare."""
    data, count = work.data, work.config.probes
    rows = sorted(range(len(data.samples)), key=lambda row: abs(len(data.samples[row].token_ids) - 32))[
        :count
    ]
    work.model.eval()
    replies = [_reply(data, row) for row in rows]
    # The reference of a sample may be the engine's own, and it is the engine that is to be compared.
    return [
        {
            "prompt_token_ids": reply.prompt,
            "token_ids": reply.tokens,
            "logprobs": work.mine([reply])[0].tolist(),
            "base_logprobs": work.base([reply])[0].tolist(),
        }
        for reply in replies
    ]


def _not_the_judges(labels: Sequence[Label]) -> list[Label]:
    """Without those that the judge learns from: it could not judge a policy that learnt them too."""
    return [label for label in labels if not for_judge(label)]


def _nll(logprobs: Sequence[Tensor]) -> float:
    """Nats a token."""
    return -float(torch.cat(list(logprobs)).mean())


def _spread(data: Rollouts, count: int) -> list[int]:
    """At most `count` samples of the policy that is updated, of as many prompts as there are."""
    fresh = [row for row, sample in enumerate(data.samples) if sample.fresh]
    return fresh[:: max(1, len(fresh) // count)][:count]


def _reply(data: Rollouts, row: int) -> Reply:
    return Reply(data.samples[row].prompt_token_ids, data.samples[row].token_ids)


if __name__ == "__main__":
    run(Config, main)
