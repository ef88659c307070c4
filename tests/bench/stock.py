"""What a plain TRL script is made of: transformers' `generate` and TRL's own DPOTrainer. Torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

from workers.device import device, precision
from workers.labels import Prompt, Sample
from workers.policy.trainers import Prepared


class StockDPO(Prepared, DPOTrainer):
    """TRL's own, with its collator, its padded batches and its fused head. Its rows are token ids already, so
    that it learns from the very tokens that were sampled; else it would write an end of turn behind replies
    that were cut."""


def dpo_arguments(
    folder: Path, learning_rate: float, beta: float, epochs: int, batch: int, max_grad_norm: float, seed: int
) -> dict[str, Any]:
    """For a DPOConfig, as the stage sets it. `batch`: replies a step."""
    return {
        "output_dir": str(folder),
        "use_cpu": device().type == "cpu",
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": max(1, batch // 2),
        "num_train_epochs": epochs,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "constant",
        "max_grad_norm": max_grad_norm,
        "beta": beta,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "seed": seed,
    }


def dpo_config(autocast: bool, **given: Any) -> DPOConfig:
    """`autocast`: TRL's default, bfloat16 for what a base in bfloat16 leaves in float32: the adapter."""
    return DPOConfig(**{**dpo_arguments(**given), "bf16": autocast})


def lora(rank: int, targets: Sequence[str], layers: int, top_layers: float) -> LoraConfig:
    """An adapter of the stage's shape, for a base of so many layers."""
    count = max(1, round(layers * top_layers))
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=2 * rank,
        target_modules=list(targets),
        lora_dropout=0.0,
        layers_to_transform=None if top_layers >= 1 else list(range(layers - count, layers)),
    )


def row_of(chosen: Sample, rejected: Sample) -> dict[str, Any]:
    """A pair, as TRL's collator wants it."""
    return {
        "prompt": "",
        "prompt_ids": chosen.prompt_token_ids,
        "chosen_ids": chosen.token_ids,
        "rejected_ids": rejected.token_ids,
    }


def tokens_of(rows: Sequence[dict[str, Any]]) -> int:
    """Of prompts and replies, without padding; a prompt counts once for each of its two replies."""
    return sum(2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows)


def generate(
    model: Any, tokenizer: Any, prompts: Sequence[Prompt], k: int, max_tokens: int, batch: int
) -> list[Sample]:
    """`k` replies to each prompt at temperature 1, `batch` at a time, padded on the left; without
    log-probabilities."""
    model.eval()
    tokenizer.padding_side = "left"
    asked = [number for number in range(len(prompts)) for _ in range(k)]
    samples = []
    for first in range(0, len(asked), batch):
        numbers = asked[first : first + batch]
        given = tokenizer.apply_chat_template(
            [prompts[number].messages for number in numbers],
            add_generation_prompt=True,
            padding=True,
            return_dict=True,
            return_tensors="pt",
        ).to(model.device)
        written = model.generate(
            input_ids=given["input_ids"],
            attention_mask=given["attention_mask"],
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            max_new_tokens=max_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )[:, given["input_ids"].shape[1] :].tolist()
        asks = [
            row[mask.bool()].tolist()
            for row, mask in zip(given["input_ids"], given["attention_mask"], strict=True)
        ]
        for number, ask, reply in zip(numbers, asks, written, strict=True):
            samples.append(_sample(number, prompts[number], ask, reply, tokenizer))
    return samples


def _sample(number: int, prompt: Prompt, ask: list[int], written: list[int], tokenizer: Any) -> Sample:
    end = tokenizer.eos_token_id
    tokens = written[: written.index(end) + 1] if end in written else written
    return Sample(
        prompt_id=number,
        messages=prompt.messages,
        reply=tokenizer.decode(tokens, skip_special_tokens=True),
        prompt_token_ids=ask,
        token_ids=tokens,
        logprobs=[],
        finish_reason="stop" if end in written else "length",
    )


def load_base(path: str, dtype: torch.dtype | None = None) -> Any:
    """In the stages' own precision, if nothing is said."""
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype or precision()).to(device())
