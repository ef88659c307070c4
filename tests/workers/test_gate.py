import math
from dataclasses import replace

import numpy as np
import pytest

from workers.gate import (
    Evidence,
    RewardEvidence,
    auroc,
    bootstrap_interval,
    calibration_error,
    judge_candidate,
    judge_reward,
    length_matched_win_rate,
    wilson_interval,
    win_probabilities,
)

GOOD = Evidence(win_rate=0.7, win_rate_interval=(0.6, 0.8), prompts=20, kl_base=0.1, empty=0.0, repeated=0.0)


def verdict(**changes: object) -> tuple[bool, str]:
    found = judge_candidate(replace(GOOD, **changes), min_prompts=4, max_kl=1.0)  # type: ignore[arg-type]
    return found.accepted, "; ".join(found.reasons)


def test_a_better_candidate_passes_and_says_by_how_much():
    accepted, why = verdict()
    assert accepted
    assert "70%" in why
    assert "[60%, 80%]" in why


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"win_rate_interval": (0.49, 0.8)}, "not surely"),
        ({"win_rate_interval": (0.5, 0.8)}, "not surely"),
        ({"win_rate": math.nan}, "not finite"),
        ({"win_rate_interval": (-math.inf, math.inf)}, "not finite"),
        ({"kl_base": 1.2}, "nats a token"),
        ({"kl_base": math.nan}, "not finite"),
        ({"prompts": 3}, "4 are needed"),
        ({"empty": 0.6}, "empty"),
        ({"repeated": 0.9}, "the same"),
    ],
)
def test_what_stops_a_candidate_is_said(changes, why):
    accepted, said = verdict(**changes)
    assert not accepted
    assert why in said


def test_win_probabilities_compare_all_replies_to_one_prompt_and_skip_what_one_side_did_not_answer():
    assert win_probabilities({0: [1.0, 3.0], 1: [0.0], 2: [1.0]}, {0: [2.0, 3.0], 1: [0.0]}) == [0.375, 0.5]


def test_an_equal_candidate_passes_about_as_rarely_as_the_confidence_says():
    dice, passed = np.random.default_rng(0), 0
    for trial in range(300):
        low, _ = bootstrap_interval(list(dice.uniform(0, 1, 16)), 0.8, seed=trial, draws=400)
        passed += low > 0.5
    assert 0.05 < passed / 300 < 0.15


def test_one_prompt_proves_nothing():
    assert bootstrap_interval([1.0], 0.8) == (-math.inf, math.inf)


def test_the_bootstrap_brackets_the_mean_and_narrows_with_more_prompts():
    few, many = bootstrap_interval([0.2, 0.8] * 4, 0.9), bootstrap_interval([0.2, 0.8] * 100, 0.9)
    assert few[0] < many[0] < 0.5 < many[1] < few[1]


def test_wilson_is_the_published_interval():
    low, high = wilson_interval(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_length_matching_keeps_only_pairs_of_like_length():
    candidate, champion = {0: [(2.0, 20), (0.0, 100)]}, {0: [(1.0, 22), (5.0, 60)]}
    assert length_matched_win_rate(candidate, champion) == (1.0, 1)
    assert length_matched_win_rate({0: [(1.0, 1)]}, {0: [(1.0, 100)]}) == (None, 0)


def test_a_first_reward_model_must_beat_chance():
    good, bad = RewardEvidence([0.3] * 20, 0.9, 0.9), RewardEvidence([0.9] * 20, 0.3, 0.2)
    assert judge_reward(good, None).accepted
    assert not judge_reward(bad, None).accepted
    assert not judge_reward(RewardEvidence([math.nan], None, None), None).accepted


def test_a_reward_model_must_beat_the_one_it_replaces_on_the_same_labels():
    old, new = RewardEvidence([0.5, 0.6, 0.4], 0.7, None), RewardEvidence([0.4, 0.5, 0.3], 0.7, None)
    assert judge_reward(new, old).accepted
    assert not judge_reward(old, new).accepted
    assert not judge_reward(old, old).accepted


def test_a_tiny_holdout_is_admitted_to_prove_nothing():
    found = judge_reward(RewardEvidence([0.1, 0.7, 1.0, 0.2], 0.5, None), None)
    assert found.accepted
    assert "do not prove" in found.reasons[0]
    assert judge_reward(RewardEvidence([], None, None), None).accepted
    assert not judge_reward(RewardEvidence([], None, None), RewardEvidence([], None, None)).accepted


def test_auroc_and_calibration_error():
    assert auroc([3.0, 2.0, 1.0], [True, True, False]) == 1.0
    assert auroc([1.0, 1.0], [True, False]) == 0.5
    assert auroc([1.0], [True]) is None
    assert calibration_error([0.9, 0.9, 0.1, 0.1], [1, 1, 0, 0]) == pytest.approx(0.1)
    assert calibration_error([], []) is None
