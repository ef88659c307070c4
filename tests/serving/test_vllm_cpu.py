"""The plugin's arithmetic, on vLLM's own classes; that vLLM takes it up is seen in tests/e2e."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from vllm.lora.layers import LoRAMapping
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.platforms import current_platform
from vllm.v1.attention.backends import cpu_attn
from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from serving.vllm_cpu import (
    GroupedPunica,
    by_running_sum,
    drawn,
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


@pytest.mark.slow
@pytest.mark.parametrize("words", [40, 600, 1024], ids=["less than a block", "a part of one", "whole ones"])
def test_words_are_drawn_as_often_as_they_are_likely(words):
    torch.manual_seed(0)
    draws = 200_000
    probabilities = (2 * torch.randn(words)).softmax(0)
    probabilities[::7] = 0
    probabilities /= probabilities.sum()
    parts = torch.rand(draws, dtype=torch.float64).split(2000)
    found = torch.cat([drawn(probabilities.expand(len(part), -1), part) for part in parts])
    counts = torch.bincount(found, minlength=words).double()
    assert len(counts) == words
    assert counts[::7].sum() == 0
    often = probabilities * draws >= 5
    expected = probabilities[often].double() * draws
    squares = float(((counts[often] - expected) ** 2 / expected).sum())
    assert chi2.sf(squares, int(often.sum()) - 1) > 0.001


def test_the_ends_of_the_running_sum_have_words_with_weight():
    weights = torch.zeros(3, 700)
    weights[:, 300:302] = 0.1
    last = 1 - 2**-53
    assert drawn(weights, torch.tensor([0.0, 0.6, last], dtype=torch.float64)).tolist() == [300, 301, 301]


def test_a_row_of_no_numbers_spoils_no_other_and_ends_nothing():
    weights = torch.full((2, 700), float("nan"))
    weights[1] = torch.eye(700)[650]
    broken, whole = drawn(weights, torch.tensor([0.5, 0.5], dtype=torch.float64)).tolist()
    assert 0 <= broken < 700
    assert whole == 650


def test_a_seed_draws_the_same_word_again_and_what_is_cut_off_is_never_drawn():
    torch.manual_seed(0)
    forward = by_running_sum(refuse)
    logits = torch.randn(1, 700).expand(400, -1).contiguous()
    sampler = SimpleNamespace(logprobs_mode="processed_logprobs", use_fp64_gumbel=False)
    seeded = {3: torch.Generator().manual_seed(7)}
    best = torch.full((400,), 5)
    found, logprobs = forward(sampler, logits.clone(), seeded, best, None)
    again, _ = forward(sampler, logits.clone(), {3: torch.Generator().manual_seed(7)}, best, None)
    assert found[3] == again[3]
    assert set(found.tolist()) == set(logits[0].topk(5).indices.tolist())
    assert (logprobs.exp() > 0).sum(1).tolist() == [5] * 400
    torch.testing.assert_close(logprobs.exp().sum(1), torch.ones(400))


@pytest.mark.parametrize("odd", [{"logprobs_mode": "raw_logprobs"}, {"use_fp64_gumbel": True}])
def test_other_ways_to_draw_are_left_to_vllm(odd):
    sampler = SimpleNamespace(**{"logprobs_mode": "processed_logprobs", "use_fp64_gumbel": False, **odd})
    assert by_running_sum(lambda *_: "vLLM's")(sampler, torch.ones(1, 8), {}, None, None) == "vLLM's"


def test_registering_twice_mends_once():
    def mended():
        return (
            CPUModelRunner.sample_tokens,
            cpu_attn._get_attn_isa,
            RMSNorm.forward_cpu,
            TopKTopPSampler.forward_cpu,
        )

    register()
    once = mended()
    register()
    assert mended() == once
    assert {function.__module__ for function in once} == {"serving.vllm_cpu"}
    assert current_platform.get_punica_wrapper() == "serving.vllm_cpu.GroupedPunica"
