import math
from dataclasses import replace

import numpy as np
import pytest

from workers.evidence import Evidence, Habits, LengthTaste, Passed, Quality, Sides, WinRate
from workers.gate import (
    Limits,
    deciding,
    judge_candidate,
    over_optimised,
)
from workers.gate import undecided as is_undecided
from workers.statistics import share_interval

SAME = Sides(0.2, 0.2)


def rate(value: float, low: float, strict: float = 0.4, prompts: int = 20) -> WinRate:
    return WinRate(value, (low, 2 * value - low), (strict, 2 * value - strict), prompts)


GOOD = Evidence(
    raw=rate(0.7, 0.6),
    matched=rate(0.68, 0.58, prompts=18),
    length_taste=None,
    members=rate(0.75, 0.7),
    doubter=rate(0.7, 0.6),
    gap=(0.0, 0.1),
    quality=Quality(0.7, (0.55, 0.8), 40),
    kl_base=0.1,
    kl_champion=0.1,
    nll=Sides(2.0, 2.0),
    probes={"format": Passed(Sides(0.5, 0.6), -1.0, 48), "refusal": Passed(Sides(0.1, 0.1), 0.0, 16)},
    words=Sides(50.0, 50.0),
    empty=SAME,
    identical=SAME,
    trigrams=SAME,
    cut=SAME,
    openings=SAME,
    endings=SAME,
    disagreement=SAME,
    disagreement_rise=(-0.1, 0.1),
)
LIKES_SHORT = LengthTaste(0.3, (0.2, 0.4), 60)


def verdict(**changes: object) -> tuple[bool, str]:
    found = judge_candidate(replace(GOOD, **changes), Limits())  # type: ignore[arg-type]
    return found.accepted, "; ".join(found.reasons)


def test_a_better_candidate_passes_and_says_by_how_much():
    accepted, why = verdict()
    assert accepted
    assert (
        why == "the held-out judge prefers it in 68% [58%, 78%] of comparisons on 18 prompts of like length"
    )


@pytest.mark.parametrize(
    ("inside", "beyond", "why"),
    [
        ({"raw": rate(0.7, 0.6, prompts=4)}, {"raw": rate(0.7, 0.6, prompts=3)}, "4 are needed"),
        ({"matched": rate(0.6, 0.501)}, {"matched": rate(0.6, 0.5)}, "not surely more than half"),
        ({"raw": rate(0.5, 0.4)}, {"raw": rate(0.49, 0.4)}, "over all only in 49%"),
        ({"raw": rate(0.6, 0.4)}, {"raw": rate(math.nan, math.nan)}, "not finite"),
        ({"kl_base": 0.5}, {"kl_base": 0.51}, "0.51 nats a token away from the base, 0.50 are allowed"),
        ({"kl_base": 0.0}, {"kl_base": math.nan}, "not finite"),
        ({"kl_champion": 0.3}, {"kl_champion": 0.31}, "0.31 nats a token away from the champion"),
        ({"nll": Sides(2.039, 2.0)}, {"nll": Sides(2.042, 2.0)}, "2.1% more than the base's 2.000"),
        ({"nll": Sides(1.0, 2.0)}, {"nll": Sides(math.nan, 2.0)}, "not finite"),
        ({"words": Sides(150.0, 50.0)}, {"words": Sides(151.0, 50.0)}, "a ratio beyond 3"),
        ({"words": Sides(50.0, 150.0)}, {"words": Sides(50.0, 151.0)}, "a ratio beyond 3"),
        ({"empty": Sides(0.3, 0.2)}, {"empty": Sides(0.31, 0.2)}, "31% of its replies are empty"),
        ({"identical": Sides(0.1, 0.0)}, {"identical": Sides(0.12, 0.0)}, "the same for different prompts"),
        ({"trigrams": Sides(0.1, 0.0)}, {"trigrams": Sides(0.12, 0.0)}, "three words in a row"),
        ({"cut": Sides(0.3, 0.0)}, {"cut": Sides(0.32, 0.0)}, "cut at the most tokens"),
        (
            {"quality": Quality(0.5, (0.4, 0.6), 39)},
            {"quality": Quality(0.5, (0.4, 0.6), 40)},
            "no better than chance",
        ),
        (
            {"quality": Quality(0.1, (0.0, 0.5), 8)},
            {"quality": Quality(0.1, (0.0, 0.49), 8)},
            "no better than chance",
        ),
        (
            {"quality": Quality(0.51, (0.4, 0.6), 40)},
            {"quality": Quality(0.5, (0.4, 0.6), 40)},
            "no better than chance",
        ),
    ],
)
def test_each_rule_stops_what_is_beyond_its_edge_and_says_so(inside, beyond, why):
    assert verdict(**inside)[0], verdict(**inside)[1]
    accepted, said = verdict(**beyond)
    assert not accepted
    assert why in said


def test_a_probe_that_was_passed_surely_less_often_stops_a_candidate():
    def probes(z: float) -> dict[str, Passed]:
        return {**GOOD.probes, "refusal": Passed(Sides(0.1, 0.6), z, 16)}

    assert verdict(probes=probes(-2.3))[0]
    accepted, said = verdict(probes=probes(-2.4))
    assert not accepted
    assert said == "refusal probes passed fell from 60% to 10% of 16 replies"


@pytest.mark.parametrize(
    ("undecided", "changes"),
    [
        (True, {"matched": rate(0.55, 0.49)}),
        (False, {"matched": rate(0.5, 0.44)}),  # the judge does not like it better
        (False, {"matched": rate(0.55, 0.49), "raw": rate(0.49, 0.4)}),
        (False, {"matched": rate(0.55, 0.49), "kl_base": 1.0}),  # something else is wrong too
        (False, {"matched": rate(0.55, 0.49), "quality": Quality(0.1, (0.0, 0.49), 8)}),
        (False, {"matched": None}),
        (
            False,  # were the judge sure, at like length it would surely be worse
            {
                "words": Sides(25.0, 50.0),
                "length_taste": LIKES_SHORT,
                "raw": rate(0.53, 0.47),
                "matched": rate(0.35, 0.28),
            },
        ),
        (False, {"matched": rate(0.55, math.nan), "raw": rate(math.nan, math.nan)}),
        (False, {}),  # accepted
    ],
)
def test_undecided_is_who_is_liked_better_and_not_surely_and_nothing_else(undecided, changes):
    evidence = replace(GOOD, **changes)
    assert is_undecided(evidence, Limits()) == undecided
    assert not (undecided and verdict(**changes)[0])


def test_everything_that_speaks_against_a_candidate_is_said():
    _, said = verdict(kl_base=1.0, empty=Sides(1.0, 0.0), matched=rate(0.5, 0.4))
    assert [word in said for word in ("nats", "empty", "not surely")] == [True] * 3


def test_length_counts_where_people_proved_that_they_want_it():
    """Half as long, and better only by that."""
    shorter = {"words": Sides(25.0, 50.0), "matched": rate(0.5, 0.45, prompts=6)}
    assert not verdict(**shorter)[0]
    accepted, said = verdict(**shorter, length_taste=LIKES_SHORT)
    assert accepted
    assert "70% [60%, 80%] of comparisons on 20 prompts, whatever their length" in said
    assert "people like the shorter one better in 70% [60%, 80%] of 60 labels" in said
    unproven = LengthTaste(0.4, (0.3, 0.5), 60)
    assert not verdict(**shorter, length_taste=unproven)[0]
    assert not verdict(**{**shorter, "words": Sides(60.0, 50.0)}, length_taste=LIKES_SHORT)[0], (
        "the wrong way"
    )
    likes_long = LengthTaste(0.7, (0.6, 0.8), 60)
    assert verdict(matched=rate(0.5, 0.4), words=Sides(60.0, 50.0), length_taste=likes_long)[0]


def test_who_moves_to_the_wanted_length_may_not_be_worse_at_like_length():
    likes_long = LengthTaste(0.55, (0.51, 0.59), 400)
    longer = {"words": Sides(100.0, 50.0), "length_taste": likes_long}
    assert verdict(**longer, matched=rate(0.4, 0.3))[0], "not surely worse"
    accepted, said = verdict(**longer, matched=rate(0.4, 0.31))
    assert not accepted
    assert "surely worse, the held-out judge prefers it in 40% [31%, 49%]" in said
    assert verdict(**longer, matched=rate(0.4, 0.31, prompts=5))[0], "too few to tell"


def test_a_taste_for_a_length_band_is_no_reason_to_reject():
    """A little shorter, as people proved that they like it, and no better otherwise."""
    band = {"words": Sides(40.0, 50.0), "length_taste": LIKES_SHORT}
    assert verdict(**band, matched=rate(0.5, 0.42))[0]
    assert verdict(**band, matched=rate(0.48, 0.42))[0]


def test_a_few_prompts_of_like_length_do_only_where_no_more_were_answered():
    accepted, said = verdict(matched=rate(0.7, 0.6, prompts=5))
    assert not accepted
    assert "on only 5 prompts" in said
    assert "6 are needed" in said
    assert verdict(raw=rate(0.7, 0.6, prompts=5), matched=rate(0.7, 0.6, prompts=5))[0]
    assert not verdict(raw=rate(0.7, 0.6, prompts=5), matched=rate(0.7, 0.6, prompts=4))[0]


def test_a_champion_that_says_nothing_can_be_followed():
    accepted, said = verdict(words=Sides(20.0, 0.0), matched=None)
    assert accepted, said
    assert "the champion's replies are empty" in said
    assert not verdict(words=Sides(0.0, 0.0), matched=None, raw=rate(0.5, 0.5))[0]


NEAR = Habits(GOOD.probes, GOOD.words, SAME, SAME, SAME, SAME)


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        ({"empty": Sides(0.31, 0.2)}, "31% of its replies are empty (the base: 20%)"),
        ({"identical": Sides(0.4, 0.2)}, "(the base: 20%)"),
        ({"trigrams": Sides(0.4, 0.2)}, "(the base: 20%)"),
        ({"cut": Sides(0.6, 0.2)}, "cut at the most tokens allowed (the base: 20%)"),
        ({"words": Sides(50.0, 10.0)}, "its replies have 50 words, the base's 10"),
        (
            {"probes": {"refusal": Passed(Sides(0.1, 0.6), -2.4, 16)}},
            "refusal probes passed fell from 60% (the base) to 10% of 16 replies",
        ),
    ],
)
def test_little_by_little_no_more_is_given_away_than_at_once(lost, why):
    """The champion gave away most of it."""
    assert verdict(base=NEAR)[0]
    accepted, said = verdict(base=replace(NEAR, **lost))
    assert not accepted
    assert why in said


def test_the_base_is_no_measure_of_a_length_that_people_want():
    short = {"words": Sides(40.0, 50.0), "base": replace(NEAR, words=Sides(40.0, 200.0))}
    assert not verdict(**short)[0]
    assert verdict(**short, length_taste=LIKES_SHORT)[0]
    assert not verdict(**short, length_taste=LengthTaste(0.7, (0.6, 0.8), 60))[0]


def test_a_drift_so_large_that_nothing_can_be_compared_is_no_way_around():
    accepted, said = verdict(words=Sides(120.0, 50.0), matched=rate(0.9, 0.8, prompts=3))
    assert not accepted
    assert "2.40 times as long: on only 3 prompts" in said
    assert not verdict(matched=None)[0]
    assert verdict(words=Sides(20.0, 50.0), matched=None, length_taste=LIKES_SHORT)[0]


SIGNS = [
    ({"disagreement_rise": (0.26, 0.5)}, {"disagreement_rise": (0.25, 0.5)}, "disagree more"),
    ({"gap": (0.26, 0.5)}, {"gap": (0.25, 0.5)}, "which never rewarded it"),
    ({"endings": Sides(0.5, 0.2)}, {"endings": Sides(0.4, 0.2)}, "50% of its replies end like"),
    ({"openings": Sides(0.5, 0.2)}, {"openings": Sides(0.4, 0.2)}, "50% of its replies begin like"),
]


@pytest.mark.parametrize(("sign", "inside", "why"), SIGNS)
def test_a_sign_of_over_optimisation_raises_the_bar_for_the_judge(sign, inside, why):
    """0.58 would do at the gate's confidence."""
    assert verdict(**inside)[0]
    accepted, said = verdict(**sign)
    assert not accepted
    assert "over-optimised, it seems" in said
    assert why in said
    assert verdict(**sign, matched=rate(0.68, 0.58, strict=0.51))[0], "the judge is sure"
    assert not over_optimised(replace(GOOD, **sign, members=rate(0.52, 0.5)), Limits()), (
        "members must like it"
    )


SPLIT = {"doubter": rate(0.4, 0.31), "disagreement": Sides(0.3, 0.2), "disagreement_rise": (0.01, 0.2)}


def test_members_of_which_one_does_not_like_it_and_that_disagree_more_reject_it_whatever_the_judge_says():
    sure = rate(0.9, 0.85, strict=0.8)
    accepted, said = verdict(**SPLIT, matched=sure, raw=sure)
    assert not accepted
    assert said == (
        "over-optimised: the reward's members prefer it in 75% of comparisons, but disagree more than on the "
        "champion's replies, by 0.300 against 0.200, and one of them prefers it in only "
        "40% [31%, 49%] of comparisons on 20 prompts"
    )


@pytest.mark.parametrize(
    "inside",
    [{"doubter": rate(0.4, 0.3)}, {"disagreement_rise": (0.0, 0.2)}, {"members": rate(0.6, 0.5)}],
    ids=[
        "one of them is of two minds",
        "they do not surely disagree more",
        "their mean does not surely rise",
    ],
)
def test_short_of_that_it_passes(inside):
    assert verdict(**(SPLIT | inside))[0]


def test_what_is_not_known_of_the_judge_is_said():
    few = Quality(0.4, (0.1, 0.8), 7)
    accepted, said = verdict(quality=few)
    assert accepted
    assert "right in 40% [10%, 80%] of 7 held-out labels, which does not prove" in said
    assert "never measured" in verdict(quality=Quality(None, (0.0, 1.0), 0))[1]


def test_the_one_that_decides_is_named():
    assert deciding(GOOD, Limits())[0] is GOOD.matched
    short = replace(GOOD, words=Sides(40.0, 50.0), length_taste=LIKES_SHORT)
    assert deciding(short, Limits())[0] is short.raw


def test_an_equal_candidate_passes_about_as_rarely_as_the_confidence_says():
    dice, passed = np.random.default_rng(0), 0
    for trial in range(300):
        low, high = share_interval(list(dice.uniform(0, 1, 16)), 0.8, seed=trial)
        passed += verdict(matched=WinRate(0.5, (low, high), (low, high), 16))[0]
    assert 0.05 < passed / 300 < 0.15
