"""In what numbers a CPU computes. No torch: the engine's flags are made with it too."""

from pathlib import Path

# How kernels name instructions that multiply bfloat16: x86 (AVX-512, AMX) and ARM.
INSTRUCTIONS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
CPU_INFO = Path("/proc/cpuinfo")


def cpu_precision(info: Path = CPU_INFO) -> str:
    """`bfloat16` where the CPU multiplies it, else `float32`, and where nobody says what it can.

    Without such instructions bfloat16 is taken apart and put together again for each product: with AVX2 alone
    an engine with 32 requests wrote a third of the tokens, and a training loop read a thirtieth of them
    (tests/bench/precision.py).
    """
    try:
        lines = info.read_text().splitlines()
    except OSError:
        return "float32"
    flags = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    return "bfloat16" if flags & INSTRUCTIONS else "float32"
