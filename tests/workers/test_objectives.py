import math

import pytest
import torch

from workers.objectives import bradley_terry, offset_prior, scale_prior, thumb_logistic


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def plain_thumb(r: torch.Tensor, y: torch.Tensor, smoothing: float) -> torch.Tensor:
    return thumb_logistic(r, y, torch.tensor(1.0), torch.tensor(0.0), torch.zeros(len(y)), smoothing)


def test_bradley_terry_has_the_gradient_that_finite_differences_give():
    p, margin = torch.tensor([1.0, 0.0, 0.5]).double(), torch.tensor([0.3, 0.0, 0.7]).double()
    assert torch.autograd.gradcheck(
        lambda a, b: bradley_terry(a, b, p, margin, 0.1), (column(0.2, -1.0, 2.0), column(0.5, 0.1, -0.4))
    )


def test_thumb_logistic_has_the_gradient_that_finite_differences_give():
    y = torch.tensor([1.0, 0.0, 1.0]).double()
    given = (column(0.7, -0.2, 3.0), column(1.4), column(-0.3), column(0.5, 0.0, -1.0))
    assert torch.autograd.gradcheck(lambda r, a, b, u: thumb_logistic(r, y, a, b, u, 0.1), given)


def test_the_priors_have_the_gradient_that_finite_differences_give():
    assert torch.autograd.gradcheck(lambda u: offset_prior(u, 0.7), (column(0.5, -1.0),))
    assert torch.autograd.gradcheck(lambda a: scale_prior(a, 0.5), (column(1.7),))


def test_the_losses_are_what_their_formulas_say():
    def s(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    one = torch.ones(1)
    z = 2.0 * 0.5 - 0.3 + 0.1
    thumb = thumb_logistic(one * 0.5, one, torch.tensor(2.0), torch.tensor(-0.3), one * 0.1, 0.2)
    assert thumb.item() == pytest.approx(-(0.9 * math.log(s(z)) + 0.1 * math.log(s(-z))))
    pair = bradley_terry(one * 0.5, one * 0.2, one, one * 0.1, 0.2)
    assert pair.item() == pytest.approx(-(0.9 * math.log(s(0.2)) + 0.1 * math.log(s(-0.2))))
    assert offset_prior(torch.tensor([1.0, 2.0]), 0.5).item() == pytest.approx(5 / 0.5)
    assert scale_prior(torch.tensor(math.e), 1.0).item() == pytest.approx(0.5)


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
    losses = plain_thumb(rewards, torch.ones(2001), 0.1)
    assert rewards[losses.argmin()].item() == pytest.approx(math.log(0.95 / 0.05), abs=0.02)
