"""The policy as a trainer sees it: base + LoRA, and log-probabilities of sampled replies. Torch; imported by
stages only."""

import hashlib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM
from trl.trainer.utils import FusedCausalLMOutput

from workers.device import device
from workers.stage import StageError

IGNORED = -100


def load_policy(base_model: str, init: Path | None, rank: int, targets: Sequence[str]) -> PeftModel:
    """The base in bfloat16 with a trainable float32 adapter: `init` continued, or a new one that changes
    nothing yet.

    Raises StageError when nothing would be trained, which neither PEFT nor TRL complain of.
    """
    base: Any = AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.bfloat16)
    base.to(device())
    if init is not None:
        model = PeftModel.from_pretrained(base, str(init), is_trainable=True)
    else:
        config = LoraConfig(
            task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules=list(targets), lora_dropout=0.0
        )
        model = get_peft_model(base, config)
    assert_trainable(model)
    return model


def assert_trainable(model: torch.nn.Module) -> int:
    """The number of trainable parameters. StageError when there is none."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if trainable == 0:
        raise StageError("nothing would be trained: the model has no trainable parameter")
    return trainable


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


def install_compact_head(model: Any) -> None:
    """Give a causal LM a `fused_lm_head=True` forward that projects the scored positions only.

    TRL's own runs the head over every position unless Triton is there, prompts and padding included, which on
    a CPU costs more than the rest of a small model. Elsewhere its kernels stay. `model` is the model below
    PEFT.
    """
    if model.device.type == "cpu":
        model.forward = types.MethodType(_compact_forward, model)


def _compact_forward(self: Any, labels: Tensor, fused_lm_head: bool, **inputs: Any) -> FusedCausalLMOutput:
    assert fused_lm_head, "this forward is for TRL's trainers"
    inputs["use_cache"] = False
    hidden = getattr(self, self.base_model_prefix)(**inputs).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    mask = targets != IGNORED
    logits = self.get_output_embeddings()(hidden[mask]).float()
    scored = targets[mask]
    log_z = logits.logsumexp(-1)
    log_probs = logits.gather(-1, scored[:, None]).squeeze(-1) - log_z
    with torch.no_grad():
        mean_logits = logits.mean(-1)
        is_top1 = logits.argmax(-1) == scored
        entropy = log_z - ((logits - log_z[:, None]).exp() * logits).sum(-1)

    def spread(values: Tensor) -> Tensor:
        return values.new_zeros(mask.shape).masked_scatter(mask, values)

    return FusedCausalLMOutput(
        loss=-log_probs.mean(),
        log_probs=spread(log_probs),
        entropy=spread(entropy),
        mean_logits=spread(mean_logits),
        is_top1=spread(is_top1),
        label_mask=mask,
    )


@torch.no_grad()
def reply_logprobs(
    model: PeftModel, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], batch: int
) -> list[Tensor]:
    """log p(y_t | x, y_<t) in nats for each token of each reply, under the active adapter: one (len,) tensor
    a reply."""
    base: Any = model.get_base_model()
    backbone, head = getattr(base, base.base_model_prefix), base.get_output_embeddings()
    found: list[Tensor] = [torch.empty(0)] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + len(replies[i]))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        sequences = [torch.tensor([*prompts[row], *replies[row]]) for row in rows]
        ids = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True).to(model.device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in sequences], batch_first=True)
        hidden = backbone(
            input_ids=ids, attention_mask=mask.to(model.device), use_cache=False
        ).last_hidden_state
        for place, row in enumerate(rows):
            first, length = len(prompts[row]), len(replies[row])
            logits = head(hidden[place, first - 1 : first - 1 + length]).float()
            scored = ids[place, first : first + length]
            found[row] = (logits.gather(-1, scored[:, None]).squeeze(-1) - logits.logsumexp(-1)).cpu()
    return found


def base_logprobs(
    model: PeftModel, prompts: Sequence[Sequence[int]], replies: Sequence[Sequence[int]], batch: int
) -> list[Tensor]:
    """`reply_logprobs` under the base, with the adapter switched off."""
    with model.disable_adapter():
        return reply_logprobs(model, prompts, replies, batch)
