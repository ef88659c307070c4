import pytest
import torch

from workers.policy.objectives import (
    grpo_advantages,
    kl_k2,
    kl_k3,
    kl_weighted,
    rloo_advantages,
    rloo_loss,
)


def test_rloo_loss_has_the_gradient_that_finite_differences_give():
    torch.manual_seed(0)
    logps = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    old, advantages = logps.detach() + 0.05 * torch.randn(4, 3).double(), torch.randn(4).double()
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
    assert torch.autograd.gradcheck(lambda x: rloo_loss(x, old, advantages, mask, 0.5, 10.0), (logps,))


def test_advantages_are_the_reward_less_the_mean_of_the_others():
    rewards = torch.tensor([[1.0, 2.0, 6.0]])
    kl = torch.tensor([[0.0, 10.0, 0.0]])
    found = rloo_advantages(rewards, kl, 0.1, scale=False)
    assert found[0].tolist() == pytest.approx([1 - 3.5, 1 - 3.5, 6 - 1.0])


def test_equal_rewards_leave_nothing_to_learn():
    assert rloo_advantages(torch.ones(2, 4), torch.zeros(2, 4), 0.1, scale=True).abs().max() == 0
    assert grpo_advantages(torch.ones(2, 4)).abs().max() == 0


def test_a_group_that_hardly_differs_counts_for_little_beside_one_that_does():
    found = grpo_advantages(torch.tensor([[1.0, 1.01], [0.0, 4.0]]))
    assert found.std().item() == pytest.approx(1.0, rel=1e-3)
    assert found.sum(1).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert (found[1] / found[0]).tolist() == pytest.approx([400.0, 400.0], rel=1e-3)


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


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize(("ratio", "bounded"), [(9.0, True), (2.4, False)])
def test_no_token_counts_more_than_the_clip_allows_whatever_its_advantage(advantage, ratio, bounded):
    """At ε = 1.5; PPO's clip would leave a bad token nine times its gradient."""
    logps = torch.tensor([[0.0]], requires_grad=True)
    old = -torch.tensor([[ratio]]).log()
    rloo_loss(logps, old, torch.tensor([advantage]), torch.ones(1, 1), 1.5, 1.0).backward()
    assert logps.grad is not None
    assert logps.grad.item() == pytest.approx(0.0 if bounded else -advantage * ratio)


def test_kl_weighted_is_the_kl_of_one_policy_by_tokens_of_another():
    """Of four tokens that another said, each as often as it says it, the mean is a sum over all tokens."""
    policy, base = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.6, 0.1, 0.3])
    wrote, said = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0, 0, 1, 2])
    direct = float((policy * (policy / base).log()).sum())
    found = kl_weighted((policy / base).log()[said], (policy / wrote).log()[said])
    assert float(found) == pytest.approx(direct, rel=1e-5)
    assert float(kl_weighted(torch.zeros(3), torch.randn(3))) == 0
    near = kl_weighted((policy / base).log()[said], torch.zeros(4))
    assert float(near) == pytest.approx(float((policy / base).log()[said].mean())), "it wrote them itself"


def test_k2_is_k3_where_both_are_near_and_leads_back_from_either_side():
    near = torch.tensor([0.02, -0.01, 0.03], dtype=torch.float64)
    assert float(kl_k2(near)) == pytest.approx(float(kl_k3(near)), rel=0.05)
    apart = torch.tensor([1.0, -2.0], requires_grad=True)
    kl_k2(apart).backward()
    assert apart.grad is not None
    assert apart.grad.tolist() == pytest.approx([0.5, -1.0])
