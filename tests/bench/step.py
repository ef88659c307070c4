"""The optimise stage's steps against those of the stock trainer: the same pairs, the same adapter, the same
loss, in turns, so that the machine's noise hits both alike. Torch.

Stock is `trl.DPOTrainer` with its own padded batches and fused head, the reference by its own forward with
the adapter switched off. Ours is the stage's trainer over packed rows, with the reference's log-probabilities
before each step; they are timed too, and each step begins without what lower layers made of its texts. Nobody
moves: the gradients of all steps are of the same adapter, and so can be compared, their sum and one by one.
"""

import argparse
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from torch import Tensor
from transformers import AutoTokenizer
from trl.trainer.utils import add_fused_lm_head

from deploy.demo.prompts import RATED
from deploy.settings import DeploySettings
from tests.bench.stock import StockDPO, dpo_config, generate, load_base, lora, row_of, tokens_of
from tests.bench.turns import Runner, Step, table_of, take_turns, trained
from workers.frozen import frozen_of
from workers.labels import Prompt, Sample, by_prompt, read_samples, write_samples
from workers.methods.config import Config
from workers.packing import IGNORED, install
from workers.policy.data import Reply
from workers.policy.model import base_logprobs, load_policy
from workers.policy.objectives import rloo_loss
from workers.policy.trainers import SampledDPO, padded

B_STD = 0.005  # about what the entries of B are after a round
K = 8  # replies in a group of the policy gradient
GENERATED_AT_ONCE = 32


def main(args: argparse.Namespace, folder: Path, console: Console) -> None:
    settings = DeploySettings(**({"model": args.model} if args.model else {}))
    if settings.model_is_local and not Path(settings.model).exists():
        raise SystemExit(f"{settings.model} is not there: run deploy/up once, or give --model")
    config = Config(
        base_model=settings.model,
        init=None,
        method="online_dpo",
        scores=folder / "none",
        **settings.prefixed("optimise"),
    )
    if args.batch:
        config = config.model_copy(update={"batch": args.batch})
    size = max(1, config.pace.batch // 2)
    tokenizer = AutoTokenizer.from_pretrained(config.base_model)
    samples = _samples(args, config, tokenizer, size)
    rows, groups = pairs_of(samples), groups_of(samples)
    if len(rows) < size or not groups:
        raise SystemExit(f"{len(rows)} pairs are too few for a step of {size}, or no prompt has two replies")
    runners = make_runners(config, tokenizer, rows, folder, args.beside)
    console.print(_facts(config, samples), markup=False)
    batches = [rows[first : first + size] for first in range(0, len(rows) - size + 1, size)]
    take_turns(runners, args.steps, lambda runner: dpo_step(runner, batches, config.budget))
    console.print(table_of(f"DPO, {args.steps} steps of {size} pairs", runners))
    work = [make_group(runners[-1].model, group, tokenizer.pad_token_id, config) for group in groups]
    for runner in runners[:-1]:
        add_fused_lm_head(runner.model.get_base_model(), outputs=("log_probs", "entropy"))  # as RLOOTrainer
    take_turns(runners, args.steps, lambda runner: rloo_step(runner, work, config.epsilon))
    k = len(groups[0])
    console.print(table_of(f"RLOO, forward and backward, {args.steps} groups of {k}", runners))


def make_runners(
    config: Config, tokenizer: Any, rows: list[dict[str, Any]], folder: Path, beside: Sequence[str]
) -> list[Runner]:
    """Stock first, ours last, all with the same adapter."""
    torch.manual_seed(config.seed)
    policy = load_policy(config.base_model, None, config.rank, config.targets, config.top_layers)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=B_STD)
    adapter = {name: value.detach().clone() for name, value in trained(policy)}
    stock = [Runner("stock", *_stock(config, tokenizer, rows, folder, adapter))]
    if "autocast" in beside:
        made = _stock(config, tokenizer, rows, folder, adapter, autocast=True)
        stock.append(Runner("stock, bf16=True", *made))
    if "float32" in beside:
        made = _stock(config, tokenizer, rows, folder, adapter, dtype=torch.float32)
        stock.append(Runner("stock, base in float32", *made))
    mine = _prepare(SampledDPO, tokenizer, rows, model=policy, args=_arguments(config, folder))
    policy.delete_adapter("ref")
    install(policy.get_base_model(), config.budget)
    mine.precompute_ref_logps = True
    return [*stock, Runner("ours", mine, policy)]


def _stock(
    config: Config,
    tokenizer: Any,
    rows: list[dict[str, Any]],
    folder: Path,
    adapter: dict[str, Tensor],
    autocast: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[Any, Any]:
    base = load_base(config.base_model, dtype)
    shape = lora(config.rank, config.targets, base.config.num_hidden_layers, config.top_layers)
    arguments = _arguments(config, folder, autocast)
    trainer = _prepare(StockDPO, tokenizer, rows, model=base, peft_config=shape, args=arguments)
    with torch.no_grad():
        for name, parameter in trained(trainer.model):
            parameter.copy_(adapter[name])
    return trainer, trainer.model


def _prepare(kind: type, tokenizer: Any, rows: list[dict[str, Any]], **given: Any) -> Any:
    """A trainer that is ready for single steps, as its `train` would make it."""
    trainer = kind(processing_class=tokenizer, train_dataset=Dataset.from_list(rows), **given)
    trainer.current_gradient_accumulation_steps = 1
    trainer.accelerator.prepare_model(trainer.model)
    return trainer


def _arguments(config: Config, folder: Path, autocast: bool = False) -> Any:
    return dpo_config(
        autocast,
        folder=folder,
        learning_rate=config.pace.learning_rate,
        beta=config.pace.beta,
        epochs=1,
        batch=config.pace.batch,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
    )


def dpo_step(runner: Runner, batches: list[list[dict[str, Any]]], budget: int) -> Step:
    def step(number: int) -> tuple[float, int]:
        forget(runner.model)
        rows = batches[number % len(batches)]
        trainer = runner.trainer
        given = _referred(runner.model, rows, budget) if trainer.precompute_ref_logps else rows
        loss = trainer.training_step(trainer.model, trainer.data_collator(given))
        return float(loss), tokens_of(rows)

    return step


def forget(model: Any) -> None:
    """What the lower layers made of texts, so that no step gains from an earlier one."""
    if (frozen := frozen_of(model.get_base_model())) is not None:
        frozen.forget()


def _referred(model: Any, rows: list[dict[str, Any]], budget: int) -> list[dict[str, Any]]:
    """The rows with the reference's log-probabilities, as the stage makes them."""
    prompts = [row["prompt_ids"] for row in rows for _ in range(2)]
    replies = [reply for row in rows for reply in (row["chosen_ids"], row["rejected_ids"])]
    sums = [float(found.sum()) for found in base_logprobs(model, prompts, replies, budget)]
    return [
        row | {"ref_chosen_logps": sums[2 * place], "ref_rejected_logps": sums[2 * place + 1]}
        for place, row in enumerate(rows)
    ]


@dataclass(frozen=True)
class Group:
    """A prompt's replies as one padded batch; `old`, `mask`: (k, t - 1), `advantages`: (k,)."""

    batch: dict[str, Tensor]
    old: Tensor
    mask: Tensor
    advantages: Tensor
    tokens: int


def make_group(model: Any, samples: list[Sample], pad_id: int, config: Config) -> Group:
    """Sampled by the base, rewarded at random."""
    replies = [Reply(sample.prompt_token_ids, sample.token_ids) for sample in samples]
    batch = padded(replies, pad_id)
    mask = batch["labels"][:, 1:] != IGNORED
    prompts, tokens = [reply.prompt for reply in replies], [reply.tokens for reply in replies]
    old = torch.zeros(mask.shape, device=mask.device)
    old[mask] = torch.cat(base_logprobs(model, prompts, tokens, config.budget)).to(mask.device)
    generator = torch.Generator().manual_seed(config.seed)
    advantages = torch.randn(len(replies), generator=generator)
    count = sum(len(reply.prompt) + len(reply.tokens) for reply in replies)
    return Group(batch, old, mask, (advantages - advantages.mean()).to(mask.device), count)


def rloo_step(runner: Runner, groups: list[Group], epsilon: float) -> Step:
    def step(number: int) -> tuple[float, int]:
        forget(runner.model)
        group = groups[number % len(groups)]
        logps = runner.trainer.model(**group.batch, use_cache=False, fused_lm_head=True).log_probs
        scored = float(group.mask.sum())
        loss = rloo_loss(logps, group.old, group.advantages, group.mask, epsilon, scored)
        loss.backward()
        return float(loss.detach()), group.tokens

    return step


def pairs_of(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Of each prompt its first reply and the next that differs; which is better does not matter here."""
    pairs = []
    for first, *others in by_prompt(samples, samples).values():
        second = next((other for other in others if other.token_ids != first.token_ids), None)
        if second is not None:
            pairs.append(row_of(first, second))
    return pairs


def groups_of(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The prompts' replies, K of each or as many as the most answered one has."""
    groups = list(by_prompt(samples, samples).values())
    k = min(K, max(map(len, groups), default=0))
    return [group[:k] for group in groups if len(group) >= k > 1]


def _samples(args: argparse.Namespace, config: Config, tokenizer: Any, size: int) -> list[Sample]:
    """From the file where there is one; else the base's, two replies for each pair and K for each group."""
    if args.samples is not None and args.samples.exists():
        return read_samples(args.samples)
    model = load_base(config.base_model)
    texts = random.Random(config.seed).sample(RATED, min(len(RATED), args.steps * (size + 1)))
    prompts = [Prompt([{"role": "user", "content": text}], text, False) for text in texts]
    torch.manual_seed(config.seed)
    few = generate(model, tokenizer, prompts[args.steps :], 2, args.max_tokens, GENERATED_AT_ONCE)
    many = generate(model, tokenizer, prompts[: args.steps], K, args.max_tokens, GENERATED_AT_ONCE)
    samples = many + [replace(sample, prompt_id=sample.prompt_id + args.steps) for sample in few]
    if args.samples is not None:
        write_samples(args.samples, samples)
    return samples


def _facts(config: Config, samples: Sequence[Sample]) -> str:
    prompts = [len(sample.prompt_token_ids) for sample in samples]
    replies = [len(sample.token_ids) for sample in samples]
    return (
        f"{Path(config.base_model).name}, {torch.get_num_threads()} threads, "
        f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'unset')}; rank {config.rank} on "
        f"{', '.join(config.targets)}; prompts of {sum(prompts) / len(prompts):.0f} tokens, "
        f"replies of {sum(replies) / len(replies):.0f}"
    )
