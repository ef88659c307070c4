"""Policy gradients on sampled groups: with a leave-one-out (rloo) or a group baseline (grpo)."""

from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.utils import pad

from workers.labels import Sample
from workers.methods.config import Config
from workers.methods.round import Made, NothingToLearn, Round
from workers.policy import data as policy_data
from workers.policy import objectives as policy_objectives
from workers.policy.credit import deal_out, of_others, standing
from workers.policy.trainers import SampledGRPO, SampledRLOO
from workers.reward.style import looks


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
            **work.arguments(), **rollout_arguments(work.config, groups.count, k), beta=0.0
        ),  # the KL is in the advantages already
    )
    return trainer, groups.figures | credit


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
            **work.arguments(),
            **rollout_arguments(work.config, groups.count, k),
            beta=work.config.pace.beta,
            epsilon=work.config.epsilon,
            delta=policy_objectives.most_ratio(work.config.epsilon),
            loss_type="bnpo",
        ),
    )
    return trainer, groups.figures | credit


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
    tokens, (t, d), or (t, 0) where nobody looks. `dropped`: prompts that were left out, as they have fewer
    than k replies."""

    batch: dict[str, Tensor]
    samples: list[Sample]
    so_far: list[list[float]]
    states: list[Tensor]
    k: int
    dropped: int

    @property
    def count(self) -> int:
        return len(self.samples) // self.k

    @property
    def figures(self) -> dict[str, Any]:
        return {"groups": self.count, "k": self.k, "dropped": self.dropped}


def policy_batch(work: Round) -> Groups:
    groups, k = policy_data.full_groups(work.data)
    if all(len({work.data.rewards[row] for row in group}) == 1 for group in groups):
        # What is left are penalties and rounding, which `reach` would make much of.
        raise NothingToLearn(f"no prompt has {k} replies that differ in reward: there is nothing to learn")
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
        len(policy_data.groups_of(work.data)) - len(groups),
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
