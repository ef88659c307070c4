"""An adapter is believed as far as labels that it has not seen bear it out."""

import numpy as np
import pytest

from workers.labels import Label
from workers.reward.shrinkage import believed
from workers.reward.thumb_scale import ThumbScale


def told(true: np.ndarray, flips: float, dice: np.random.Generator, weight: float = 1.0) -> list[Label]:
    """A thumb on each reply, as its true reward says, of a rater who errs in a share of them."""
    up = (dice.random(len(true)) < 1 / (1 + np.exp(-2 * true))) ^ (dice.random(len(true)) < flips)
    return [
        Label("thumb", [], "a", None, float(yes), conversation=str(row), weight=weight)
        for row, yes in enumerate(up)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_not_believed_and_what_is_borne_out_is(seed):
    dice = np.random.default_rng(seed)
    true, noise = dice.normal(size=150), dice.normal(size=150)
    labels = told(true, 0.1, dice)
    assert believed(labels, 0.5 * true, noise, ThumbScale()) <= 1 / 8
    assert believed(labels, 0.02 * noise, true, ThumbScale()) >= 1 / 4


def test_it_is_believed_more_the_surer_it_is():
    dice = np.random.default_rng(1)
    true = dice.normal(size=400)
    labels = told(true, 0.0, dice)
    too_sure = believed(labels, np.zeros(400), 16 * true, ThumbScale())
    assert 0 < too_sure <= 1 / 4 < believed(labels, np.zeros(400), true, ThumbScale())


def test_a_choice_is_by_the_difference_of_its_replies():
    dice = np.random.default_rng(0)
    a, b = dice.normal(size=(2, 200))
    wins = dice.random(200) < 1 / (1 + np.exp(-2 * (a - b)))
    labels = [
        Label("comparison", [], "a", "b", float(won), conversation=str(row)) for row, won in enumerate(wins)
    ]
    both = np.concatenate([a, b])
    assert believed(labels, np.zeros(400), both, ThumbScale()) >= 1 / 2
    assert believed(labels, both, np.roll(both, 7), ThumbScale()) <= 1 / 8


def test_what_one_conversation_says_often_it_says_once():
    """A noise that agrees with one conversation's many labels, and with nothing else."""
    dice = np.random.default_rng(0)
    true = dice.normal(size=60)
    labels = told(true, 0.0, dice)
    loud = np.array([1.0 if label.target else -1.0 for label in labels])
    loud[30:] = dice.permutation(loud[30:])
    apart = believed(labels, np.zeros(60), loud, ThumbScale())
    same = [
        Label(**{**vars(label), "conversation": "one" if row < 30 else str(row)})
        for row, label in enumerate(labels)
    ]
    assert believed(same, np.zeros(60), loud, ThumbScale()) < apart


def test_where_nothing_tells_it_is_left_as_it_is():
    assert believed([], np.zeros(0), np.zeros(0), ThumbScale()) == 1.0
    single = [Label("thumb", [], "a", None, 1.0, conversation="c")]
    assert believed(single, np.zeros(1), np.ones(1), ThumbScale()) == 1.0
    noise = np.random.default_rng(0).normal(size=50)
    one = [Label("thumb", [], "a", None, float(row % 2), conversation="c") for row in range(50)]
    assert believed(one, np.zeros(50), noise, ThumbScale()) == 1.0
