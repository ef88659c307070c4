import pytest
import torch
from transformers import AutoTokenizer

from tests.bench import step
from tests.bench.stock import generate, load_base, tokens_of
from tests.bench.turns import alike, take_turns
from tests.tiny import build
from workers.labels import Prompt
from workers.methods.config import Config

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
PROMPTS = [Prompt([{"role": "user", "content": text}], text, False) for text in ("hi", "tell me about cats")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    torch.set_num_threads(1)
    return build(tmp_path_factory.mktemp("tiny"))


def test_ours_and_the_stock_trainer_have_the_same_gradient(tiny, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    torch.manual_seed(0)
    samples = generate(load_base(tiny), tokenizer, PROMPTS, 4, 12, 8)
    config = Config(
        base_model=tiny,
        init=None,
        method="online_dpo",
        scores=tmp_path,
        targets=TARGETS,
        batch=4,
        top_layers=0.5,
    )
    rows = step.pairs_of(samples)
    stock, ours = step.make_runners(config, tokenizer, rows, tmp_path, [])
    take_turns([stock, ours], 1, lambda runner: step.dpo_step(runner, [rows], config.budget))
    assert stock.tokens == ours.tokens == tokens_of(rows)
    assert alike(ours.gradients, stock.gradients)[1] > 0.99
    assert ours.losses == pytest.approx(stock.losses, abs=0.01)
    groups = [step.make_group(ours.model, group, 2, config) for group in step.groups_of(samples)]
    take_turns([stock, ours], 2, lambda runner: step.rloo_step(runner, groups, config.epsilon))
    assert alike(ours.gradients, stock.gradients)[1] > 0.99
