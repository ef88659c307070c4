import pytest
import torch

from workers import holding
from workers.holding import Held, per_text
from workers.packing import Reply, pack, score_pack
from workers.policy_model import base_logprobs, load_policy, reply_logprobs

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
TEXTS = [Reply([1, 5, 6], [11, 12, 2]), Reply([1, 7], [15, 2]), Reply([1, 7], [14, 16, 17, 2])]
PROMPTS, REPLIES = [text.prompt for text in TEXTS], [text.tokens for text in TEXTS]


@pytest.fixture
def policy(moved_policy):
    return moved_policy(std=0.2, top_layers=0.5)


@pytest.fixture
def held(policy) -> Held:
    base = base_logprobs(policy, PROMPTS, REPLIES, 256)
    return Held(policy.get_base_model(), TEXTS, base, 256)


def test_a_texts_gradient_is_that_of_its_tokens_alone(policy, held):
    row = pack(TEXTS, [0, 1, 2], share=False)
    which = torch.tensor([True, True, False, True, False, True, False, True, False])
    with held._watched() as seen:
        found = score_pack(policy.get_base_model(), row).logprobs
    each = per_text(found, which, row, [seen[layer] for layer in held._layers])
    for number, text in enumerate(TEXTS):
        policy.zero_grad()
        alone = score_pack(policy.get_base_model(), pack([text], [0])).logprobs
        alone[which[row.reply == number]].sum().backward()
        expected = torch.cat([layer.weight.grad.flatten() for layer in held._layers])
        assert torch.cosine_similarity(each[number], expected, dim=0) > 0.99
        assert float(each[number].norm() / expected.norm()) == pytest.approx(1, abs=0.03)


def test_a_step_brings_texts_back_to_where_they_are_to_the_base_and_is_short(policy, held):
    weights = torch.cat([layer.weight.detach().flatten() for layer in held._layers])
    before = off(policy, held)
    held.restore()
    first = off(policy, held)
    held.restore()
    assert first < 0.6 * before
    assert off(policy, held) < 0.4 * before
    now = torch.cat([layer.weight.detach().flatten() for layer in held._layers])
    assert 0 < float((now - weights).norm()) < 0.5 * float(weights.norm())


def test_another_step_goes_along_the_slopes_of_the_first(policy, held, monkeypatch):
    asked = []
    monkeypatch.setattr(holding, "per_text", lambda *given: asked.append(given) or per_text(*given))
    before = off(policy, held)
    held.restore(again=True)
    assert len(asked) == 3, "there are no slopes yet"
    first = off(policy, held)
    held.restore(again=True)
    assert len(asked) == 3
    assert off(policy, held) < 0.8 * first < 0.5 * before
    held.restore()
    assert len(asked) == 6


def off(policy, held) -> float:
    """What all but the last token of a text have moved together, and the last one, on average."""
    mine = reply_logprobs(policy, PROMPTS, REPLIES, 256)
    moved = [now - before for now, before in zip(mine, held._base, strict=True)]
    return float(torch.tensor([part for row in moved for part in (row[:-1].sum(), row[-1])]).abs().mean())


def test_what_is_where_it_was_stays_there(tiny_model):
    model = load_policy(tiny_model, None, 4, TARGETS)
    held = Held(model.get_base_model(), TEXTS, base_logprobs(model, PROMPTS, REPLIES, 256), 256)
    before = {name: value.clone() for name, value in model.named_parameters()}
    held.restore()
    assert (
        max(float((value - before[name]).detach().abs().max()) for name, value in model.named_parameters())
        < 1e-3
    )
