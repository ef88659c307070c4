import numpy as np
import pytest

from workers.labels import Sample
from workers.terms import (
    Weights,
    correlation,
    describe,
    length_control,
    loops,
    repetition,
    reward_terms,
    spread,
)
from workers.terms import weighted_sum as total


def sample(prompt_id: int, token_ids: list[int], finish: str = "stop") -> Sample:
    return Sample(prompt_id, [{"role": "user", "content": "hi"}], "…", [1], token_ids, [], finish)


def test_full_length_control_leaves_no_correlation_with_length_within_prompts():
    draw = np.random.default_rng(0)
    lengths, prompts = draw.integers(5, 200, 40), np.repeat(np.arange(10), 4)
    quality = draw.normal(size=40)
    scores = 3.0 * np.log(lengths) + quality + 5.0 * prompts
    controlled = scores + length_control(scores, lengths.tolist(), prompts.tolist())
    assert correlation(scores, np.log(lengths), prompts.tolist()) > 0.9
    assert correlation(controlled, np.log(lengths), prompts.tolist()) == pytest.approx(0, abs=1e-9)
    assert correlation(controlled, quality, prompts.tolist()) > 0.9
    half = scores + 0.5 * length_control(scores, lengths.tolist(), prompts.tolist())
    assert 0.5 < correlation(half, np.log(lengths), prompts.tolist()) < 0.99


def test_length_control_leaves_alone_what_a_straight_line_does_not_explain():
    lengths = [10, 20, 40]
    band = np.array([0.0, 1.0, 0.0])  # the middle length is the best one
    assert length_control(band, lengths, [0, 0, 0]) == pytest.approx(np.zeros(3))
    assert length_control(band, [7, 7, 7], [0, 0, 0]) == pytest.approx(np.zeros(3))


def test_repetition_is_the_share_of_n_grams_said_before():
    assert repetition([1, 2, 3, 4, 5], "stop") == 0
    assert repetition([1, 2], "stop") == 0
    assert repetition([1, 2, 3, 1, 2, 3], "stop") == pytest.approx(1 / 4)
    assert repetition([7] * 10, "stop") == pytest.approx(7 / 8)


@pytest.mark.parametrize(
    ("tail", "looping"),
    [([7] * 12, True), ([7] * 11, False), ([1, 2, 3, 4] * 3, True), ([1, 2, 3, 4] * 2, False), ([], False)],
)
def test_a_loop_is_a_block_in_a_row(tail, looping):
    words = [*range(20, 40), *tail]
    assert loops(words) == looping
    assert (repetition(words, "length") == 1.0) == looping
    assert repetition(words, "stop") < 1


def test_terms_are_in_the_unit_of_the_reward_model():
    samples = [
        sample(0, [5] * 9),
        sample(0, [5, 6, 7, 8, 9, 2]),
        sample(1, [3, 4, 2]),
        sample(1, [4, 3, 3, 2]),
    ]
    model, rules = [1.0, 3.0, 12.0, 10.0], [-1.0, 1.0, 0.0, 0.5]
    weights = Weights(length=1.0, repetition=0.5, rules=0.25)
    terms = reward_terms(samples, model, rules)
    assert spread(np.array(model), [0, 0, 1, 1]) == 1.0
    assert terms["repetition"].tolist() == pytest.approx([-5 / 6, 0, 0, 0])
    assert terms["rules"].tolist() == [-1.0, 1.0, 0.0, 0.5]
    stretched = reward_terms(samples, [7 * score for score in model], rules)
    assert total(stretched, weights) == pytest.approx(7 * total(terms, weights))
    assert total(terms, Weights()).tolist() == model


def test_where_the_reward_model_is_indifferent_the_other_terms_decide():
    samples = [sample(0, [5] * 9), sample(0, [5, 6, 7, 8, 9, 2])]
    reward = total(reward_terms(samples, [2.0, 2.0], [0.0, 0.0]), Weights(repetition=1.0))
    assert reward[0] < reward[1] == 2.0


def test_the_figures_say_what_counted_and_how_the_reward_goes_with_length():
    samples = [sample(0, [5] * 20, "length"), sample(0, [5, 6, 7, 2])]
    terms = reward_terms(samples, [3.0, 1.0], [0.0, 0.0])
    figures = describe(samples, terms, Weights(length=1.0))
    assert figures["model_length_correlation"] == pytest.approx(1.0)
    assert figures["length_correlation"] is None  # nothing is left
    assert (figures["cut"], figures["looping"], figures["unit"]) == (0.5, 0.5, 1.0)
    assert figures["terms"]["model"] == {"weight": 1.0, "mean": 2.0, "std": 1.0}
    assert figures["terms"]["repetition"] == {"weight": 0.0, "mean": -0.5, "std": 0.5}
