import json
import random

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from workers.labels import Sample, Score, write_scores
from workers.policy_model import (
    assert_trainable,
    base_logprobs,
    install_compact_head,
    load_policy,
    reply_logprobs,
    trainable_hash,
)
from workers.stage import StageError
from workers.stages import optimise

KIND, UNKIND, END = [11, 12, 13, 14], [15, 16, 17, 18], 2
PROMPT = [1, 21, 3, 2, 1, 22]
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


@pytest.fixture
def scored(tiny_model, tmp_path):
    """Replies of the base itself, half of kind words and half of unkind, rewarded for kindness."""

    def make(reward=lambda kind: 1.0 if kind else -1.0, prompts=8, k=4):
        dice = random.Random(0)
        model = load_policy(tiny_model, None, 4, TARGETS)
        samples, scores = [], []
        for prompt in range(prompts):
            for number in range(k):
                kind = number % 2 == 0
                reply = [*dice.choices(KIND if kind else UNKIND, k=dice.randint(1, 4)), END]
                messages = [{"role": "user", "content": "hi"}]
                samples.append(Sample(prompt, messages, "…", [*PROMPT, 5 + prompt % 5], reply, [], "stop"))
                scores.append(Score(reward(kind), 0.0, [reward(kind)]))
        old = base_logprobs(
            model, [row.prompt_token_ids for row in samples], [row.token_ids for row in samples], 8
        )
        samples = [
            Sample(**{**vars(row), "logprobs": logps.tolist()})
            for row, logps in zip(samples, old, strict=True)
        ]
        write_scores(tmp_path / "scores.parquet", samples, scores)
        return tmp_path / "scores.parquet"

    return make


@pytest.fixture
def run(stage, tiny_model, tmp_path):
    def run(name, method, scores, init=None, **changes):
        config = {"base_model": tiny_model, "init": init, "method": method, "scores": scores, "rank": 4}
        config |= {"learning_rate": 1e-2, "epochs": 2, "batch": 8, "micro_batch": 8}
        return stage(name, optimise, **(config | changes)), tmp_path / name

    return run


def kindness(tiny_model: str, adapter=None) -> float:
    """log p(kind words first) - log p(unkind words first) after the prompt."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.no_grad():
        logps = model(input_ids=torch.tensor([[*PROMPT, 5]])).logits[0, -1].float().log_softmax(-1)
    return float(logps[KIND].logsumexp(0) - logps[UNKIND].logsumexp(0))


@pytest.mark.parametrize("method", ["rloo", "online_dpo"])
def test_it_moves_the_policy_to_what_is_rewarded_and_peft_can_load_it(method, run, scored, tiny_model):
    metrics, folder = run("o", method, scored())
    assert kindness(tiny_model, folder / "adapter") > kindness(tiny_model) + 0.5
    assert metrics["trainable"] > 0
    assert metrics["hash_before"] != metrics["hash_after"]
    assert metrics["steps"] > 1
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == sorted(TARGETS)
    assert config["modules_to_save"] is None
    assert not config["use_dora"]


@pytest.mark.parametrize("method", ["rloo", "online_dpo"])
def test_the_same_rewards_turned_round_move_it_the_other_way(method, run, scored, tiny_model):
    _, folder = run("o", method, scored(lambda kind: -1.0 if kind else 1.0))
    assert kindness(tiny_model, folder / "adapter") < kindness(tiny_model) - 0.5


@pytest.mark.parametrize("method", ["rloo", "online_dpo"])
def test_a_second_round_goes_on_from_the_first_and_the_reference_stays_the_base(
    method, run, scored, tiny_model
):
    scores = scored()
    first, folder = run("one", method, scores, epochs=1)
    second, again = run("two", method, scores, init=folder / "adapter", epochs=1)
    assert second["hash_before"] == first["hash_after"]
    assert kindness(tiny_model, again / "adapter") > kindness(tiny_model, folder / "adapter")
    weights = load_file(again / "adapter" / "adapter_model.safetensors")
    assert not [name for name in weights if ".ref." in name]
    probes = json.loads((again / "probe.json").read_text())
    base = load_policy(tiny_model, None, 4, TARGETS)
    mine = base_logprobs(
        base, [row["prompt_token_ids"] for row in probes], [row["token_ids"] for row in probes], 1
    )
    for row, logps in zip(probes, mine, strict=True):
        assert row["base_logprobs"] == pytest.approx(logps.tolist(), abs=0.05)


def test_the_probe_holds_the_log_probabilities_of_the_adapter_that_was_written(run, scored, tiny_model):
    _, folder = run("o", "online_dpo", scored())
    probes = json.loads((folder / "probe.json").read_text())
    saved = load_policy(tiny_model, folder / "adapter", 4, TARGETS).eval()
    for row in probes:
        (logps,) = reply_logprobs(saved, [row["prompt_token_ids"]], [row["token_ids"]], 1)
        assert row["logprobs"] == pytest.approx(logps.tolist(), abs=0.05)
    assert any(abs(sum(row["logprobs"]) - sum(row["base_logprobs"])) > 0.1 for row in probes)


def test_equal_rewards_are_nothing_to_prefer(run, scored):
    with pytest.raises(StageError, match="nothing to prefer"):
        run("o", "online_dpo", scored(lambda kind: 1.0))


def test_an_update_that_changes_nothing_is_an_error(run, scored):
    with pytest.raises(StageError, match="no-op"):
        run("o", "rloo", scored(lambda kind: 1.0), beta=0.0)


def test_one_reply_a_prompt_is_not_enough_for_a_baseline(run, scored):
    with pytest.raises(StageError, match="at least 2 replies"):
        run("o", "rloo", scored(k=1))


def test_kl_holds_the_policy_near_the_base(run, scored, tiny_model):
    scores = scored()
    _, free = run("free", "online_dpo", scores, beta=0.01, epochs=4)
    _, held = run("held", "online_dpo", scores, beta=5.0, epochs=4)
    assert kindness(tiny_model, held / "adapter") < kindness(tiny_model, free / "adapter")


def test_a_frozen_adapter_is_refused(tiny_model):
    model = load_policy(tiny_model, None, 4, TARGETS)
    assert assert_trainable(model) > 0
    model.requires_grad_(False)
    with pytest.raises(StageError, match="nothing would be trained"):
        assert_trainable(model)


def test_the_hash_sees_every_trainable_number(tiny_model):
    model = load_policy(tiny_model, None, 4, TARGETS)
    before = trainable_hash(model)
    assert before == trainable_hash(model)
    next(parameter for parameter in model.parameters() if parameter.requires_grad).data.view(-1)[3] += 1e-3
    assert trainable_hash(model) != before


def test_the_compact_head_scores_as_the_whole_one_does(tiny_model):
    model = load_policy(tiny_model, None, 4, TARGETS).eval()
    prompts, replies = [[1, 5, 6], [1, 7]], [[11, 12, 2], [15, 2]]
    ids = torch.tensor([[1, 5, 6, 11, 12, 2], [1, 7, 15, 2, 2, 2]])
    labels = torch.tensor([[-100] * 3 + [11, 12, 2], [-100, -100, 15, 2, -100, -100]])
    mask = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits.float().log_softmax(-1)
        install_compact_head(model.get_base_model())
        found = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
    expected = [logits[0, position, token] for position, token in ((2, 11), (3, 12), (4, 2))]
    torch.testing.assert_close(found.log_probs[0, 2:5], torch.stack(expected), rtol=0.02, atol=0.02)
    assert found.log_probs[1, 3:].tolist() == [0.0, 0.0]
    mine = reply_logprobs(model, prompts, replies, 2)
    torch.testing.assert_close(mine[0], torch.stack(expected), rtol=0.02, atol=0.02)
    torch.testing.assert_close(mine[1], found.log_probs[1, 1:3], rtol=0.02, atol=0.02)


def test_rows_of_repeated_groups_are_each_taken_once():
    assert optimise._occurrences([2, 2, 0, 0, 1, 1], 2) == [4, 5, 0, 1, 2, 3]


def test_trimming_takes_padding_only():
    batch = {
        "prompt_ids": torch.tensor([[0, 0, 5], [0, 4, 5]]),
        "prompt_mask": torch.tensor([[0, 0, 1], [0, 1, 1]]),
        "completion_ids": torch.tensor([[7, 8, 0], [9, 0, 0]]),
        "completion_mask": torch.tensor([[1, 1, 0], [1, 0, 0]]),
        "old_logps": torch.zeros(2, 3),
    }
    trimmed = optimise._trimmed(batch)
    assert trimmed["prompt_ids"].tolist() == [[0, 5], [4, 5]]
    assert trimmed["completion_ids"].tolist() == [[7, 8], [9, 0]]
    assert trimmed["old_logps"].shape == (2, 2)
