"""Bradley-Terry against known cases, and its intervals against chance."""

import random
import time
from collections.abc import Callable
from itertools import combinations
from math import exp, log

import pytest
from scipy.stats import binom

from feedback.climb import PRIOR
from feedback.strengths import strengths
from feedback.tally import Choices


def values(cells: dict) -> dict[str, float]:
    return {found.policy: found.value for found in strengths(cells)}


def test_two_versions_differ_by_the_log_of_their_odds():
    found = values({("a", "b"): Choices(a=60, b=30)})
    assert found["a"] - found["b"] == pytest.approx(log((60 + PRIOR) / (30 + PRIOR)), abs=1e-3)
    assert found["a"] + found["b"] == pytest.approx(0, abs=1e-6)


def test_a_tie_is_half_a_win_and_both_bad_is_none():
    tied = values({("a", "b"): Choices(a=10, b=4, tie=6, both_bad=50)})
    assert tied == pytest.approx(values({("a", "b"): Choices(a=13, b=7)}), abs=1e-3)
    assert strengths({("a", "b"): Choices(tie=1)})[0].games == 1
    assert strengths({("a", "b"): Choices(both_bad=5)}) == []


def test_the_sides_of_a_pair_do_not_matter():
    mixed = {("a", "b"): Choices(a=5, b=1), ("b", "a"): Choices(a=2, b=9), ("a", "a"): Choices(a=7)}
    assert values(mixed) == pytest.approx(values({("a", "b"): Choices(a=14, b=3)}), abs=1e-6)


def test_it_finds_the_strengths_that_the_games_were_played_by():
    """A chain: each version met its neighbours alone, which is what canaries leave behind."""
    true = [0.0, 0.8, 0.3, 1.1, 1.0, 2.0]
    cells = {}
    for i in range(5):
        won = round(100_000 / (1 + exp(true[i + 1] - true[i])))
        cells[f"policy-v{i}", f"policy-v{i + 1}"] = Choices(a=won, b=100_000 - won)
    found, mean = values(cells), sum(true) / len(true)
    assert [found[f"policy-v{i}"] for i in range(6)] == pytest.approx([t - mean for t in true], abs=0.01)


def test_at_the_maximum_each_wins_as_often_as_it_should():
    """The likelihood's gradient is zero: won games are expected ones (Hunter 2004, equation 3)."""
    dice = random.Random(3)
    names = [f"policy-v{i}" for i in range(7)]
    cells = {
        (a, b): Choices(a=dice.randint(0, 30), b=dice.randint(0, 30))
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    }
    found = values(cells)
    for name in names:
        won = expected = 0.0
        for (a, b), games in cells.items():
            if name in (a, b):
                other, wins = (b, games.a) if name == a else (a, games.b)
                won += wins + PRIOR
                expected += (games.total + 2 * PRIOR) / (1 + exp(found[other] - found[name]))
        assert won == pytest.approx(expected, rel=2e-3)


def test_one_that_never_lost_is_finite():
    [first, last] = strengths({("a", "b"): Choices(a=8)})
    assert first.policy == "a"
    assert 2 < first.value - last.value < 4


@pytest.mark.parametrize("games", [1, 3, 8])
def test_one_that_never_lost_is_not_sure(games):
    [first, last] = strengths({("a", "b"): Choices(a=games)})
    for found in (first, last):
        low, high = found.interval
        assert low <= found.value <= high
        assert high - low > 0.3
    (low, _), (_, high) = first.interval, last.interval
    assert games > 1 or low <= high, "one game decides nothing"


def test_hundreds_to_none_are_climbed_to_the_end():
    [first, last] = strengths({("a", "b"): Choices(a=1000)})
    assert first.value - last.value == pytest.approx(log(1000.5 / 0.5), abs=0.05)


def test_of_versions_that_never_met_the_larger_group_is_ranked():
    met = {("a", "b"): Choices(a=3, b=2), ("b", "c"): Choices(a=3, b=2), ("x", "y"): Choices(a=9, b=1)}
    assert {found.policy for found in strengths(met)} == {"a", "b", "c"}
    assert strengths({}) == strengths({("a", "a"): Choices(a=3)}) == []


@pytest.mark.parametrize("games", [40, 1000])
def test_the_intervals_hold_the_truth_about_as_often_as_they_say(games):
    """Drawn exactly up to 200 games, by the normal approximation beyond."""
    dice, held = random.Random(games), 0
    for _ in range(100):
        won = sum(dice.random() < 0.6 for _ in range(games))
        best = {found.policy: found for found in strengths({("a", "b"): Choices(a=won, b=games - won)})}
        low, high = best["a"].interval
        held += low <= log(0.6 / 0.4) / 2 <= high
    assert 88 <= held <= 100


def test_the_same_counts_have_the_same_intervals():
    cells = {("a", "b"): Choices(a=20, b=11), ("b", "c"): Choices(a=300, b=100)}
    assert strengths(cells) == strengths(dict(reversed(cells.items())))


@pytest.mark.parametrize(("games", "won"), [(40, 24), (8, 8), (200, 200), (200, 3)])
def test_the_intervals_are_those_of_the_games_played_again(games, won):
    """Of two versions, a draw of w games ends at log((w + 1/2) / (n - w + 1/2)) / 2."""
    best = {found.policy: found for found in strengths({("a", "b"): Choices(a=won, b=games - won)})}
    again = binom(games, (won + PRIOR) / (games + 2 * PRIOR))
    for value, chance in zip(best["a"].interval, (0.025, 0.975), strict=True):
        wins = (games + 2 * PRIOR) / (1 + exp(-2 * value)) - PRIOR
        assert wins == pytest.approx(again.ppf(chance), abs=1.1)


def all_pairs(win: Callable[[int], float], most: int) -> dict:
    """Twelve versions, each compared with each: `win`, how often one beats another so many places below."""
    dice = random.Random(0)
    cells = {}
    for i, j in combinations(range(12), 2):
        games = dice.randint(max(1, most // 10), most)
        won = sum(dice.random() < win(j - i) for _ in range(games))
        cells[f"policy-v{i:02}", f"policy-v{j:02}"] = Choices(a=won, b=games - won)
    return cells


WINS = {
    "alike": (lambda _: 0.5, 0.1),
    "better and better": (lambda places: 1 / (1 + exp(-places / 4)), 0.1),
    "far better": (lambda places: 1 / (1 + exp(-places)), 0.1),
    "never lost": (lambda _: 1.0, 1.0),
}


@pytest.mark.parametrize("most", [10, 100, 1000])
@pytest.mark.parametrize("wins", WINS)
def test_many_versions_are_quick(wins, most):
    """By CPU, and with three times what was measured, since machines are shared."""
    win, seconds = WINS[wins]
    cells = all_pairs(win, most)
    start = time.process_time()
    assert len(strengths(cells)) == 12
    assert time.process_time() - start < seconds
