import random

import numpy as np
import pytest

from tests.workers.test_train_reward import labels
from workers.labels import Label
from workers.reward.gate import judge_reward, paired_gain
from workers.reward.report import agreement, base_rate, length_only, logits_of, measure, on_policy
from workers.reward.thumb_scale import ThumbScale


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def pair(a: str, b: str, target: float, **more) -> Label:
    return Label("comparison", [], a, b, target, **more)


def thumb(a: str, up: bool, **more) -> Label:
    return Label("thumb", [], a, None, float(up), **more)


def test_each_comparison_has_its_own_second_reply_and_a_thumb_its_scale():
    rows = [thumb("x", True), pair("x", "y", 1.0), thumb("x", False), pair("x", "y", 0.0)]
    rewards = array(1.0, 5.0, 2.0, -5.0, 0.25, 0.5)  # a of each label, then b of the comparisons
    assert logits_of(rows, rewards, ThumbScale(2.0, -1.0)).tolist() == [1.0, 4.75, 3.0, -5.5]


def test_measuring_is_fair_to_scale_and_says_chance_when_upside_down():
    rows = [row for row in labels(40, seed=6) if row.kind == "thumb"]
    right = array(*(2 * row.target - 1 for row in rows))
    (good, figures), (loud, _) = measure(rows, right * 3, 0.0), measure(rows, right * 300, 0.0)
    assert figures["thumb_auroc"] == 1.0
    assert sum(loud.losses) < 1e-6
    assert sum(good.losses) < 0.1 * len(rows)
    upside_down, _ = measure(rows, -right, 0.0)
    assert upside_down.losses == upside_down.chance
    choices = [pair("x", "y", row.target) for row in rows]
    upside_down, _ = measure(choices, -right, 0.0)
    assert upside_down.losses == pytest.approx([0.6931] * len(rows), abs=1e-3)


@pytest.mark.parametrize(("up", "mean", "spread"), [(0.5, 0, 1), (0.8, 0, 1), (0.9, 1, 0.5), (0.9, 0.5, 0)])
def test_rewards_at_random_are_seldom_taken_for_better_than_chance(up, mean, spread):
    """At 60 %, two of five would pass if the gain were 0 on average; it is below 0. Nor does it help to say
    of all replies alike that they are good."""
    dice, accepted = np.random.default_rng(0), 0
    for number in range(100):
        rows = [thumb("x", dice.random() < up, conversation=f"{number}-{n}") for n in range(25)]
        evidence, _ = measure(rows, dice.normal(mean, spread, size=25), 0.0)
        accepted += judge_reward(paired_gain(evidence, None, 0.6), True, 0.6).accepted
    assert accepted <= 15


@pytest.mark.parametrize("b", [-1.2, 0.0, 1.2])
def test_who_ranks_well_is_no_worse_where_raters_are_more_lenient_than_where_it_learnt(b):
    dice = np.random.default_rng(0)
    rewards = dice.normal(size=200)
    up = dice.random(200) < 1 / (1 + np.exp(-rewards))
    rows = [thumb("x", bool(said), conversation=str(number)) for number, said in enumerate(up)]
    evidence, figures = measure(rows, rewards + b, b)
    gain = paired_gain(evidence, None, 0.6)
    assert gain is not None
    assert gain.interval[0] > 0.05
    assert figures["log_loss_chance"] < 0.72, "chance knows how lenient they are too"
    assert figures["log_loss_scaled"] == pytest.approx(0.61, abs=0.02)


def test_the_scale_of_a_label_is_told_by_other_conversations():
    rows = [pair("x", "y", 1.0, conversation=name) for name in "aabbcc"]
    losses = measure(rows, array(1.0, 1.0, -1.0, -1.0, 1.0, 1.0), 0.0)[0].losses
    assert losses[2] == losses[3] == pytest.approx(np.log1p(np.exp(4))), "a and c say: rewards are right"
    assert losses[0] == losses[4] == pytest.approx(np.log(2)), "b and the other say: they tell nothing"


def test_to_know_that_most_thumbs_are_up_is_no_merit():
    rows = [thumb("x", number % 10 > 0) for number in range(100)]
    rate = base_rate(rows)
    assert rate == pytest.approx(np.log(91 / 11))
    blind, figures = measure(rows, np.full(100, rate), rate)
    assert blind.losses == pytest.approx(blind.chance)
    assert figures["log_loss_chance"] < 0.4
    assert figures["thumb_auroc"] == 0.5
    assert figures["ece"] < 0.02


def test_ties_count_for_the_loss_and_not_for_the_accuracy():
    rows = [pair("x", "y", 1.0), pair("x", "y", 0.5), pair("x", "y", 0.0)]
    evidence, figures = measure(rows, array(1.0, 3.0, 1.0), 0.0)
    assert (figures["pairs"], figures["pair_accuracy"]) == (2, 0.5)
    assert len(evidence.losses) == 3
    assert sum(row["count"] for row in figures["reliability"]) == 3


@pytest.mark.parametrize("target", [1.0, 0.0])
def test_equal_rewards_are_half_right_whoever_won(target):
    _, figures = measure([pair("x", "x", target), pair("x", "y", target)], array(0.0, 2 * target - 1), 0.0)
    assert (figures["pairs"], figures["pair_accuracy"]) == (2, 0.75)


def test_losses_are_weighed_and_shares_count_each_label_once():
    rows = [thumb("x", True, weight=3.0), thumb("y", True, weight=1.0)]
    _, figures = measure(rows, array(0.0, 100.0), 0.0)
    assert figures["log_loss"] == pytest.approx(0.75 * np.log(2))


def test_without_a_label_nothing_is_known():
    evidence, figures = measure([], array(), 0.0)
    assert evidence.losses == []
    assert figures["log_loss"] is figures["pair_accuracy"] is figures["ece"] is None
    assert figures["pair_accuracy_interval"] == [0.0, 1.0]
    assert length_only([], [])["pairs"] == 0
    assert agreement([], [array(), array()]) == {"same_order": None, "correlation": None}


def test_the_replies_of_one_policy_can_be_looked_at_alone():
    """Both of a comparison are its own, whichever is first: not a canary's, nor what a person wrote."""
    sides = [("policy-v1", "policy-v1"), ("policy-v2", "policy-v2"), ("policy-v1", "policy-v2")]
    sides += [("policy-v2", "policy-v1"), ("", "policy-v1")]
    rows = [pair("x", "y", 1.0, policy=a, b_policy=b) for a, b in sides]
    rows += [thumb("x", True, policy="policy-v1"), thumb("x", False, policy="policy-v2")]
    said = array(1.0, *[-1.0] * 4, 1.0, 1.0)
    found = on_policy(rows, said, "policy-v1")
    assert found is not None
    assert (found["policy"], found["pair_accuracy"], found["pairs"]) == ("policy-v1", 1.0, 1)
    assert found["thumbs"] == 1
    swapped = [pair("y", "x", 0.0, policy=b, b_policy=a) for a, b in sides]
    assert on_policy([*swapped, *rows[5:]], said * [*[-1] * 5, 1, 1], "policy-v1") == found
    assert on_policy(rows, said, None) is None


def test_agreement_counts_pairs_that_all_order_alike():
    rows = [pair("x", "y", 1.0), pair("x", "y", 1.0), thumb("x", True)]
    one, other = array(1.0, 1.0, 0.0, 0.0, 0.0), array(2.0, -1.0, 0.0, 0.0, 0.0)
    assert agreement(rows, [one, one])["same_order"] == 1.0
    assert agreement(rows, [one, other])["same_order"] == 0.5
    assert agreement(rows, [one, -one])["correlation"] == pytest.approx(-1.0)
    assert agreement(rows, [one])["same_order"] is None


@pytest.mark.parametrize("best", [1, 12, 40])
def test_a_taste_for_some_length_is_found_by_length_alone(best):
    dice = random.Random(0)

    def rows(count: int) -> list[Label]:
        found = []
        for number in range(count):
            a, b = dice.randint(1, 40), dice.randint(1, 40)
            first = float(abs(np.log(a / best)) < abs(np.log(b / best)))
            texts = "w " * a, "w " * b
            found.append(pair(*texts, first) if number % 2 else thumb(texts[0], abs(np.log(a / best)) < 0.7))
        return found

    found = length_only(rows(300), rows(200))
    assert found["pair_accuracy"] > (0.8 if best == 12 else 0.95)
    assert found["thumb_auroc"] > 0.8


def test_length_says_nothing_where_it_does_not_matter():
    found = length_only(labels(60, seed=1), labels(60, seed=2))
    assert found["pair_accuracy"] == 0.5, "all are of one length"
    assert found["thumb_auroc"] == 0.5
