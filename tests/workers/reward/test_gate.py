import math

import numpy as np
import pytest

from workers.reward.gate import (
    SURELY,
    Bin,
    RewardEvidence,
    auroc,
    calibration_error,
    judge_follows,
    judge_reward,
    paired_gain,
    reliability,
    telling,
)
from workers.statistics import bootstrap_interval

CHANCE = math.log(2)


def evidence(losses: list[float], weights: list[float] | None = None, groups: list[str] | None = None):
    n = len(losses)
    return RewardEvidence(
        losses, [CHANCE] * n, weights or [1.0] * n, groups or [str(number) for number in range(n)]
    )


def accepted(new: RewardEvidence, old: RewardEvidence | None, confidence: float = 0.8) -> bool:
    return judge_reward(paired_gain(new, old, confidence), old is None, confidence).accepted


def test_a_first_reward_model_must_beat_chance():
    assert accepted(evidence([0.3] * 20), None)
    assert not accepted(evidence([0.9] * 20), None)
    assert not accepted(evidence([math.nan] * 3), None)


def test_one_that_is_surely_worse_on_the_holdout_alone_does_not_pass():
    new, old = evidence([0.3] * 40), evidence([0.5] * 40)
    gain = paired_gain(new, old, 0.8)
    worse = paired_gain(evidence([0.6] * 12), evidence([0.5] * 12), SURELY)
    found = judge_reward(gain, False, 0.8, holdout=worse)
    assert not found.accepted
    assert (
        "surely worse than the live one on the holdout alone: log loss 0.600 against 0.500"
        in found.reasons[0]
    )
    mixed = paired_gain(evidence([0.6, 0.4] * 6), evidence([0.5] * 12), SURELY)
    assert judge_reward(gain, False, 0.8, holdout=mixed).accepted
    assert judge_reward(gain, False, 0.8, holdout=None).accepted


def test_of_two_judges_the_one_that_is_surprised_less_is_taken():
    old = evidence([0.5, 0.7] * 6)
    better, worse = evidence([0.4, 0.6] * 6), evidence([0.6, 0.8] * 6)
    perhaps = evidence([0.3, 0.95, 0.2, 0.9] * 3)
    assert judge_follows(paired_gain(better, old, 0.8), False, False)
    assert not judge_follows(paired_gain(worse, old, 0.8), False, True)
    unsure = paired_gain(perhaps, old, 0.8)
    assert unsure.mean > 0 > unsure.interval[0]
    assert judge_follows(unsure, False, True), "beside new members"
    assert not judge_follows(unsure, False, False), "no version for so little"


def test_of_two_judges_the_holdout_decides_where_it_is_sure_and_else_all_labels_that_are_new_to_both():
    old = evidence([0.5] * 12)
    better, worse, either = ([0.4] * 12, [0.6] * 12, [0.6, 0.41] * 6)
    wide = paired_gain(evidence([0.45] * 48), evidence([0.5] * 48), 0.6)
    for sure in (better, worse):
        holdout = paired_gain(evidence(sure), old, SURELY)
        assert telling(holdout, wide) is holdout
    unsure = paired_gain(evidence(either), old, SURELY)
    assert unsure.mean < 0 < unsure.interval[1]
    assert telling(unsure, wide) is wide
    assert judge_follows(telling(unsure, wide), False, False)
    seems_better = paired_gain(evidence([0.3, 0.68] * 6), old, SURELY)
    assert seems_better.mean > 0 > seems_better.interval[0]
    against = paired_gain(evidence([0.55] * 48), evidence([0.5] * 48), 0.6)
    assert not judge_follows(telling(seems_better, against), False, True)
    assert telling(None, wide) is None, "without a holdout none is compared"
    alone = paired_gain(evidence(better, groups=["one"] * 12), old, SURELY)
    assert alone.interval[0] > 0
    assert telling(alone, wide) is wide, "one conversation is never sure"


def test_a_judge_that_cannot_be_compared_comes_and_stays_with_its_members():
    for first in (True, False):
        assert judge_follows(None, first, True)
        assert not judge_follows(None, first, False)
    assert not judge_follows(paired_gain(evidence([0.1] * 9), None, 0.8), True, False)


def test_a_reward_model_must_beat_the_one_it_replaces_on_the_same_labels():
    old, new = evidence([0.5, 0.6, 0.4]), evidence([0.4, 0.5, 0.3])
    assert accepted(new, old)
    assert not accepted(old, new)
    assert not accepted(old, old)


def test_the_test_is_paired():
    """The same small gain on labels of very different losses is sure, one that comes and goes is not."""
    hard = np.random.default_rng(0).uniform(0.1, 3, 40)
    old = evidence(hard.tolist())
    assert accepted(evidence((hard - 0.01).tolist()), old, 0.99)
    noisy = hard - 0.01 + np.tile([0.3, -0.3], 20)
    assert not accepted(evidence(noisy.tolist()), old, 0.99)


def test_the_level_decides_between_a_gain_and_a_sure_gain():
    new = evidence([0.1, 0.7, 1.0, 0.2, 0.8, 0.6, 0.75, 0.5])
    gain = paired_gain(new, None, 0.8)
    assert gain is not None
    assert gain.mean > 0
    assert accepted(new, None, 0.5)
    assert accepted(new, None, 0.6)
    found = judge_reward(paired_gain(new, None, 0.95), True, 0.95)
    assert not found.accepted
    assert "not surely better than chance" in found.reasons[0]
    assert "95%" in found.reasons[0]


@pytest.mark.parametrize("confidence", [0.6, 0.8])
def test_one_that_is_no_better_passes_as_often_as_the_level_says(confidence):
    dice, passed = np.random.default_rng(0), 0
    for _ in range(400):
        old = dice.uniform(0, 1, 24)
        passed += accepted(
            evidence((old + dice.normal(0, 0.2, 24)).tolist()), evidence(old.tolist()), confidence
        )
    assert passed / 400 == pytest.approx(1 - confidence, abs=0.07)


def test_labels_count_by_their_weight():
    old = evidence([0.7] * 12, weights=[0.01] * 10 + [1.0] * 2)
    new = evidence([0.8] * 10 + [0.1] * 2, weights=[0.01] * 10 + [1.0] * 2)
    gain = paired_gain(new, old, 0.6)
    assert gain is not None
    assert gain.mean == pytest.approx((0.6 * 2 - 0.1 * 0.1) / 2.1)
    assert gain.new == pytest.approx((0.1 * 2 + 0.8 * 0.1) / 2.1)


def test_labels_of_one_conversation_stand_or_fall_together():
    losses, other = [0.2] * 10 + [0.9] * 10, [0.6] * 20
    apart = paired_gain(evidence(losses), evidence(other), 0.8)
    together = paired_gain(evidence(losses, groups=["x"] * 10 + ["y"] * 10), evidence(other), 0.8)
    assert apart is not None
    assert together is not None
    assert apart.mean == pytest.approx(together.mean)
    assert together.interval[0] < apart.interval[0]


def test_one_conversation_is_taken_label_by_label_and_the_verdict_says_so():
    losses, other = [0.2] * 10 + [0.6] * 10, [0.6] * 20
    lone = paired_gain(evidence(losses, groups=["x"] * 20), evidence(other), 0.8)
    apart = paired_gain(evidence(losses), evidence(other), 0.8)
    assert lone is not None
    assert apart is not None
    assert lone.interval == apart.interval
    found = judge_reward(lone, False, 0.8)
    assert found.accepted
    assert "of one conversation" in found.reasons[0]
    assert "conversation" not in judge_reward(apart, False, 0.8).reasons[0]


def test_without_a_held_out_label_the_first_goes_unseen_and_the_live_one_stays():
    assert judge_reward(None, True, 0.6).accepted
    assert not judge_reward(None, False, 0.6).accepted
    assert paired_gain(evidence([]), None, 0.6) is None
    assert paired_gain(evidence([0.1]), None, 0.6) is None, "one label tells as little as none"


def test_the_interval_is_the_bootstrap_that_the_gate_uses():
    losses = [0.1, 0.5, 0.9, 0.3]
    gain = paired_gain(evidence(losses), None, 0.9)
    assert gain is not None
    assert gain.interval == pytest.approx(bootstrap_interval([CHANCE - loss for loss in losses], 0.8))


def test_auroc():
    assert auroc([3.0, 2.0, 1.0], [True, True, False]) == 1.0
    assert auroc([1.0, 1.0], [True, False]) == 0.5
    assert auroc([1.0], [True]) is None


def test_reliability_and_the_calibration_error_that_it_comes_to():
    bins = reliability([0.9, 0.9, 0.1, 0.1, 0.5], [1, 1, 0, 0, 1])
    assert bins == [Bin(pytest.approx(0.1), 0.0, 2), Bin(0.5, 1.0, 1), Bin(pytest.approx(0.9), 1.0, 2)]
    assert calibration_error(bins) == pytest.approx((2 * 0.1 + 0.5 + 2 * 0.1) / 5)
    assert calibration_error(reliability([], [])) is None
    assert reliability([1.0], [1.0]) == [Bin(1.0, 1.0, 1)]
