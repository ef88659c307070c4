import math

import numpy as np
import pytest

from workers.statistics import (
    bootstrap_interval,
    length_matched_win_rate,
    length_matched_wins,
    length_slope,
    mantel_haenszel,
    share_interval,
    wilson_interval,
    win_probabilities,
    without_length,
)


def test_win_probabilities_compare_all_replies_to_one_prompt_and_skip_what_one_side_did_not_answer():
    assert win_probabilities({0: [1.0, 3.0], 1: [0.0], 2: [1.0]}, {0: [2.0, 3.0], 1: [0.0]}) == [0.375, 0.5]


def test_one_prompt_proves_nothing():
    assert bootstrap_interval([1.0], 0.8) == (-math.inf, math.inf)


def test_the_bootstrap_brackets_the_mean_and_narrows_with_more_prompts():
    few, many = bootstrap_interval([0.2, 0.8] * 4, 0.9), bootstrap_interval([0.2, 0.8] * 100, 0.9)
    assert few[0] < many[0] < 0.5 < many[1] < few[1]


@pytest.mark.parametrize(("confidence", "most"), [(0.8, 0.13), (0.98, 0.025)])
@pytest.mark.parametrize("n", [4, 8])
def test_few_values_that_are_no_better_seldom_seem_so(n, confidence, most):
    """The tails are 10 % and 1 %; without Student's t, four values exceed the smaller one 8 times in 100."""
    dice = np.random.default_rng(1)
    drawn = dice.uniform(0, 1, (1000, n)).tolist()
    passed = [bootstrap_interval(values, confidence, seed)[0] > 0.5 for seed, values in enumerate(drawn)]
    assert np.mean(passed) < most


def test_shares_that_are_all_alike_are_no_surer_than_as_many_wins():
    assert share_interval([1.0] * 4, 0.8) == (pytest.approx(0.1**0.25), 1.0)
    assert share_interval([0.0] * 4, 0.8) == (0.0, pytest.approx(1 - 0.1**0.25))
    assert share_interval([1.0] * 4, 0.98)[0] < 0.5 < share_interval([1.0] * 7, 0.98)[0]
    assert share_interval([1.0, 1.0, 1.0, 0.9], 0.8)[0] <= share_interval([1.0] * 4, 0.8)[0]
    assert share_interval([0.3, 0.6] * 10, 0.8) == bootstrap_interval([0.3, 0.6] * 10, 0.8)
    assert share_interval([1.0], 0.8) == (-math.inf, math.inf)


def test_a_weight_counts_as_that_many_values():
    low, high = bootstrap_interval([0.0, 1.0] * 20, 0.9, weights=[1.0, 3.0] * 20)
    assert low < 0.75 < high
    assert low > 0.5


def test_wilson_is_the_published_interval():
    low, high = wilson_interval(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_length_matching_keeps_only_pairs_of_like_length():
    candidate, champion = {0: [(2.0, 20), (0.0, 100)]}, {0: [(1.0, 22), (5.0, 60)]}
    assert length_matched_win_rate(candidate, champion) == (1.0, 1)
    assert length_matched_win_rate({0: [(1.0, 1)]}, {0: [(1.0, 100)]}) == (None, 0)
    assert length_matched_wins(candidate, champion, tolerance=0.5) == [[1.0, 0.0]]


def test_what_length_is_worth_is_taken_off():
    sides = [{0: [(2 * math.log(n) + base, n) for n in (5, 10, 30)], 1: [(7.0, 9)]} for base in (1.0, 4.0)]
    assert length_slope(sides) == pytest.approx(2)
    level = without_length(sides[0], 2)
    assert [score for score, _ in level[0]] == pytest.approx([1.0] * 3)
    assert [words for _, words in level[0]] == [5, 10, 30]
    assert length_slope([{0: [(1.0, 0), (2.0, 0)]}]) == 0.0, "nothing varies, an empty reply has a length"


def test_mantel_haenszel_is_the_z_of_the_classic_table():
    """One stratum: the hypergeometric mean 4·5/8 and variance 4·4·5·3/(64·7)."""
    assert mantel_haenszel([(1, 4, 4, 4)]) == pytest.approx((1 - 2.5) / math.sqrt(16 * 15 / (64 * 7)))
    assert mantel_haenszel([(1, 4, 4, 4)] * 4) == pytest.approx(2 * mantel_haenszel([(1, 4, 4, 4)]))
    assert mantel_haenszel([(2, 4, 2, 4)]) == 0.0
    assert mantel_haenszel([(4, 4, 4, 4), (0, 4, 0, 4), (0, 0, 1, 4), (0, 0, 0, 0)]) == 0.0
