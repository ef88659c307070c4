"""One update of the policy on scored samples: scores.parquet → adapter/, probe.json.

    python -m workers.stages.optimise DIR

`rloo`: policy gradient on the reward with a leave-one-out baseline and KL to the base (TRL's RLOOTrainer,
with the engines' samples and log-probabilities in the place of its own). `online_dpo`: the best of K against
the worst (TRL's DPOTrainer, with the base as reference). The reference is always the base, never the last
adapter, so KL does not start again with every cycle.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.utils import pad

from workers import policy_objectives
from workers.device import device
from workers.labels import Sample, Score, by_prompt, read_scores
from workers.policy_model import (
    assert_moved,
    assert_trainable,
    base_logprobs,
    install_compact_head,
    load_policy,
    reply_logprobs,
    trainable_hash,
)
from workers.stage import Stage, StageConfig, StageError, run, write_json

Scored = tuple[Sample, Score]


class Config(StageConfig):
    """`beta`: weight of the KL to the base (DPO's β, RLOO's penalty per nat). `micro_batch`: replies in one
    pass."""

    base_model: str
    init: Path | None
    method: Literal["rloo", "online_dpo"]
    scores: Path
    rank: int = 16
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    learning_rate: float = 5e-4
    beta: float = 0.1
    epochs: int = 1
    batch: int = 16
    micro_batch: int = 16
    epsilon: float = 0.2
    sft_weight: float = 0.0
    max_grad_norm: float = 1.0
    probes: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Batch:
    """The scored samples with the base's log-probabilities, one tensor a reply."""

    samples: list[Sample]
    rewards: list[float]
    reference: list[Tensor]


class SampledRLOO(RLOOTrainer):
    """TRL's RLOO on replies that the engines sampled: `batch` stands in for what it would generate."""

    def __init__(self, *, batch: dict[str, Tensor], epsilon: float, **given: Any) -> None:
        self._sampled, self._clip = batch, epsilon
        super().__init__(reward_funcs=_no_reward, **given)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        rows = _occurrences([row["prompt"] for row in inputs], int(self.num_generations or 1))
        return {key: value[rows].to(device()) for key, value in self._sampled.items()}

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        inputs = _trimmed(inputs)
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        logps, entropies, _ = self._get_per_token_logps_and_entropies(
            model, ids, mask, inputs["completion_ids"].shape[1], compute_entropy=True
        )
        scored = inputs["completion_mask"]
        self._metrics["train"]["entropy"].append(float((entropies * scored).sum() / scored.sum()))
        tokens = len(ids) * float(inputs["mean_tokens"][0])
        return policy_objectives.rloo_loss(
            logps, inputs["old_logps"], inputs["advantages"], scored, self._clip, tokens
        )


class SampledDPO(DPOTrainer):
    """TRL's DPO on token ids and reference log-probabilities that are there already."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def main(config: Config, stage: Stage) -> dict[str, Any]:
    scored = read_scores(config.scores)
    stage.progress(0, 3, "loading the policy")
    tokenizer = AutoTokenizer.from_pretrained(config.base_model)
    torch.manual_seed(config.seed)
    model = load_policy(config.base_model, config.init, config.rank, config.targets)
    trainable, before = assert_trainable(model), trainable_hash(model)
    stage.progress(1, 3, f"{config.method} on {len(scored)} replies")
    samples = [sample for sample, _ in scored]
    prompts = [sample.prompt_token_ids for sample in samples]
    replies = [sample.token_ids for sample in samples]
    reference = base_logprobs(model, prompts, replies, config.micro_batch)
    batch = Batch(samples, [score.reward for _, score in scored], reference)
    method = {"rloo": rloo, "online_dpo": online_dpo}[config.method]
    figures = method(config, stage, model, tokenizer, batch)
    if not math.isfinite(figures["loss"]):
        raise StageError("the policy's loss is not finite: lower the learning rate")
    after = trainable_hash(model)
    assert_moved(before, after)
    stage.progress(2, 3, "writing the adapter")
    model.save_pretrained(str(stage.path("adapter")))
    write_json(stage.path("probe.json"), probe(model, batch, config.probes))
    return figures | {
        "method": config.method,
        "replies": len(samples),
        "kl_base_before": kl_before(batch),
        "trainable": trainable,
        "hash_before": before,
        "hash_after": after,
    }


def rloo(
    config: Config, stage: Stage, model: PeftModel, tokenizer: PreTrainedTokenizerBase, batch: Batch
) -> dict[str, Any]:
    groups, k = full_groups(batch)
    micro = max(1, min(config.micro_batch, config.batch) // k) * k
    groups = groups[: len(groups) - len(groups) % (micro // k)] or groups
    micro = min(micro, len(groups) * k)
    n = len(groups) * k
    accumulate = max(1, min(config.batch, n) // micro)
    trainer = SampledRLOO(
        batch=rloo_batch(batch, groups, config.beta, tokenizer.pad_token_id),
        epsilon=config.epsilon,
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"prompt": list(range(len(groups)))}),
        args=RLOOConfig(
            **common_arguments(config, stage),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=accumulate,
            steps_per_generation=n // micro,
            num_generations=k,
            num_iterations=config.epochs,
            max_steps=max(1, n * config.epochs // (micro * accumulate)),
            beta=0.0,  # the KL is in the advantages already
            temperature=1.0,
        ),
    )
    return _train(trainer, model) | {"groups": len(groups), "k": k}


def online_dpo(
    config: Config, stage: Stage, model: PeftModel, tokenizer: PreTrainedTokenizerBase, batch: Batch
) -> dict[str, Any]:
    pairs = best_and_worst(batch)
    if not pairs:
        raise StageError("no prompt has two replies of different reward: there is nothing to prefer")
    random.Random(config.seed).shuffle(pairs)
    size = max(1, min(config.micro_batch // 2, config.batch // 2, len(pairs)))
    both = config.sft_weight > 0
    trainer = SampledDPO(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([_pair(batch, best, worst) for best, worst in pairs]),
        args=DPOConfig(
            **common_arguments(config, stage),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=max(1, config.batch // (2 * size)),
            num_train_epochs=config.epochs,
            beta=config.beta,
            loss_type=["sigmoid", "sft"] if both else ["sigmoid"],
            loss_weights=[1.0, config.sft_weight] if both else [1.0],
            max_length=None,
        ),
    )
    trainer.precompute_ref_logps = True  # they are in the rows
    return _train(trainer, model) | {"pairs": len(pairs)}


def common_arguments(config: Config, stage: Stage) -> dict[str, Any]:
    """Of every trainer here. TRL's defaults ask for bfloat16 autocast and checkpointing, which a CPU cannot
    use."""
    return {
        "output_dir": str(stage.path("trainer")),
        "use_cpu": device().type == "cpu",
        "bf16": False,
        "gradient_checkpointing": False,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": "constant",
        "max_grad_norm": config.max_grad_norm,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "seed": config.seed,
    }


def _train(trainer: Any, model: PeftModel) -> dict[str, Any]:
    if "ref" in model.peft_config:
        model.delete_adapter("ref")  # TRL's copy of the adapter; without it the reference is the base
    install_compact_head(model.get_base_model())
    trainable = assert_trainable(model)
    loss = float(trainer.train().training_loss)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "loss": loss,
        "steps": trainer.state.global_step,
        "optimised": trainable,
        "grad_norm": max(float(entry["grad_norm"]) for entry in steps),
        "last": {key: value for key, value in steps[-1].items() if isinstance(value, int | float)},
    }


def full_groups(batch: Batch) -> tuple[list[list[int]], int]:
    """Rows of each prompt that has as many replies as the most answered one, and that number. StageError
    below two."""
    groups = by_prompt(batch.samples, list(range(len(batch.samples))))
    k = max(map(len, groups.values()))
    if k < 2:
        raise StageError("a leave-one-out baseline needs at least 2 replies a prompt")
    return [rows for rows in groups.values() if len(rows) == k], k


def rloo_batch(batch: Batch, groups: Sequence[Sequence[int]], beta: float, pad_id: int) -> dict[str, Tensor]:
    """All replies, group by group, as TRL's RLOO wants them: prompts padded left, completions right."""
    rows = [row for group in groups for row in group]
    k = len(groups[0])
    samples = [batch.samples[row] for row in rows]
    old = [torch.tensor(sample.logprobs) for sample in samples]
    log_ratio = torch.stack(
        [(mine - batch.reference[row]).sum() for mine, row in zip(old, rows, strict=True)]
    )
    rewards = torch.tensor([batch.rewards[row] for row in rows])
    advantages = policy_objectives.rloo_advantages(
        rewards.view(-1, k), log_ratio.view(-1, k), beta, scale=True
    )
    prompts = [torch.tensor(sample.prompt_token_ids) for sample in samples]
    replies = [torch.tensor(sample.token_ids) for sample in samples]
    mean_tokens = sum(map(len, replies)) / len(replies)
    return {
        "prompt_ids": pad(prompts, padding_value=pad_id, padding_side="left"),
        "prompt_mask": pad([torch.ones_like(row) for row in prompts], padding_value=0, padding_side="left"),
        "completion_ids": pad(replies, padding_value=pad_id),
        "completion_mask": pad([torch.ones_like(row) for row in replies], padding_value=0),
        "old_logps": pad(old, padding_value=0),
        "advantages": advantages.flatten(),
        "mean_tokens": torch.full((len(rows),), mean_tokens),
    }


def best_and_worst(batch: Batch) -> list[tuple[int, int]]:
    """Rows of the best and the worst reply of each prompt where they differ, in reward and in words."""
    pairs = []
    for rows in by_prompt(batch.samples, list(range(len(batch.samples)))).values():
        best, worst = max(rows, key=batch.rewards.__getitem__), min(rows, key=batch.rewards.__getitem__)
        differ = batch.samples[best].token_ids != batch.samples[worst].token_ids
        if differ and batch.rewards[best] > batch.rewards[worst]:
            pairs.append((best, worst))
    return pairs


def kl_before(batch: Batch) -> float:
    """KL(policy that sampled ‖ base), nats a token: the mean log ratio of its own samples."""
    ratios = [
        torch.tensor(sample.logprobs) - base
        for sample, base in zip(batch.samples, batch.reference, strict=True)
    ]
    return float(torch.cat(ratios).mean())


def probe(model: PeftModel, batch: Batch, count: int) -> list[dict[str, Any]]:
    """A few replies with their log-probabilities under the new adapter and under the base, for `publish` to
    compare."""
    rows = sorted(range(len(batch.samples)), key=lambda row: abs(len(batch.samples[row].token_ids) - 32))[
        :count
    ]
    model.eval()
    mine = reply_logprobs(
        model,
        [batch.samples[row].prompt_token_ids for row in rows],
        [batch.samples[row].token_ids for row in rows],
        batch=1,
    )
    return [
        {
            "prompt_token_ids": batch.samples[row].prompt_token_ids,
            "token_ids": batch.samples[row].token_ids,
            "logprobs": logprobs.tolist(),
            "base_logprobs": batch.reference[row].tolist(),
        }
        for row, logprobs in zip(rows, mine, strict=True)
    ]


def _pair(batch: Batch, best: int, worst: int) -> dict[str, Any]:
    return {
        "prompt": "",  # TRL looks for it; the ids below are what counts
        "prompt_ids": batch.samples[best].prompt_token_ids,
        "chosen_ids": batch.samples[best].token_ids,
        "rejected_ids": batch.samples[worst].token_ids,
        "ref_chosen_logps": float(batch.reference[best].sum()),
        "ref_rejected_logps": float(batch.reference[worst].sum()),
    }


def _occurrences(groups: Sequence[int], k: int) -> list[int]:
    """Row g·k + (how often g came before) for each group number: TRL repeats a prompt once a reply."""
    seen: dict[int, int] = {}
    rows = []
    for group in groups:
        rows.append(group * k + seen.get(group, 0) % k)
        seen[group] = seen.get(group, 0) + 1
    return rows


def _trimmed(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the columns that are padding in every row of this micro batch."""
    first = int(inputs["prompt_mask"].argmax(1).min())
    last = int(inputs["completion_mask"].sum(1).max())
    front = {key: inputs[key][:, first:] for key in ("prompt_ids", "prompt_mask")}
    back = {key: inputs[key][:, :last] for key in ("completion_ids", "completion_mask", "old_logps")}
    return inputs | front | back


def _no_reward(*_: Any, **__: Any) -> list[float | None]:
    raise AssertionError("rewards come with the samples")


Method = Callable[[Config, Stage, PeftModel, PreTrainedTokenizerBase, Batch], dict[str, Any]]

if __name__ == "__main__":
    run(Config, main)
