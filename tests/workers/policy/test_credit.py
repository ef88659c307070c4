import random

import pytest
import torch
from transformers import AutoTokenizer

from workers.policy import credit
from workers.policy.credit import deal_out, fit_values, gae, of_others, standing
from workers.reward.style import features, looks

PROMPTS = 24
REPLIES = 4
TOKENS = 12


def walks(signal: float, seed: int = 0):
    """Replies whose one lucky token, seen in the state after it, makes their advantage."""
    chance, dice = torch.Generator().manual_seed(seed), random.Random(seed)
    states, style, advantages, prompts, lucky = [], [], [], [], []
    for prompt in range(PROMPTS):
        for reply in range(REPLIES):
            state = torch.randn(TOKENS, 8, generator=chance)
            at, good = dice.randrange(1, TOKENS), reply % 2 == 0
            state[at:, 0] += signal * (1 if good else -1)
            states.append(state)
            style.append(torch.zeros(TOKENS, 3))
            advantages.append(1.0 if good else -1.0)
            prompts.append(f"p{prompt}")
            lucky.append(at - 1)  # the token that led to it
    return states, style, torch.tensor(advantages), prompts, lucky


def test_gae_is_the_sum_of_what_each_token_changed_of_the_value():
    values, advantage, decay = torch.tensor([0.1, 0.4, -0.2]), 1.5, 0.7
    delta = [0.4 - 0.1, -0.2 - 0.4, 1.5 + 0.2]
    expected = [sum(decay**step * delta[at + step] for step in range(3 - at)) for at in range(3)]
    assert gae(values, advantage, decay).tolist() == pytest.approx(expected, rel=1e-5)


def test_without_decay_what_the_tokens_get_adds_up_to_the_whole():
    values = torch.randn(9, generator=torch.Generator().manual_seed(1))
    assert float(gae(values, 2.0, 0.0).sum()) == pytest.approx(2.0 - float(values[0]), rel=1e-4)


def test_the_token_that_made_the_difference_gets_the_credit():
    states, style, advantages, prompts, lucky = walks(signal=4.0)
    found = deal_out(states, style, advantages, prompts, 0.3, seed=0)
    assert found.explained > 0.3
    signed = [part * sign for part, sign in zip(found.advantages, advantages, strict=True)]
    theirs = torch.tensor([part[at] for part, at in zip(signed, lucky, strict=True)])
    others = [(part.sum() - part[at]) / (TOKENS - 1) for part, at in zip(signed, lucky, strict=True)]
    assert float(theirs.mean()) > 4 * abs(float(torch.stack(others).mean()))


def test_values_that_explain_nothing_leave_every_token_the_whole_advantage():
    states, style, _, prompts, _ = walks(signal=0.0)
    chance = torch.Generator().manual_seed(5)
    advantages = torch.randn(len(states), generator=chance)
    found = deal_out(states, style, advantages, prompts, 0.5, seed=0)
    assert found.explained <= credit.LEAST
    for part, advantage in zip(found.advantages, advantages, strict=True):
        assert part.tolist() == [float(advantage)] * TOKENS


def test_a_decay_of_one_needs_no_states():
    found = deal_out(
        [torch.empty(3, 0), torch.empty(5, 0)], [], torch.tensor([1.0, -1.0]), ["p", "p"], 1.0, 0
    )
    assert [part.tolist() for part in found.advantages] == [[1.0] * 3, [-1.0] * 5]


def test_a_reply_is_valued_by_a_fit_that_never_saw_its_prompt():
    """Where every prompt has a direction of its own that gives its rewards away, nothing carries over."""
    states, style, prompts, advantages = [], [], [], []
    for prompt in range(PROMPTS):
        for reply in range(REPLIES):
            state = torch.zeros(TOKENS, PROMPTS)
            state[:, prompt] = 1.0 if reply % 2 else -1.0
            states.append(state)
            style.append(torch.zeros(TOKENS, 1))
            prompts.append(f"p{prompt}")
            advantages.append(1.0 if reply % 2 else -1.0)
    _, explained = fit_values(states, style, torch.tensor(advantages), prompts, seed=0)
    assert explained <= 0.0


def test_a_wide_state_is_projected_and_still_tells(monkeypatch):
    monkeypatch.setattr(credit, "WIDEST", 6)
    states, style, advantages, prompts, _ = walks(signal=6.0)
    assert deal_out(states, style, advantages, prompts, 0.5, seed=0).explained > 0.2


def test_looks_are_those_of_the_reply_before_each_token(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = tokenizer.encode("good nice lovely", add_special_tokens=False)
    found = torch.tensor(looks(tokenizer.decode, ids))
    assert found.tolist() == [
        pytest.approx(features(str(tokenizer.decode(ids[:end])), None), rel=1e-5) for end in range(len(ids))
    ]
    assert not torch.equal(found[0], found[1])


def test_dealing_out_leaves_the_tokens_standard_deviation_as_it_was():
    states, style, advantages, prompts, _ = walks(signal=4.0)
    found = deal_out(states, style, 3 * advantages, prompts, 0.5, seed=0)
    assert float(torch.cat(found.advantages).std()) == pytest.approx(3.0, rel=0.01)


def scored(informed: bool):
    """Replies whose advantage comes with one token; and what a reward model makes of them before each, and
    whole, which tells only if it is `informed`."""
    chance = torch.Generator().manual_seed(3)
    shape = (PROMPTS, REPLIES)
    rewards = torch.randn(shape, generator=chance)
    lucky = torch.randint(0, TOKENS - 1, shape, generator=chance).flatten()
    so_far = [torch.zeros(TOKENS) for _ in lucky]
    for row, at, reward in zip(so_far, lucky, rewards.flatten(), strict=True):
        row[at + 1 :] = reward if informed else 0.0
    advantages = (rewards - rewards.mean(1, keepdim=True)).flatten()
    others = of_others(rewards).flatten()
    return [standing(*row) for row in zip(so_far, others, strict=True)], advantages, lucky


def test_what_the_reward_model_makes_of_a_reply_so_far_tells_which_token_earned_it():
    states, _, _, prompts, _ = walks(signal=0.0)
    prefixes, advantages, lucky = scored(informed=True)
    found = deal_out(states, prefixes, advantages, prompts, 0.3, seed=0)
    assert found.explained > 0.3
    signed = [part * whole for part, whole in zip(found.advantages, advantages, strict=True)]
    theirs = torch.tensor([float(part[at]) for part, at in zip(signed, lucky, strict=True)])
    assert float(theirs.mean()) > 3 * float(torch.cat(signed).mean())


def test_scores_that_tell_nothing_on_the_way_leave_every_token_the_whole_advantage():
    """The others' scores alone foresee a part of every advantage, but not which token earned it."""
    states, _, _, prompts, _ = walks(signal=0.0)
    prefixes, advantages, _ = scored(informed=False)
    found = deal_out(states, prefixes, advantages, prompts, 0.3, seed=0)
    assert found.explained <= credit.LEAST
    for part, advantage in zip(found.advantages, advantages, strict=True):
        assert part.tolist() == [float(advantage)] * TOKENS


def test_the_others_are_the_rest_of_the_group():
    assert of_others(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[4.0, 3.5, 1.5]]


def test_values_are_right_on_average_at_each_place():
    """So that no place, the first above all, is to blame for what all replies have in common."""
    states, style, advantages, prompts, _ = walks(signal=2.0)
    for state in states:
        state[0] = 5.0  # every reply begins alike, and unlike it goes on
    values, _ = fit_values(states, style, advantages, prompts, 0)
    by_place = torch.stack(values).mean(0)
    assert by_place.abs().max() < 0.05
