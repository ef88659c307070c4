"""Policy adapters made by hand, for tests of publishing: `python -m tests.e2e.adapters BASE_MODEL DIR KIND`.

KIND: `good` (changed a little, with a true probe), `worse` (changed so much that it babbles), `nan`,
`foreign` (modules of another model), or `unwrapped` (modules that the engine was not told of).
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from workers.policy.model import load_policy, reply_logprobs

TARGETS = ("o_proj",)
UNWRAPPED = ("q_proj", "v_proj")
WEIGHTS = "adapter_model.safetensors"


def main(base_model: str, folder: Path, kind: str) -> None:
    torch.manual_seed(0)
    model = load_policy(base_model, None, 8, UNWRAPPED if kind == "unwrapped" else TARGETS)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=2.0 if kind == "worse" else 0.01)
    model.eval()
    model.save_pretrained(folder / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    prompt = tokenizer("Tell me about the sea.")["input_ids"]
    reply = tokenizer(" The sea is wide and blue, and ships go across it.")["input_ids"]
    (logprobs,) = reply_logprobs(model, [prompt], [reply], budget=256)
    row = {"prompt_token_ids": prompt, "token_ids": reply, "logprobs": logprobs.tolist()}
    (folder / "probe.json").write_text(json.dumps([row]))
    weights = load_file(folder / "adapter" / WEIGHTS)
    if kind == "nan":
        weights = {name: torch.full_like(value, float("nan")) for name, value in weights.items()}
    if kind == "foreign":
        weights = {
            name.replace("base_model.model.model", "base_model.model.other"): value
            for name, value in weights.items()
        }
    save_file(weights, folder / "adapter" / WEIGHTS)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
