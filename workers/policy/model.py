"""The policy as a trainer sees it: base + LoRA, and log-probabilities of sampled replies. Torch; imported by
stages only."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM

from workers.device import device, precision
from workers.frozen import frozen_of, keep_frozen
from workers.packing import Reply, enable, pack, plan, read_below, read_pack, score_pack, score_states
from workers.stage import StageError

Counted = Callable[[int], None]


def load_policy(
    base_model: str, init: Path | None, rank: int, targets: Sequence[str], top_layers: float = 1.0
) -> PeftModel:
    """The base with a trainable float32 adapter: `init` continued, or a new one that changes nothing yet, on
    the share `top_layers` of its layers from the top.

    Raises StageError when nothing would be trained, which neither PEFT nor TRL complain of.
    """
    base: Any = AutoModelForCausalLM.from_pretrained(base_model, dtype=precision())
    base.to(device())
    enable(base)
    if init is not None:
        model = PeftModel.from_pretrained(base, str(init), is_trainable=True)
    else:
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=rank,
            lora_alpha=2 * rank,
            target_modules=list(targets),
            lora_dropout=0.0,
            layers_to_transform=_top(base.config.num_hidden_layers, top_layers),
        )
        model = get_peft_model(base, config)
    assert_trainable(model)
    keep_frozen(base)
    return model


def _top(layers: int, share: float) -> list[int] | None:
    return None if share >= 1 else list(range(layers - max(1, round(layers * share)), layers))


def assert_trainable(model: torch.nn.Module) -> int:
    """The number of trainable parameters. StageError when there is none."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if trainable == 0:
        raise StageError("nothing would be trained: the model has no trainable parameter")
    return trainable


def assert_finite(model: torch.nn.Module) -> None:
    """StageError where a trainable parameter is not finite."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not parameter.isfinite().all():
            raise StageError(f"{name} is not finite after training: lower the learning rate")


def trainable_hash(model: torch.nn.Module) -> str:
    """SHA-256 of the trainable parameters, names and bytes."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def assert_moved(before: str, after: str) -> None:
    if before == after:
        raise StageError("the adapter did not change: the update was a no-op")


@torch.no_grad()
def reply_logprobs(
    model: PeftModel, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], budget: int
) -> list[Tensor]:
    """log p(y_t | x, y_<t) in nats for each token of each reply, under the active adapter: one (len,) tensor
    a reply, on the CPU. `budget`: tokens in one pass."""
    base: Any = model.get_base_model()
    texts = [Reply(list(prompt), list(reply)) for prompt, reply in zip(prompts, replies, strict=True)]
    found: list[Tensor] = [torch.empty(0)] * len(texts)
    for row in plan(texts, budget):
        packed = pack(texts, row)
        logprobs = score_pack(base, packed).logprobs.cpu()
        for place, number in enumerate(row):
            found[number] = logprobs[packed.reply == place]
    return found


@torch.no_grad()
def read_base(
    model: PeftModel, replies: Sequence[Reply], budget: int, told: Counted = lambda count: None
) -> list[tuple[Tensor, Tensor]]:
    """The base's log-probability of each token of each reply, (len,), and its last hidden state before it,
    (len, d), in one pass; on the CPU. `told` hears how many replies are read."""
    base: Any = model.get_base_model()
    found: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * len(replies)
    done = 0
    with model.disable_adapter():
        for row in plan(replies, budget):
            packed = pack(replies, row)
            states = read_pack(base, packed)
            logprobs = score_states(base, packed, states).logprobs.cpu()
            states = states.cpu()
            for place, number in enumerate(row):
                its = packed.reply == place
                found[number] = (logprobs[its], states[its])
            done += len(row)
            told(done)
    return found


@torch.no_grad()
def read_lower(
    model: PeftModel, replies: Sequence[Reply], budget: int, told: Counted = lambda count: None
) -> list[Tensor] | None:
    """The hidden state that goes into the lowest adapter before each token of each reply, (len, d); on the
    CPU. The layers above do not run. None where more than half of the layers are above. `told` hears how many
    replies are read."""
    base: Any = model.get_base_model()
    if (frozen := frozen_of(base)) is None or frozen.share < 0.5:
        return None
    found: list[Tensor] = [torch.empty(0)] * len(replies)
    done = 0
    for row in plan(replies, budget):
        packed = pack(replies, row)
        states = read_below(base, packed, frozen).cpu()
        for place, number in enumerate(row):
            found[number] = states[packed.reply == place]
        done += len(row)
        told(done)
    return found


def base_logprobs(
    model: PeftModel, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], budget: int
) -> list[Tensor]:
    """`reply_logprobs` under the base, with the adapter switched off."""
    with model.disable_adapter():
        return reply_logprobs(model, prompts, replies, budget)
