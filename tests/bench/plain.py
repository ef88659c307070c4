"""A plain TRL script, as one would write it without Thumbwheel: replies by transformers' `generate`, the best
of each prompt against the worst by the gold score, TRL's DPOTrainer on a LoRA, round after round. Torch.

    python -m tests.bench.plain DIR

DIR/stage.json in, DIR/legs.json out, rewritten after each round. One process; nothing is loaded twice. The
reference is the base, as it is for the stage.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor
from transformers import AutoTokenizer

from tests.bench.gold import scorer
from tests.bench.race import Leg, mean_and_error
from tests.bench.stock import StockDPO, dpo_config, generate, load_base, lora, row_of, tokens_of
from workers.labels import Sample, by_prompt, read_prompts
from workers.packing import enable
from workers.policy.data import Rollouts, Tokens, best_and_worst
from workers.policy.model import base_logprobs, reply_logprobs
from workers.references import read_references
from workers.stage import Stage, StageConfig, StageError, die_with_worker, run, write_json

BUDGET = 2048


class Config(StageConfig):
    """`began`: Unix seconds from which it counts. `target`: the gold mean at which it ends before `rounds`.
    `together`: replies that are generated at once. `autocast`: TRL's default, `bf16=True`."""

    base_model: str
    prompts: Path
    scorer: str
    began: float
    rounds: int
    target: float | None
    k: int
    max_tokens: int
    together: int = 32
    autocast: bool = False
    rank: int
    targets: tuple[str, ...]
    top_layers: float
    pairs: int
    learning_rate: float
    beta: float
    epochs: int
    batch: int
    max_grad_norm: float
    seed: int


def main(config: Config, stage: Stage) -> dict[str, Any]:
    torch.manual_seed(config.seed)
    tokenizer = AutoTokenizer.from_pretrained(config.base_model)
    prompts = read_prompts(config.prompts, holdout=False)
    score = scorer(config.scorer)
    model = load_base(config.base_model)
    loaded = time.time() - config.began
    legs: list[Leg] = []
    training, trained = 0.0, 0
    while True:
        stage.progress(len(legs), config.rounds + 1, f"sampling for round {len(legs) + 1}")
        began = time.time()
        samples = generate(model, tokenizer, prompts, config.k, config.max_tokens, config.together)
        sampling = time.time() - began
        rewards = [score(sample.reply) for sample in samples]
        note = "" if legs else f"loading took {loaded:.1f} s"
        legs.append(leg_of(config.began, samples, rewards, sampling, training, trained, note))
        write_json(stage.path("legs.json"), [asdict(leg) for leg in legs])
        if len(legs) > config.rounds or (config.target is not None and legs[-1].gold >= config.target):
            return {"loaded": loaded, "rounds": len(legs) - 1} | distance(model, tokenizer, samples)
        began = time.time()
        rows = rows_of(samples, rewards, config.pairs)
        model = train(model, tokenizer, rows, config, stage.path(f"trainer-{len(legs)}"))
        training, trained = time.time() - began, tokens_of(rows) * config.epochs


def distance(model: Any, tokenizer: Any, samples: list[Sample]) -> dict[str, float]:
    """How far the policy is from the base by its own replies, nats a token, and how much less likely the
    gate's reference texts are to it, as a share. After the last leg, so nobody waits for it."""
    if not isinstance(model, PeftModel):
        return {"kl_base": 0.0, "nll_rise": 0.0}
    enable(model.get_base_model())
    replies = [(sample.prompt_token_ids, sample.token_ids) for sample in samples]
    mine, base = logprobs_of(model, replies)
    tokens = Tokens(tokenizer)
    texts = [tokens.reply(text.messages, text.reply, "stop") for text in read_references()]
    now, before = logprobs_of(model, [(text.prompt, text.tokens) for text in texts])
    return {"kl_base": float((mine - base).mean()), "nll_rise": float(now.mean() / before.mean()) - 1}


def logprobs_of(model: PeftModel, replies: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """The log-probabilities of all replies' tokens, under the policy and under the base."""
    prompts, tokens = zip(*replies, strict=True)
    return (
        torch.cat(reply_logprobs(model, prompts, tokens, BUDGET)),
        torch.cat(base_logprobs(model, prompts, tokens, BUDGET)),
    )


def train(model: Any, tokenizer: Any, rows: list[dict[str, Any]], config: Config, folder: Path) -> Any:
    """The model with its adapter, one round further."""
    layers = model.config.num_hidden_layers
    new = lora(config.rank, config.targets, layers, config.top_layers)
    trainer = StockDPO(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
        peft_config=None if isinstance(model, PeftModel) else new,
        args=dpo_config(
            config.autocast,
            folder=folder,
            learning_rate=config.learning_rate,
            beta=config.beta,
            epochs=config.epochs,
            batch=config.batch,
            max_grad_norm=config.max_grad_norm,
            seed=config.seed,
        ),
    )
    if "ref" in trainer.model.peft_config:
        trainer.model.delete_adapter("ref")
    trainer.train()
    return trainer.model


def rows_of(samples: list[Sample], rewards: list[float], pairs: int) -> list[dict[str, Any]]:
    """The best reply of each prompt against the worst, and so on, as the stage pairs them."""
    found = best_and_worst(Rollouts(samples, rewards, [], []), pairs)
    if not found:
        raise StageError("no prompt has two replies of different gold score: there is nothing to prefer")
    return [row_of(samples[best], samples[worst]) for best, worst in found]


def leg_of(
    began: float,
    samples: list[Sample],
    rewards: list[float],
    sampling: float,
    training: float,
    trained: int,
    note: str = "",
) -> Leg:
    gold, error = mean_and_error(list(by_prompt(samples, rewards).values()))
    sampled = sum(len(sample.token_ids) for sample in samples)
    return Leg(time.time() - began, gold, error, training, trained, sampling, sampled, note)


if __name__ == "__main__":
    die_with_worker()
    run(Config, main)
