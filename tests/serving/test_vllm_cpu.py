"""The plugin's arithmetic, on vLLM's own classes; that vLLM takes it up is seen in tests/e2e."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vllm.lora.layers import LoRAMapping
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.platforms import current_platform
from vllm.v1.attention.backends import cpu_attn
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from serving.vllm_cpu import (
    GroupedPunica,
    fused_norm,
    register,
    rows_by_slot,
    without_amx,
    without_rewinding,
)

SLOTS, RANK, WIDE, OUT = 3, 4, 16, (8, 6)
ADAPTERS = [11, 12, 13]  # by slot


def punica(tokens: list[int]) -> GroupedPunica:
    """After vLLM was told which adapter (0: the base) each token is for."""
    wrapper = GroupedPunica(64, 64, "cpu")
    wrapper.update_metadata(LoRAMapping(tuple(tokens), tuple(tokens), is_prefill=True), ADAPTERS, SLOTS, 100)
    return wrapper


@pytest.mark.parametrize(
    "tokens",
    [
        [0, 0, 0],
        [11, 11],
        [13, 13, 0, 0],
        [0, 13, 0, 12, 13, 11, 0],
    ],
    ids=["base alone", "one adapter", "base beside the last slot", "all mixed"],
)
def test_each_token_gets_its_own_adapter_and_the_base_none(tokens):
    torch.manual_seed(0)
    a = [torch.randn(SLOTS, 1, RANK, WIDE) for _ in OUT]
    b = [torch.randn(SLOTS, 1, width, RANK) for width in OUT]
    x, y = torch.randn(len(tokens), WIDE), torch.randn(len(tokens), sum(OUT))
    expected = y.clone()
    for row, token in enumerate(tokens):
        if token:
            slot = ADAPTERS.index(token)
            expected[row] += torch.cat([b[i][slot, 0] @ a[i][slot, 0] @ x[row] for i in range(len(OUT))])
    punica(tokens).add_lora_linear(y, x, tuple(a), tuple(b), 1.0, OUT)
    torch.testing.assert_close(y, expected)


def test_a_broken_adapter_in_the_last_slot_does_not_reach_the_base():
    a, b = torch.zeros(SLOTS, 1, RANK, WIDE), torch.full((SLOTS, 1, 8, RANK), float("nan"))
    y = torch.zeros(3, 8)
    punica([0, 13, 0]).add_lora_linear(y, torch.ones(3, WIDE), (a,), (b,), 1.0, (8,))
    assert y[[0, 2]].eq(0).all()
    assert y[1].isnan().all()


def test_rows_that_lie_together_are_a_slice():
    (first, second) = rows_by_slot(torch.tensor([1, 1, -1, 2, -1, 2]))
    assert (first.slot, first.where) == (1, slice(0, 2))
    assert second.slot == 2
    assert second.where.tolist() == [3, 5]


@pytest.mark.parametrize(("chosen", "used"), [("amx", "vec"), ("vec", "vec"), ("neon", "neon")])
def test_the_amx_kernel_is_never_used(chosen, used):
    assert without_amx(lambda: chosen)() == used


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_normalises_as_the_operators_do(dtype):
    torch.manual_seed(0)
    norm = layer_norm(torch.randn(64).to(dtype))
    x, residual = torch.randn(2, 5, 64).to(dtype)
    bound = {"atol": 0.04, "rtol": 0.02} if dtype == torch.bfloat16 else {"atol": 1e-5, "rtol": 1e-5}
    alone = RMSNorm.forward_native(norm, x)
    both = RMSNorm.forward_native(norm, x, residual)
    forward = fused_norm(refuse)
    torch.testing.assert_close(forward(norm, x), alone, **bound)
    normed, summed = forward(norm, x.clone(), residual.clone())
    torch.testing.assert_close(summed, both[1], **bound)
    torch.testing.assert_close(normed, both[0], **bound)


@pytest.mark.parametrize(
    ("odd", "x"),
    [
        ({"has_weight": False}, torch.ones(3, 8)),
        ({"variance_size_override": 4}, torch.ones(3, 8)),
        ({"weight": torch.ones(8)}, torch.ones(3, 8, dtype=torch.bfloat16)),
        ({}, torch.ones(8, 3).T),
    ],
    ids=["no weight", "a part", "another precision", "strides"],
)
def test_what_the_kernel_does_not_know_is_left_to_the_operators(odd, x):
    norm = SimpleNamespace(**{**vars(layer_norm(torch.ones(8))), **odd})
    assert fused_norm(lambda norm, x, residual: (x, residual))(norm, x, None) == (x, None)


def layer_norm(weight: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(
        weight=weight,
        has_weight=True,
        pass_weight=True,
        pass_weight_add=True,
        variance_epsilon=1e-5,
        variance_size_override=None,
    )


def refuse(*_: object) -> None:
    raise AssertionError("the operators are not wanted")


def test_a_row_that_is_still_reading_its_prompt_draws_nothing():
    """vLLM would wind its generator back afterwards, and a CPU's generator has no offset."""
    generators = {row: torch.Generator() for row in range(3)}
    runner = SimpleNamespace(
        input_batch=SimpleNamespace(generators=dict(generators), num_reqs=3),
        discard_request_mask=SimpleNamespace(np=np.array([False, True, False, True])),
    )
    drawn = without_rewinding(lambda runner: sorted(runner.input_batch.generators))(runner)
    assert drawn == [0, 2]
    assert runner.input_batch.generators == generators


def test_registering_twice_mends_once():
    def mended():
        return CPUModelRunner.sample_tokens, cpu_attn._get_attn_isa, RMSNorm.forward_cpu

    register()
    once = mended()
    register()
    assert mended() == once
    assert {function.__module__ for function in once} == {"serving.vllm_cpu"}
    assert current_platform.get_punica_wrapper() == "serving.vllm_cpu.GroupedPunica"
