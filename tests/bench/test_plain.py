import pytest
import torch
from transformers import AutoTokenizer

from tests.bench import plain
from tests.bench.stock import generate, load_base
from tests.tiny import build
from workers.labels import Prompt, write_prompts
from workers.policy.model import trainable_hash
from workers.stage import Stage, StageError, read_json

PROMPTS = [Prompt([{"role": "user", "content": text}], text, False) for text in ("hi", "tell me about cats")]


@pytest.fixture
def config(tmp_path) -> plain.Config:
    torch.set_num_threads(1)
    write_prompts(tmp_path / "prompts.parquet", PROMPTS)
    return plain.Config(
        base_model=build(tmp_path / "model"),
        prompts=tmp_path / "prompts.parquet",
        scorer="phrase:good",
        began=0.0,
        rounds=2,
        target=None,
        k=8,
        max_tokens=12,
        rank=4,
        targets=("q_proj", "k_proj", "v_proj", "o_proj"),
        top_layers=1.0,
        pairs=4,
        learning_rate=1e-2,
        beta=0.1,
        epochs=1,
        batch=4,
        max_grad_norm=1.0,
        seed=0,
    )


@pytest.mark.slow
def test_the_script_runs_all_rounds_and_ends_early_at_the_target(config, tmp_path):
    metrics = plain.main(config, Stage(tmp_path))
    assert metrics["kl_base"] > 0.001
    assert metrics["nll_rise"] != 0
    legs = read_json(tmp_path / "legs.json")
    assert [leg["trained"] > 0 for leg in legs] == [False, True, True]
    assert len({leg["seconds"] for leg in legs}) == 3
    stayed = plain.main(config.model_copy(update={"target": 0.1}), Stage(tmp_path))
    assert stayed["kl_base"] == 0
    assert len(read_json(tmp_path / "legs.json")) == 1


@pytest.mark.slow
def test_a_round_goes_on_from_the_last_and_the_reference_stays_the_base(config, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(config.base_model)
    torch.manual_seed(0)
    model = load_base(config.base_model)
    samples = generate(model, tokenizer, PROMPTS, 8, 12, 8)
    rows = plain.rows_of(samples, [float("good" in sample.reply) for sample in samples], 4)
    once = plain.train(model, tokenizer, rows, config, tmp_path / "1")
    first = trainable_hash(once)
    twice = plain.train(once, tokenizer, rows, config, tmp_path / "2")
    assert twice is once
    assert list(twice.peft_config) == ["default"]
    assert trainable_hash(twice) != first


def test_equal_scores_are_nothing_to_prefer(config):
    model, tokenizer = load_base(config.base_model), AutoTokenizer.from_pretrained(config.base_model)
    samples = generate(model, tokenizer, PROMPTS, 2, 4, 4)
    with pytest.raises(StageError, match="nothing to prefer"):
        plain.rows_of(samples, [0.5] * 4, 1)
