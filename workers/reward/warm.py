"""Members averaged in weight space into one, at the cost of one (WARM, arXiv 2401.12187). Files in, files
out. Torch; imported by stages only.

The average is that of the updates ΔW = s·B·A, and not of A and of B, whose product would be something else.
It is exact as one adapter of rank K·r: s·[B_1 … B_K]/K · [A_1; …; A_K] = (1/K) Σ s·B_k·A_k. Heads are
averaged as they are.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WARM = "warm"
_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"


def average(directory: Path, names: Sequence[str], into: str = WARM) -> None:
    """Write `directory`/`into`, the average of the adapters `directory`/<name>. ValueError unless they were
    built alike."""
    configs = [json.loads((directory / name / _CONFIG).read_text(encoding="utf-8")) for name in names]
    shapes = {(config["r"], config["lora_alpha"], config["use_rslora"]) for config in configs}
    weights = [load_file(directory / name / _WEIGHTS) for name in names]
    if len(shapes) > 1 or len({frozenset(found) for found in weights}) > 1:
        raise ValueError(f"{', '.join(names)} differ in rank, scale or modules: there is no average of them")
    merged = {key: _merged(key, [found[key] for found in weights]) for key in weights[0]}
    count = len(names)
    config = configs[0] | {"r": configs[0]["r"] * count, "lora_alpha": configs[0]["lora_alpha"] * count}
    (directory / into).mkdir(exist_ok=True)
    save_file(merged, directory / into / _WEIGHTS, metadata={"format": "pt"})
    (directory / into / _CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")


def _merged(key: str, parts: list[Tensor]) -> Tensor:
    if ".lora_A." in key:
        return torch.cat(parts, 0).contiguous()
    if ".lora_B." in key:
        return (torch.cat(parts, 1) / len(parts)).contiguous()
    return torch.stack(parts).mean(0)
