import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from workers.reward.style import (
    NAMES,
    SPREADS,
    Fitted,
    Head,
    Scale,
    States,
    Told,
    best_spread,
    credences,
    features,
    fit,
    mean_head,
    read_head,
    write_heads,
)
from workers.reward.thumb_scale import OFFSET_SPREAD


def test_there_is_a_number_for_each_name_whatever_the_reply():
    for reply in ("", "   ", "one", "- a\n- b\n\n1. c", "word " * 500, "Ärger! 12 `x`"):
        found = features(reply, "stop")
        assert len(found) == len(NAMES)
        assert np.isfinite(found).all()


def test_the_numbers_say_what_their_names_say():
    named = dict(zip(NAMES, features("- Yes!\n- No?\nand 12", "length"), strict=True))
    assert named["cut"] == 1
    assert named["bullets a line"] == pytest.approx(2 / 3)
    assert named["log !"] == pytest.approx(np.log(2))
    assert named["about 6 words"] == 1
    assert named["about 12 words"] == 0
    assert dict(zip(NAMES, features("a " * 17, "stop"), strict=True))["about 12 words"] == pytest.approx(
        0.5, abs=0.01
    )


def test_a_feature_that_never_varied_stays_zero_and_far_ones_are_bounded():
    scale = Scale.of([[1.0, 0.0], [1.0, 2.0]])
    assert scale([[5.0, 1.0], [1.0, 1e9]]).tolist() == [[0.0, 0.0], [0.0, 4.0]]
    assert scale([]).shape == (0, 2)


def labelled(*columns: np.ndarray, **more: Any) -> Told:
    """Of one rater, none by a lead, if nothing else is said."""
    nothing = {"lead": np.zeros(len(columns[0])), "rater": np.zeros(len(columns[0]), int), "raters": 1}
    return Told(*columns, **{**nothing, **more})


def told(gold: np.ndarray, phi: np.ndarray, seed: int = 0) -> Told:
    """Pairs and thumbs in turn, drawn by what replies are worth."""
    dice, half = np.random.default_rng(seed), len(gold) // 2
    pair = np.tile([1.0, 0.0], half // 2)
    logits = 4 * np.where(pair == 1, gold[:half] - gold[half:], gold[:half] - gold.mean())
    target = (dice.random(half) < 1 / (1 + np.exp(-logits))).astype(float)
    return labelled(phi[:half], phi[half:] * pair[:, None], target, np.ones(half), pair)


def alone(given: Told) -> list[str]:
    return [f"conversation {number}" for number in range(len(given.target))]


def looks(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of replies, and how they look."""
    sizes = np.random.default_rng(0).integers(2, 120, size=count)
    rows = [features("w " * size, "stop") for size in sizes]
    return sizes, Scale.of(rows)(rows)


def test_a_liking_for_a_middle_length_is_found_from_pairs_and_thumbs():
    sizes, phi = looks(400)
    gold = -np.abs(np.log(sizes / 24))
    given = told(gold, phi)
    spread = best_spread([(given, alone(given))], 0)
    found = phi @ fit(given, spread).weights
    right = (found[:200] > found[200:]) == (gold[:200] > gold[200:])
    assert spread > min(SPREADS)
    assert right.mean() > 0.8


def test_raters_who_do_not_care_how_a_reply_looks_leave_next_to_nothing():
    _, phi = looks(400)
    given = told(np.random.default_rng(5).normal(size=400), phi)
    spread = best_spread([(given, alone(given))], 0)
    assert spread <= sorted(SPREADS)[1]
    assert np.abs(phi @ fit(given, spread).weights).max() < 0.5


@pytest.mark.slow
def test_what_several_say_of_one_reply_is_not_news():
    """Chance said what each of 40 replies is worth, and ten raters agree on each of them."""
    phi = np.repeat(np.random.default_rng(1).normal(size=(40, 20)), 10, 0)
    target = np.repeat(np.random.default_rng(2).integers(0, 2, 40).astype(float), 10)
    given = labelled(phi, 0 * phi, target, np.ones(400), np.zeros(400))
    assert best_spread([(given, alone(given))], 0) == max(SPREADS), "to know them by heart is best"
    assert best_spread([(given, [f"on reply {number // 10}" for number in range(400)])], 0) == min(SPREADS)


def test_a_label_without_weight_says_nothing_and_few_labels_little():
    phi = np.array([[1.0], [1.0], [-1.0]])
    given = labelled(phi, 0 * phi, np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.0, 1.0]), np.ones(3))
    assert fit(given, 10.0).weights[0] > 1
    assert best_spread([(given, alone(given))], 0) == SPREADS[0]


def test_a_lenient_raters_approval_is_no_liking_for_what_she_was_shown():
    """Ann likes nearly all, and was shown long replies; Bob likes half of the long and of the short."""
    dice = np.random.default_rng(3)
    long = np.concatenate([np.ones(200), np.tile([1.0, -1.0], 100)])[:, None]
    rater = np.repeat([0, 1], 200)
    target = (dice.random(400) < np.where(rater == 0, 0.9, 0.5)).astype(float)
    columns = long, 0 * long, target, np.ones(400), np.zeros(400)
    known = fit(labelled(*columns, rater=rater, raters=2), 0.4)
    unknown = fit(labelled(*columns), 0.4)
    assert unknown.weights[0] > 0.5
    assert abs(known.weights[0]) < unknown.weights[0] / 2
    assert known.offsets[0] - known.offsets[1] > 1


def test_a_strong_choice_tells_more_than_a_weak_one():
    phi = np.ones((40, 1))
    columns = phi, 0 * phi, np.full(40, 0.9), np.ones(40), np.ones(40)
    weak, strong = (fit(labelled(*columns, lead=np.full(40, lead)), 10.0).weights[0] for lead in (0.0, 1.0))
    assert strong - weak == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("raters", [0, 3])
def test_a_fit_is_where_its_objective_is_least(raters):
    """By differences, in every direction."""
    dice = np.random.default_rng(7)
    pair = dice.integers(0, 2, 60).astype(float)
    a, b = dice.normal(size=(2, 60, 2))
    rater = dice.integers(0, max(raters, 1), 60)
    given = Told(a, b * pair[:, None], dice.random(60), dice.random(60), pair, 0.3 * pair, rater, raters)
    found, spread = fit(given, 0.3), 0.3

    def cost(weights: np.ndarray, bias: float, offsets: np.ndarray) -> float:
        prior = (weights @ weights / spread**2 + offsets @ offsets / OFFSET_SPREAD**2) / (2 * 60)
        return given.loss(Fitted(weights, bias, offsets)) + prior

    least = cost(*found)
    for step in (1e-3, -1e-3):
        assert cost(found.weights, found.bias + step, found.offsets) > least
        for column in range(2):
            assert cost(found.weights + step * np.eye(2)[column], found.bias, found.offsets) > least
        for column in range(raters):
            assert cost(found.weights, found.bias, found.offsets + step * np.eye(raters)[column]) > least


def test_ways_of_seeing_labels_are_believed_as_far_as_they_predict():
    sizes, phi = looks(400)
    liked = told(-np.abs(np.log(sizes / 24)), phi)
    nothing = replace(liked, a=0 * liked.a, b=0 * liked.b)
    near = replace(liked, a=0.9 * liked.a, b=0.9 * liked.b)
    found = credences([nothing, liked, near], alone(liked), 0)
    assert found.sum() == pytest.approx(1)
    assert found[0] < 0.01
    assert min(found[1:]) > 0.2, "what is as good is believed as much"
    few = liked.only(np.arange(200) < 3)
    assert credences([few, few], alone(few), 0).tolist() == [1, 0]


def test_others_labels_have_a_say_in_how_wide_looks_spread():
    sizes, phi = looks(400)
    liked = told(-np.abs(np.log(sizes / 24)), phi)
    own, others = (liked.only(np.arange(200) < 3), alone(liked)[:3]), (liked, alone(liked))
    assert best_spread([own], 0) == SPREADS[0], "too few to tell"
    assert best_spread([own, others], 0) == best_spread([others], 0) > SPREADS[0]


def test_what_is_read_out_of_states_is_what_was_fitted_to_them_scaled():
    dice = np.random.default_rng(0)
    rows = [2.0, -10.0, 0.1, 5.0] + dice.normal(size=(50, 4)) * [1.0, 10.0, 0.1, 0.0]
    states = States.of(rows)
    scaled = states(rows)
    assert scaled.shape == (50, 2), "of three that vary one is the usual"
    weights = dice.normal(size=2)
    assert rows @ states.read_out(weights) == pytest.approx(scaled @ weights)
    assert scaled.mean(0) == pytest.approx(0, abs=1e-12), "a reply like most gets nothing"
    assert (scaled.std(0) > 0.4).all(), "of whatever size they were"
    assert States.of(np.ones((3, 2)))(np.ones((3, 2))).shape == (3, 0)


def test_states_of_few_replies_are_fitted_as_all_their_numbers_would_be():
    dice = np.random.default_rng(0)
    rows = dice.normal(size=(40, 80))
    states = States.of(rows)
    assert states(rows).shape[1] < 40
    liked = told(rows[:, 0], states(rows))
    whole = replace(liked, a=liked.a @ states.basis.T, b=liked.b @ states.basis.T)
    assert fit(whole, 1.0).weights == pytest.approx(states.basis @ fit(liked, 1.0).weights, abs=1e-3)


def test_a_head_comes_back_as_it_was_written(tmp_path):
    _, phi = looks(8)
    scale = Scale.of(phi)
    heads = {
        "one": Head(scale, [1.0] * len(NAMES), [2.0, 4.0]),
        "two": Head(scale, [0.0] * len(NAMES)),
    }
    write_heads(tmp_path, heads)
    assert read_head(tmp_path, "one") == heads["one"]
    assert read_head(tmp_path, "three") is None
    mean = mean_head(list(heads.values()))
    assert (mean.weights, mean.states) == ([0.5] * len(NAMES), [1.0, 2.0])
    found = json.loads((tmp_path / "style.json").read_text())
    for head in found.values():
        del head["states"]
    (tmp_path / "style.json").write_text(json.dumps(found))
    assert read_head(tmp_path, "one") == Head(scale, [1.0] * len(NAMES)), "from before there were any"
