"""The probe, against an engine whose log-probabilities are set by the test."""

import math
from collections.abc import AsyncIterator

import pytest

from serving.engine import Engine, EngineRefused, new_session
from serving.fleet import Wanted, load_and_probe
from serving.probe import ProbeFailed, probe

EXPECTED = {"token_ids": [[5, 6, 7, 8], [5, 9]], "prompt_lengths": [2, 1], "logprobs": [[-0.5, -0.5], [-0.5]]}


@pytest.fixture
async def served(engine_server, engine) -> AsyncIterator[Engine]:
    engine.adapters["policy-v1"] = "/adapters/one"
    async with new_session() as session:
        yield Engine(engine_server.url, session)


async def test_a_good_adapter_is_near_its_trainer_and_far_from_the_base(served):
    assert await probe(served, "policy-v1", EXPECTED) == {"to_base": 0.5, "to_trainer": 0.0}


async def test_without_the_trainers_figures_it_must_at_least_differ(served):
    assert (await probe(served, "policy-v1", None))["to_base"] == 0.5


@pytest.mark.parametrize(
    ("logprob", "message"),
    [
        (math.nan, "not finite"),
        (-1.0, "the engine ignores the adapter"),
        (-4.0, "away from the trainer's"),
    ],
)
async def test_a_broken_adapter_is_refused_and_not_kept(served, engine, tmp_path, logprob, message):
    engine.logprob["policy-v2"] = logprob
    with pytest.raises(ProbeFailed, match=message):
        await load_and_probe(served, Wanted("policy-v2", tmp_path, EXPECTED))
    assert "policy-v2" not in engine.adapters


def changed_by(change: float) -> dict:
    """What a trainer says whose version gives -1.01 everywhere, after a base at -1.01 - change."""
    rows = [[5, 6, 7, 8], [5, 9]]
    trained, base = [[-1.01] * 2, [-1.01]], [[-1.01 - change] * 2, [-1.01 - change]]
    return {"token_ids": rows, "prompt_lengths": [2, 1], "logprobs": trained, "base_logprobs": base}


@pytest.mark.parametrize("change", [0.1, -0.1])
async def test_an_adapter_that_only_noise_tells_from_the_base_is_refused(served, engine, change):
    """Near its trainer, and not exactly the base, but not changed as the trainer changed it."""
    engine.logprob |= {"policy-v0": -1.01 - change / 2, "policy-v1": -1.01 - change / 2 + change / 50}
    with pytest.raises(ProbeFailed, match="only 2% of the trainer's change"):
        await probe(served, "policy-v1", changed_by(change))


@pytest.mark.parametrize("change", [0.1, -0.1])
async def test_an_adapter_that_changes_as_in_the_trainer_passes_with_its_noise(served, engine, change):
    engine.logprob |= {"policy-v0": -1.04 - change, "policy-v1": -1.01 - change / 4}
    assert (await probe(served, "policy-v1", changed_by(change)))["to_trainer"] < 0.03


@pytest.mark.parametrize(("change", "drift"), [(0.01, 0.0), (0.1, 0.08)])
async def test_a_change_within_the_noise_is_not_judged(served, engine, change, drift):
    engine.logprob |= {"policy-v0": -1.01 - change - drift, "policy-v1": -1.011 - change - drift}
    await probe(served, "policy-v1", changed_by(change))


async def test_an_adapter_that_the_engine_refuses(served, tmp_path):
    with pytest.raises(EngineRefused, match="max_lora_rank"):
        await load_and_probe(served, Wanted("policy-v2", tmp_path / "rank-64", EXPECTED))


async def test_one_that_somebody_else_has_just_loaded_is_probed_all_the_same(served, engine):
    loaded = await load_and_probe(served, Wanted("policy-v1", engine.adapters["policy-v1"], EXPECTED))
    assert (loaded.to_base, loaded.to_trainer) == (0.5, 0.0)
    assert "policy-v1" in engine.adapters
