"""Six mends of vLLM 0.32 on the CPU, which vLLM itself loads as a plugin (`vllm.general_plugins`).

1. A batch may mix the base (adapter index -1) with adapters. vLLM's CPU operators take -1 for the last slot,
   so replies of `policy-v0` were written with whatever adapter lay there (vllm-project/vllm#48421). They also
   gather a copy of the weights for every token; one product for each adapter is right, and cheaper.
2. Where there is AMX, the attention kernel written for it gave wrong replies (seen on one Xeon, at
   temperature 0, against transformers); the vector kernel gives the right ones.
3. A request with a `seed` whose prompt takes several steps ended the engine: at each step that only reads,
   the runner draws a number and winds the generator back, which a CPU's generator cannot. Now none is drawn.
4. The engine's processes wait for each other in a loop that keeps a core busy for a second after a message.
   Where a machine also trains, that core is missed; here they soon sleep until they are called.
5. With adapters vLLM compiles nothing on a CPU, and then normalises layers by eight of PyTorch's operators,
   though it has a kernel for it. Here that one is used (tokens/s at 1, 32 and 128 requests, one run each:
   27, 341, 455 without, 31, 437, 492 with).
6. A token is drawn by noise for each word of the vocabulary, two logarithms each: for 128 requests with
   SmolLM2's 49,152 words 59 ms of a core, a quarter of a step. The log-probabilities are there anyway; here
   one number a request says where in their running sum the token lies (9 ms).

Nobody imports this module but vLLM: it loads torch. On a GPU it does nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from vllm.distributed.device_communicators.shm_broadcast import SpinCondition
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.platforms import current_platform
from vllm.v1.attention.backends import cpu_attn
from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler, apply_top_k_top_p
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

SPIN = 0.003  # seconds; vLLM's own is 1
BLOCK = 256  # words of a vocabulary


@dataclass(frozen=True, slots=True)
class Rows:
    """The tokens of a batch that one adapter answers: a run where they lie together, else their numbers."""

    slot: int
    where: slice | Tensor


class GroupedPunica(PunicaWrapperCPU):  # type: ignore[misc]
    """y += x Aᵀ Bᵀ, adapter by adapter, on the tokens that are that adapter's and on no others."""

    _groups: list[Rows]

    def update_metadata(self, *given: Any, **named: Any) -> None:
        super().update_metadata(*given, **named)
        self._groups = rows_by_slot(self.token_lora_indices)

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **_: Any,
    ) -> None:
        """`y` (tokens, Σ output_slices), changed in place; `x` (tokens, in); A (slots, 1, rank, in) and B
        (slots, 1, out, rank), a pair for each slice of the output."""
        for rows in self._groups:
            mine, begin = x[rows.where], 0
            for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                part = y.narrow(1, begin, width)
                delta = mine @ a[rows.slot, 0].T @ b[rows.slot, 0].T
                if isinstance(rows.where, slice):
                    part[rows.where].add_(delta, alpha=scale)
                else:
                    part.index_add_(0, rows.where, delta, alpha=scale)
                begin += width


def rows_by_slot(indices: Tensor) -> list[Rows]:
    """From each token's adapter slot (tokens,), -1 for the base, to the rows of each slot that is used."""
    slots = sorted({slot for slot in indices.tolist() if slot >= 0})
    return [Rows(slot, _where((indices == slot).nonzero().squeeze(1))) for slot in slots]


def register() -> None:
    """Called by vLLM in each of its processes, before it loads a model; more than once in some."""
    if current_platform.is_cpu():
        type(current_platform).get_punica_wrapper = classmethod(lambda _: f"{__name__}.GroupedPunica")
        cpu_attn._get_attn_isa = _once(without_amx, cpu_attn._get_attn_isa)
        SpinCondition.__init__.__defaults__ = (SPIN,)
        CPUModelRunner.sample_tokens = _once(without_rewinding, CPUModelRunner.sample_tokens)
        RMSNorm.forward_cpu = _once(fused_norm, RMSNorm.forward_cpu)
        TopKTopPSampler.forward_cpu = _once(by_running_sum, TopKTopPSampler.forward_cpu)


def without_amx(choose: Callable[..., str]) -> Callable[..., str]:
    """vLLM's choice of an attention kernel, but for AMX."""

    def isa(*given: Any, **named: Any) -> str:
        chosen = choose(*given, **named)
        return "vec" if chosen == "amx" else chosen

    return isa


def without_rewinding(sample: Callable[..., Any]) -> Callable[..., Any]:
    """vLLM's sampling, without the generators of rows whose prompt is not read to its end."""

    def sample_tokens(runner: Any, *given: Any, **named: Any) -> Any:
        generators = runner.input_batch.generators
        reading = np.flatnonzero(runner.discard_request_mask.np[: runner.input_batch.num_reqs]).tolist()
        aside = {row: generators.pop(row) for row in reading if row in generators}
        try:
            return sample(runner, *given, **named)
        finally:
            generators.update(aside)

    return sample_tokens


def fused_norm(plain: Callable[..., Any]) -> Callable[..., Any]:
    """RMSNorm by vLLM's CPU kernel, `residual` added in place; by `plain` what that kernel does not know."""

    def forward_cpu(norm: Any, x: Tensor, residual: Tensor | None = None) -> Any:
        weight = norm.weight
        whole = norm.has_weight and norm.variance_size_override is None and weight.dtype == x.dtype
        if not whole or not x.is_contiguous() or not (residual is None or residual.is_contiguous()):
            return plain(norm, x, residual)
        if residual is None:
            normed = torch.empty_like(x)
            torch.ops._C.rms_norm(normed, x, weight, norm.variance_epsilon)
            return normed
        torch.ops._C.fused_add_rms_norm(x, residual, weight, norm.variance_epsilon)
        return x, residual

    return forward_cpu


def by_running_sum(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Tokens drawn from their log-probabilities, where those are asked for; else by `plain`. A request with a
    seed draws from its own generator."""

    def forward_cpu(
        sampler: Any,
        logits: Tensor,
        generators: dict[int, torch.Generator],
        k: Tensor | None,
        p: Tensor | None,
    ) -> Any:
        if sampler.logprobs_mode != "processed_logprobs" or sampler.use_fp64_gumbel:
            return plain(sampler, logits, generators, k, p)
        logprobs = apply_top_k_top_p(logits, k, p).log_softmax(dim=-1, dtype=torch.float32)
        chance = torch.rand(len(logprobs), dtype=torch.float64)
        for row, generator in generators.items():
            chance[row] = torch.rand((), dtype=torch.float64, generator=generator)
        return drawn(logprobs.exp(), chance), logprobs

    return forward_cpu


def drawn(weights: Tensor, chance: Tensor) -> Tensor:
    """For each row of `weights` (rows, words), none negative, the word (rows,) where their running sum passes
    the share `chance` (rows,), in [0, 1), of the whole: the inverse transform. By blocks of words first, so
    that no running sum is as long as the vocabulary. A word without weight is never drawn, save from a row
    of numbers that are none, where any may be."""
    words = weights.shape[1]
    if short := -words % BLOCK:
        weights = torch.nn.functional.pad(weights, (0, short))
    blocks = weights.reshape(len(weights), -1, BLOCK)
    block, rest = _passed(blocks.sum(-1), chance)
    word, _ = _passed(blocks[torch.arange(len(blocks)), block], rest)
    return (block * BLOCK + word).clamp(max=words - 1)


def _passed(weights: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Row by row (rows, n) the place where the running sum passes `share` of the whole, and which share of
    the weight at that place lies before."""
    sums = weights.cumsum(1, dtype=torch.float64)
    whole = sums[:, -1:].contiguous()
    point = share[:, None] * whole
    last = torch.searchsorted(sums, whole)  # the last place with any weight, which rounding may run past
    place = torch.searchsorted(sums, point, right=True).minimum(last).clamp(max=weights.shape[1] - 1)
    own = weights.gather(1, place)
    rest = 1 - (sums.gather(1, place) - point) / own
    return place[:, 0], rest[:, 0].nan_to_num(0).clamp(0, 1)


def _once(mend: Callable[[Any], Any], original: Any) -> Any:
    return original if original.__module__ == __name__ else mend(original)


def _where(rows: Tensor) -> slice | Tensor:
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows
