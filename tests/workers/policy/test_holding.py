import pytest
import torch

from workers.packing import Reply, pack, score_pack
from workers.policy.holding import SECTIONS, Held, per_text, sections_of
from workers.policy.model import base_logprobs, load_policy, reply_logprobs

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
TEXTS = [
    Reply([1, 5, 6], [11, 12, 13, 14, 16, 15, 2]),
    Reply([1, 7], [15, 2]),
    Reply([1, 7], [14, 16, 17, 18, 11, 2]),
]
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
    which = torch.tensor([True, True, False, True, False] * 3)
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
    linear = held._linear
    monkeypatch.setattr(held, "_linear", lambda: asked.append(1) or linear())
    before = off(policy, held)
    held.restore(again=True)
    assert len(asked) == 1, "there are no slopes yet"
    first = off(policy, held)
    held.restore(again=True)
    assert len(asked) == 1
    assert off(policy, held) < 0.8 * first < 0.5 * before
    held.restore()
    assert len(asked) == 2


def restored(policy, share: float) -> torch.Tensor:
    """How far each token of a text moves by three steps, whose opening lacks a nat of the base's and whose
    rest has one more."""
    before = reply_logprobs(policy, PROMPTS[:1], REPLIES[:1], 256)[0]
    base = before.clone()
    base[0] += 1.0
    base[3] -= 1.0
    alone = Held(policy.get_base_model(), TEXTS[:1], [base], 256)
    for _ in range(3):
        alone.restore(share=share)
    return reply_logprobs(policy, PROMPTS[:1], REPLIES[:1], 256)[0] - before


def test_an_opening_and_a_rest_that_moved_against_each_other_are_both_brought_back(policy):
    """Their sum is where it was, so a step that knows only the sum would leave them."""
    moved = restored(policy, share=1.0)
    assert float(moved[:3].sum()) > 0.6
    assert float(moved[3:-1].sum()) < -0.6


def test_an_opening_is_given_all_and_a_rest_its_share(policy):
    moved = restored(policy, share=0.0)
    assert float(moved[:3].sum()) > 0.6
    assert abs(float(moved[3:-1].sum())) < 0.3
    assert abs(float(moved[-1])) < 0.3


def test_a_text_has_an_opening_a_rest_and_an_end_as_far_as_it_goes():
    assert sections_of(6).tolist() == [0, 0, 0, 1, 1, 2]
    assert sections_of(4).tolist() == [0, 0, 0, 2]
    assert sections_of(2).tolist() == [0, 2]
    assert sections_of(1).tolist() == [2]


def off(policy, held) -> float:
    """What the sections of texts have moved, on average."""
    mine = reply_logprobs(policy, PROMPTS, REPLIES, 256)
    moved = [
        float((now - before)[sections_of(len(now)) == section].sum().abs())
        for now, before in zip(mine, held._base, strict=True)
        for section in range(SECTIONS)
    ]
    return sum(moved) / len(moved)


def test_what_is_where_it_was_stays_there(tiny_model):
    model = load_policy(tiny_model, None, 4, TARGETS)
    held = Held(model.get_base_model(), TEXTS, base_logprobs(model, PROMPTS, REPLIES, 256), 256)
    before = {name: value.clone() for name, value in model.named_parameters()}
    held.restore()
    assert (
        max(float((value - before[name]).detach().abs().max()) for name, value in model.named_parameters())
        < 1e-3
    )
