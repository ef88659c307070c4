import math

import pytest
import torch

from workers.objectives import bradley_terry, rloo_advantages, rloo_loss, thumb_logistic


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_bradley_terry_has_the_gradient_that_finite_differences_give():
    p, margin = torch.tensor([1.0, 0.0, 0.5]).double(), torch.tensor([0.3, 0.0, 0.7]).double()
    assert torch.autograd.gradcheck(
        lambda a, b: bradley_terry(a, b, p, margin, 0.1), (column(0.2, -1.0, 2.0), column(0.5, 0.1, -0.4))
    )


def test_thumb_logistic_has_the_gradient_that_finite_differences_give():
    y = torch.tensor([1.0, 0.0]).double()
    assert torch.autograd.gradcheck(lambda r: thumb_logistic(r, y, 0.1), (column(0.7, -0.2),))


def test_rloo_loss_has_the_gradient_that_finite_differences_give():
    torch.manual_seed(0)
    logps = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    old, advantages = logps.detach() + 0.05 * torch.randn(4, 3).double(), torch.randn(4).double()
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
    assert torch.autograd.gradcheck(lambda x: rloo_loss(x, old, advantages, mask, 0.5, 10.0), (logps,))


def test_a_comparison_of_equals_costs_a_bit_and_a_margin_asks_for_more():
    zero, one = torch.zeros(1), torch.ones(1)
    assert bradley_terry(zero, zero, one, zero, 0.0).item() == pytest.approx(math.log(2))
    assert bradley_terry(one, zero, one, one, 0.0).item() == pytest.approx(math.log(2))
    assert bradley_terry(zero, one, zero, one, 0.0).item() == pytest.approx(math.log(2))


def test_a_tie_pulls_rewards_together_and_ignores_the_margin():
    r_a = torch.tensor([1.0], requires_grad=True)
    loss = bradley_terry(r_a, torch.zeros(1), torch.tensor([0.5]), torch.tensor([3.0]), 0.0)
    loss.backward()
    assert r_a.grad is not None
    assert r_a.grad.item() == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item() - 0.5)


def test_smoothing_has_its_best_reward_at_a_finite_place():
    rewards = torch.linspace(-10, 10, 2001)
    losses = thumb_logistic(rewards, torch.ones(2001), 0.1)
    assert rewards[losses.argmin()].item() == pytest.approx(math.log(0.95 / 0.05), abs=0.02)


def test_advantages_are_the_reward_less_the_mean_of_the_others():
    rewards = torch.tensor([[1.0, 2.0, 6.0]])
    kl = torch.tensor([[0.0, 10.0, 0.0]])
    found = rloo_advantages(rewards, kl, 0.1, scale=False)
    assert found[0].tolist() == pytest.approx([1 - 3.5, 1 - 3.5, 6 - 1.0])


def test_equal_rewards_leave_nothing_to_learn():
    assert rloo_advantages(torch.ones(2, 4), torch.zeros(2, 4), 0.1, scale=True).abs().max() == 0


def test_at_the_sampling_policy_the_gradient_is_the_advantage_for_every_token_that_counts():
    logps = torch.full((2, 3), -1.5, requires_grad=True)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    rloo_loss(logps, logps.detach(), torch.tensor([2.0, -1.0]), mask, 0.2, 4.0).backward()
    assert logps.grad is not None
    assert logps.grad.tolist() == [[-0.5, -0.5, -0.5], [0.25, 0.0, 0.0]]


def test_a_token_that_moved_far_enough_in_the_right_direction_is_left_alone():
    logps = torch.tensor([[0.5]], requires_grad=True)
    rloo_loss(logps, torch.zeros(1, 1), torch.ones(1), torch.ones(1, 1), 0.2, 1.0).backward()
    assert logps.grad is not None
    assert logps.grad.item() == 0
