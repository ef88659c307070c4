import numpy as np
import pytest

from workers.style import (
    NAMES,
    SPREADS,
    Scale,
    StyleHead,
    Told,
    best_spread,
    features,
    fit,
    mean_head,
    read_style,
    write_styles,
)


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


def told(gold: np.ndarray, phi: np.ndarray, seed: int = 0) -> Told:
    """Pairs and thumbs in turn, drawn by what replies are worth."""
    dice, half = np.random.default_rng(seed), len(gold) // 2
    pair = np.tile([1.0, 0.0], half // 2)
    logits = 4 * np.where(pair == 1, gold[:half] - gold[half:], gold[:half] - gold.mean())
    target = (dice.random(half) < 1 / (1 + np.exp(-logits))).astype(float)
    return Told(phi[:half], phi[half:] * pair[:, None], target, np.ones(half), pair)


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
    spread = best_spread(given, alone(given), 0)
    found = phi @ fit(given, spread)[:-1]
    right = (found[:200] > found[200:]) == (gold[:200] > gold[200:])
    assert spread > min(SPREADS)
    assert right.mean() > 0.8


def test_raters_who_do_not_care_how_a_reply_looks_leave_next_to_nothing():
    _, phi = looks(400)
    given = told(np.random.default_rng(5).normal(size=400), phi)
    spread = best_spread(given, alone(given), 0)
    assert spread <= sorted(SPREADS)[1]
    assert np.abs(phi @ fit(given, spread)[:-1]).max() < 0.5


@pytest.mark.slow
def test_what_several_say_of_one_reply_is_not_news():
    """Chance said what each of 40 replies is worth, and ten raters agree on each of them."""
    phi = np.repeat(np.random.default_rng(1).normal(size=(40, 20)), 10, 0)
    target = np.repeat(np.random.default_rng(2).integers(0, 2, 40).astype(float), 10)
    given = Told(phi, 0 * phi, target, np.ones(400), np.zeros(400))
    assert best_spread(given, alone(given), 0) == max(SPREADS), "to know them by heart is best"
    assert best_spread(given, [f"on reply {number // 10}" for number in range(400)], 0) == min(SPREADS)


def test_a_label_without_weight_says_nothing_and_few_labels_little():
    phi = np.array([[1.0], [1.0], [-1.0]])
    given = Told(phi, 0 * phi, np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.0, 1.0]), np.ones(3))
    assert fit(given, 10.0)[0] > 1
    assert best_spread(given, alone(given), 0) == SPREADS[0]


def test_a_head_comes_back_as_it_was_written(tmp_path):
    _, phi = looks(8)
    scale = Scale.of(phi)
    heads = {"one": StyleHead(scale, [1.0] * len(NAMES)), "two": StyleHead(scale, [0.0] * len(NAMES))}
    write_styles(tmp_path, heads)
    assert read_style(tmp_path, "one") == heads["one"]
    assert read_style(tmp_path, "three") is None
    assert mean_head(list(heads.values())).weights == [0.5] * len(NAMES)
