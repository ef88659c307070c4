"""Where stages compute, and in what numbers. Torch; imported by stages only."""

import torch

from workers.precision import cpu_precision


def device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision() -> torch.dtype:
    """Of what is not trained: bfloat16, but on a CPU that has no instructions for it."""
    if device().type == "cuda" or cpu_precision() == "bfloat16":
        return torch.bfloat16
    return torch.float32
