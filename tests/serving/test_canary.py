"""The canary's statistics against direct formulas, brute force and chance."""

import json
import math
import random
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import pytest

from serving.canary.evidence import log_evidence, margin
from serving.canary.guards import Guard, Replies, Tally, guards_of, ratio_guard, share_guard, tally_of
from serving.canary.lead import Voice, lead_of
from serving.canary.rule import Rule
from serving.canary.verdict import Outcome, Verdict, beta_binomial, verdict

RULE = Rule()
QUIET = Rule(least_raters=2, correlation=0.1)
CANARIES = 250
RATINGS = 500
LOOK_EVERY = 25
WRONG = 0.08  # of 250 at a true 5 %, more are seen in 1 of 60
NAIVE = 1.6449  # a one-sided z-test of 5 %, looked at once


# The mixture


@pytest.mark.parametrize("lead", [-0.3, -0.02, 0.0, 0.05, 0.3])
@pytest.mark.parametrize("variance", [1e-4, 0.002, 0.05])
def test_the_evidence_is_the_likelihood_ratio_mixed_over_a_half_normal(lead: float, variance: float) -> None:
    scale = 0.1
    step = 1e-5
    grid = np.arange(step / 2, 12 * scale, step)
    prior = 2 * np.exp(-(grid**2) / (2 * scale**2)) / (scale * math.sqrt(2 * math.pi))
    ratio = np.exp(grid * lead / variance - grid**2 / (2 * variance))
    assert log_evidence(lead, variance, scale) == pytest.approx(
        math.log((prior * ratio).sum() * step), abs=1e-4
    )


def test_both_sides_together_are_the_two_sided_mixture_of_johari_pekelis_and_walsh() -> None:
    lead, variance, scale = 0.07, 0.0013, 0.1
    spread = variance + scale**2
    both = math.sqrt(variance / spread) * math.exp(scale**2 * lead**2 / (2 * variance * spread))
    sides = [math.exp(log_evidence(sign * lead, variance, scale)) for sign in (1, -1)]
    assert sum(sides) / 2 == pytest.approx(both)


def test_evidence_far_off_is_finite_and_grows_with_the_lead() -> None:
    found = [log_evidence(lead / 100, 1e-5, 0.1) for lead in range(-100, 101)]
    assert all(math.isfinite(value) for value in found)
    assert found == sorted(found)


@pytest.mark.parametrize("variance", [1e-6, 0.001, 0.2])
@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_at_the_margin_the_evidence_is_one_in_alpha(variance: float, alpha: float) -> None:
    lead = margin(variance, 0.1, alpha)
    assert log_evidence(lead, variance, 0.1) == pytest.approx(math.log(1 / alpha))


def test_under_no_lead_a_random_walk_seldom_reaches_the_bar_however_long_it_is_watched() -> None:
    dice = np.random.default_rng(3)
    n = np.arange(1, 4001)
    reached = naive = 0
    for _ in range(CANARIES):
        means = dice.normal(0, 0.7, len(n)).cumsum() / n
        marks = range(20, len(n), 10)
        reached += any(log_evidence(means[k], 0.49 / n[k], 0.1) >= math.log(20) for k in marks)
        naive += any(means[k] > NAIVE * 0.7 / math.sqrt(n[k]) for k in marks)
    assert reached / CANARIES <= WRONG
    assert naive / CANARIES > 2 * WRONG


# What raters said


def test_of_single_thumbs_the_lead_and_its_variance_are_the_textbook_ones() -> None:
    voices = _singles(champion=(60, 40), challenger=(45, 15))
    found = lead_of(voices, RULE)
    assert found is not None
    assert found.lead == pytest.approx(0.75 - 0.6)
    sandwich = (0.6 * 0.4 / 100 + 0.75 * 0.25 / 60) * 60 / 59
    dispersion = min((100 * 0.6 * 0.4 + 60 * 0.75 * 0.25 + 1 / 4) / 161, 105.5 / 161 * 55.5 / 161)
    assert found.variance == pytest.approx(max(sandwich, dispersion * (1 / 100 + 1 / 60)))
    assert found.raters == pytest.approx(60)


def test_of_choices_the_lead_is_half_their_mean() -> None:
    found = lead_of(_choices(wins=60, losses=30, ties=10), RULE)
    assert found is not None
    assert found.lead == pytest.approx(0.15)
    assert found.thumbs is None
    squares = (60 * (0.5 - 0.15) ** 2 + 30 * (0.5 + 0.15) ** 2 + 10 * 0.15**2) / 100**2
    assert found.variance == pytest.approx(max(squares * 100 / 99, (90 / 4 + 1 / 4) / 101 / 100))


@pytest.mark.parametrize("correlation", [0.01, 0.1, 0.3])
def test_thumbs_of_several_arms_are_solved_as_generalised_least_squares_would(correlation: float) -> None:
    voices = _crowd(random.Random(5), raters=40)
    found = lead_of(voices, Rule(least_raters=2, correlation=correlation))
    assert found is not None
    assert found.thumbs is not None
    lead, sandwich, working = _by_matrices(voices, correlation)
    k = found.thumbs.raters
    assert found.thumbs.lead == pytest.approx(lead)
    assert found.thumbs.variance == pytest.approx(max(sandwich * k / (k - 1), working))


def test_the_variance_is_near_what_leaving_out_a_rater_says() -> None:
    voices = _crowd(random.Random(6), raters=150)
    found = lead_of(voices, QUIET)
    assert found is not None
    others = [lead_of(voices[:n] + voices[n + 1 :], QUIET) for n in range(len(voices))]
    leads = [other.lead for other in others if other is not None]
    jackknife = sum((lead - found.lead) ** 2 for lead in leads)
    assert found.variance == pytest.approx(jackknife, rel=0.1)


def test_thumbs_and_choices_of_one_rater_are_not_counted_as_two_witnesses() -> None:
    apart = [*_singles(champion=(50, 50), challenger=(50, 50)), *_choices(wins=50, losses=50)]
    together = [
        *(Voice(challenger=(1, 0), wins=1) for _ in range(50)),
        *(Voice(challenger=(0, 1), losses=1) for _ in range(50)),
        *_singles(champion=(50, 50), challenger=(0, 0)),
    ]
    one, other = lead_of(apart, RULE), lead_of(together, RULE)
    assert one is not None
    assert other is not None
    assert other.variance > 1.3 * one.variance


def test_arms_swapped_swap_better_and_worse() -> None:
    voices = _crowd(random.Random(7), raters=60)
    found, mirrored = _asked(voices), _asked([_swapped(voice) for voice in voices])
    assert found.better == pytest.approx(mirrored.worse)
    assert found.worse == pytest.approx(mirrored.better)
    assert found.interval is not None
    assert mirrored.interval is not None
    assert found.interval == pytest.approx([-end for end in reversed(mirrored.interval)])
    assert found.probability == pytest.approx(1 - mirrored.probability)


def test_the_order_of_raters_is_nothing() -> None:
    voices = _crowd(random.Random(8), raters=60)
    found, other = lead_of(voices, RULE), lead_of(voices[::-1], RULE)
    assert found is not None
    assert other is not None
    assert (other.lead, other.variance) == pytest.approx((found.lead, found.variance))


def test_one_rater_with_a_thousand_votes_decides_nothing() -> None:
    flood = Voice(challenger=(1000, 0), wins=1000)
    few = _singles(champion=(3, 3), challenger=(3, 3))
    many = _singles(champion=(60, 40), challenger=(60, 40))
    assert _asked([flood]).outcome is Outcome.running
    assert _asked([*few, flood]).outcome is Outcome.running
    with_flood, without = _asked([*many, flood]), _asked(many)
    assert with_flood.outcome is Outcome.running
    assert with_flood.lead is not None
    assert without.lead is not None
    assert abs(with_flood.lead.lead - without.lead.lead) < 0.03


def test_a_past_clears_the_lead_of_how_lenient_raters_are() -> None:
    """The challenger's raters are the stricter ones, as their past tells."""
    lenient = [Voice(champion=(4, 1), before=(20, 5)) for _ in range(60)]
    strict = [Voice(challenger=(2, 3), before=(5, 20)) for _ in range(60)]
    with_past = lead_of([*lenient, *strict], RULE)
    without = lead_of([replace(voice, before=(0, 0)) for voice in (*lenient, *strict)], RULE)
    assert with_past is not None
    assert without is not None
    assert without.lead == pytest.approx(-0.4)
    assert with_past.lead > -0.1


def test_times_that_have_changed_for_all_lean_to_no_arm() -> None:
    voices = [
        *(Voice(champion=(3, 2), before=before) for before in ((9, 1), (1, 9)) for _ in range(40)),
        *(Voice(challenger=(3, 2), before=before) for before in ((9, 1), (1, 9)) for _ in range(10)),
    ]
    found = lead_of(voices, replace(RULE, least_raters=10))
    assert found is not None
    assert found.lead == pytest.approx(0)


def test_too_few_raters_are_not_heard_however_sure_they_are() -> None:
    assert lead_of(_singles(champion=(0, 19), challenger=(19, 0)), RULE) is None
    assert lead_of(_singles(champion=(0, 500), challenger=(19, 0)), RULE) is None
    assert lead_of(_choices(wins=19, losses=0), RULE) is None
    both = lead_of([*_singles(champion=(0, 20), challenger=(20, 0)), *_choices(wins=0, losses=19)], RULE)
    assert both is not None
    assert both.pairs is None


def test_many_choices_of_one_rater_weigh_less_than_those_of_many() -> None:
    found = lead_of([*_choices(wins=0, losses=60), Voice(wins=100)], RULE)
    weight = 100 / (1 + 99 * RULE.correlation)
    assert found is not None
    assert found.lead == pytest.approx((weight - 60) / (weight + 60) / 2)


def test_arms_without_any_disagreement_still_have_a_variance() -> None:
    same = lead_of(_singles(champion=(30, 0), challenger=(30, 0)), RULE)
    assert same is not None
    assert same.lead == 0
    assert same.variance > 0
    assert _asked(_singles(champion=(30, 0), challenger=(0, 30))).outcome is Outcome.failed


def test_a_small_arm_of_thumbs_up_only_is_no_proof() -> None:
    found = _asked(_singles(champion=(450, 50), challenger=(25, 0)))
    assert found.outcome is Outcome.running


# The verdict


def test_raters_promote_and_abort() -> None:
    better = _asked(_singles(champion=(180, 120), challenger=(240, 60)))
    worse = _asked(_singles(champion=(240, 60), challenger=(180, 120)))
    assert better.outcome is Outcome.successful
    assert "+20.0 points" in better.reason
    assert worse.outcome is Outcome.failed
    assert better.interval is not None
    assert better.interval[0] > 0


@pytest.mark.parametrize("up", range(175, 230, 5))
def test_the_interval_leaves_out_nought_just_when_it_is_decided(up: int) -> None:
    found = _asked(_singles(champion=(180, 120), challenger=(up, 300 - up)))
    assert found.interval is not None
    assert (found.interval[0] > 0) == (found.better >= 20) == (found.outcome is Outcome.successful)


def test_time_ends_what_raters_leave_open() -> None:
    voices = _singles(champion=(30, 20), challenger=(30, 20))
    asked = partial(verdict, champion=Replies(), challenger=Replies(), rule=Rule(deadline=3600))
    assert asked(voices, elapsed=3599.0).outcome is Outcome.running
    ended = asked(voices, elapsed=3600.0)
    assert ended.outcome is Outcome.inconclusive
    assert "1.0 hours" in ended.reason
    decided = asked(_singles(champion=(180, 120), challenger=(240, 60)), elapsed=9999.0)
    assert decided.outcome is Outcome.successful


def test_nobody_spoke() -> None:
    found = _asked([])
    assert found.outcome is Outcome.running
    assert (found.lead, found.interval, found.better, found.raters) == (None, None, 1.0, 0)
    assert found.probability == pytest.approx(0.5)


def test_a_past_alone_is_not_a_voice() -> None:
    assert _asked([Voice(before=(9, 1)) for _ in range(100)]).raters == 0


def test_a_verdict_is_plain_json_even_where_evidence_is_beyond_floats() -> None:
    voices = _singles(champion=(0, 20000), challenger=(20000, 0))
    found = _asked(voices).as_dict()
    assert found["outcome"] == "successful"
    assert json.loads(json.dumps(found, allow_nan=False))["champion"] == [0, 20000]


def test_a_tripped_guard_fails_what_raters_love() -> None:
    voices = _singles(champion=(180, 120), challenger=(240, 60))
    harmed = replace(_replies(), broken=_shares(120, 400))
    found = verdict(voices, _replies(), harmed, 0.0, RULE)
    assert found.outcome is Outcome.failed
    assert found.better >= 20
    assert "30.0%" in found.reason
    assert "1.0%" in found.reason


# Peeking


@pytest.mark.slow
def test_no_effect_is_seldom_promoted_or_aborted_though_it_is_looked_at_after_every_few_ratings() -> None:
    """The same canaries are promoted far too often by a z-test that is looked at as often."""
    dice = random.Random(12)
    promoted = aborted = naive = 0
    for _ in range(CANARIES):
        looks = [lead_of(voices, RULE) for voices in _course(dice, effect=0.0)]
        heard = [(look.lead, look.variance) for look in looks if look is not None]
        promoted += any(_reaches(lead, variance) for lead, variance in heard)
        aborted += any(_reaches(-lead, variance) for lead, variance in heard)
        naive += any(lead > NAIVE * math.sqrt(variance) for lead, variance in heard)
    assert promoted / CANARIES <= WRONG
    assert aborted / CANARIES <= WRONG
    assert naive / CANARIES > WRONG


@pytest.mark.slow
def test_twenty_points_are_mostly_found() -> None:
    dice = random.Random(13)
    found = 0
    for _ in range(40):
        looks = [lead_of(voices, RULE) for voices in _course(dice, effect=0.2)]
        found += any(_reaches(look.lead, look.variance) for look in looks if look is not None)
    assert found >= 30


# Guards


def test_shares_trip_beyond_their_tolerance_and_not_within() -> None:
    guard = partial(share_guard, "refusals", tolerance=0.05, rule=RULE)
    assert guard(_shares(50, 1000), _shares(150, 1000)).tripped
    assert not guard(_shares(50, 1000), _shares(95, 1000)).tripped
    assert not guard(_shares(50, 1000), _shares(0, 1000)).tripped
    assert not guard(_shares(0, 1000), _shares(1, 50)).tripped


def test_none_broken_in_a_few_is_not_never() -> None:
    found = share_guard("broken", _shares(0, 60), _shares(9, 60), 0.02, RULE)
    champion, challenger = 0.5 / 61, 9.5 / 61
    variance = (champion * (1 - champion) + challenger * (1 - challenger)) / 60
    assert math.log(found.evidence) == pytest.approx(log_evidence(0.15 - 0.02, variance, 0.05))


def test_ratios_trip_beyond_their_tolerance_and_not_within() -> None:
    guard = partial(ratio_guard, "length", tolerance=0.5, rule=RULE, unit="tokens")
    usual = _lengths(100, 400)
    assert guard(usual, _lengths(200, 400)).tripped
    assert not guard(usual, _lengths(145, 400)).tripped
    assert not guard(usual, _lengths(40, 400)).tripped
    assert guard(usual, _lengths(40, 400), low=True).tripped
    assert not guard(usual, _lengths(70, 400), low=True).tripped
    assert not guard(usual, _lengths(200, 400), low=True).tripped


def test_a_ratio_is_the_same_from_either_side() -> None:
    guard = partial(ratio_guard, "length", tolerance=0.5, rule=RULE, unit="tokens")
    a, b = _lengths(100, 300), _lengths(170, 200)
    assert guard(a, b).evidence == pytest.approx(guard(b, a, low=True).evidence)


def test_few_replies_and_means_of_nought_say_nothing() -> None:
    awful, none = _shares(49, 49), Tally(500)
    assert share_guard("broken", _shares(0, 500), awful, 0.02, RULE).evidence == 1
    assert not ratio_guard("length", none, _lengths(100, 500), 0.5, RULE, unit="tokens").tripped
    assert not any(guard.tripped for guard in guards_of(Replies(), Replies(), RULE))


def test_replies_all_of_one_length_still_trip() -> None:
    constant = [Tally(100, 100 * length, 100 * length**2) for length in (10.0, 20.0)]
    assert ratio_guard("length", constant[0], constant[1], 0.5, RULE, unit="tokens").tripped
    assert not ratio_guard("length", constant[0], constant[0], 0.5, RULE, unit="tokens").tripped


def test_a_guard_says_which_and_both_figures() -> None:
    tripped = _tripped(replace(_replies(), first_token=_lengths(0.9, 400)))
    assert [guard.name for guard in tripped] == ["time to first token"]
    assert "0.9 s" in tripped[0].sentence
    assert "0.3" in tripped[0].sentence


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("broken replies", {"broken": 100}),
        ("refusals", {"refused": 100}),
        ("longer replies", {"length": 600.0}),
        ("shorter replies", {"length": 50.0}),
        ("time to first token", {"first_token": 0.9}),
    ],
)
def test_each_harm_trips_its_guard_and_no_other(name: str, change: dict[str, float]) -> None:
    figure, value = next(iter(change.items()))
    tally = _shares(int(value), 400) if figure in ("broken", "refused") else _lengths(value, 400)
    assert [guard.name for guard in _tripped(replace(_replies(), **{figure: tally}))] == [name]


def test_guards_seldom_trip_at_their_very_tolerance() -> None:
    dice = np.random.default_rng(4)
    tripped = 0
    for _ in range(200):
        champion, challenger = dice.random(2000) < 0.05, dice.random(2000) < 0.10
        tripped += any(
            share_guard(
                "refusals", _shares(champion[:n].sum(), n), _shares(challenger[:n].sum(), n), 0.05, RULE
            ).tripped
            for n in range(50, 2001, 50)
        )
    assert tripped <= 6


def test_what_two_people_ask_for_is_no_harm_of_the_version() -> None:
    champion = tally_of([(25.0, 2_500.0, 450_000.0)] * 18)
    challenger = tally_of([(25.0, 5_750.0, 1_600_000.0)] * 2)
    without = replace(challenger, groups=())
    guard = partial(ratio_guard, "longer replies", tolerance=0.5, rule=RULE, unit="tokens")
    assert guard(replace(champion, groups=()), without).tripped
    assert guard(champion, challenger).evidence == 1
    refusals = [tally_of([(25.0, cases, cases)] * people) for cases, people in ((1.0, 40), (20.0, 2))]
    assert share_guard("refusals", *refusals, 0.05, RULE).evidence == 1
    assert share_guard("broken replies", *refusals, 0.02, RULE, alone=True).tripped


@pytest.mark.parametrize("figure", ["refusals", "longer replies"])
def test_guards_seldom_trip_for_what_people_ask_for(figure: str) -> None:
    """Both arms are the same version; people differ, and each stays with an arm."""
    dice = np.random.default_rng(11)
    tripped = {True: 0, False: 0}
    for _ in range(150):
        people = 400
        arm = dice.random(people) < 0.25
        habit = dice.beta(0.05, 0.5, people) if figure == "refusals" else np.exp(dice.normal(0, 1.0, people))
        groups = dice.integers(0, 128, people)
        replies = 12.0
        for looks in range(1, 6):
            n = np.full(people, replies * looks)
            total = n * habit
            squares = total if figure == "refusals" else n * habit**2
            arms = [
                tally_of(
                    zip(
                        *(
                            np.bincount(groups[arm == side], each[arm == side])
                            for each in (n, total, squares)
                        ),
                        strict=True,
                    )
                )
                for side in (False, True)
            ]
            for grouped in (True, False):
                both = arms if grouped else [replace(each, groups=()) for each in arms]
                found = (
                    share_guard(figure, *both, 0.0, RULE)
                    if figure == "refusals"
                    else ratio_guard(figure, *both, 0.0, RULE, unit="tokens")
                )
                tripped[grouped] += found.tripped and looks == 5
    assert tripped[True] <= 6
    assert tripped[False] > 20


# Beta-binomial


@pytest.mark.parametrize(
    ("challenger", "champion"),
    [((7, 3), (5, 5)), ((0, 0), (3, 1)), ((40, 2), (30, 9)), ((2, 40), (60, 900)), ((300, 200), (280, 220))],
)
def test_beta_binomial_is_what_draws_say(challenger: tuple[int, int], champion: tuple[int, int]) -> None:
    dice = np.random.default_rng(1)
    draws = 200_000
    ours = dice.beta(1 + challenger[0], 1 + challenger[1], draws)
    theirs = dice.beta(1 + champion[0], 1 + champion[1], draws)
    assert beta_binomial(challenger, champion) == pytest.approx(float((ours > theirs).mean()), abs=0.005)


def test_beta_binomial_of_small_numbers_is_exact() -> None:
    assert beta_binomial((0, 0), (0, 0)) == pytest.approx(1 / 2)
    assert beta_binomial((1, 0), (0, 0)) == pytest.approx(2 / 3)  # E of x with density 2x
    assert beta_binomial((1, 0), (0, 1)) == pytest.approx(5 / 6)


def test_beta_binomial_of_large_numbers_is_sound_and_mirrors() -> None:
    found = beta_binomial((60_300, 39_700), (60_000, 40_000))
    deviation = 0.003 / math.sqrt(2 * 0.6 * 0.4 / 100_000)
    assert found == pytest.approx((1 + math.erf(deviation / math.sqrt(2))) / 2, abs=0.001)
    assert beta_binomial((60_000, 40_000), (60_300, 39_700)) == pytest.approx(1 - found, abs=1e-9)


# Makers of voices and replies


def _asked(voices: list[Voice]) -> Verdict:
    return verdict(voices, Replies(), Replies(), 0.0, RULE)


def _singles(champion: tuple[int, int], challenger: tuple[int, int]) -> list[Voice]:
    """A rater for each thumb."""
    return [
        *(Voice(champion=(1, 0)) for _ in range(champion[0])),
        *(Voice(champion=(0, 1)) for _ in range(champion[1])),
        *(Voice(challenger=(1, 0)) for _ in range(challenger[0])),
        *(Voice(challenger=(0, 1)) for _ in range(challenger[1])),
    ]


def _choices(wins: int, losses: int, ties: int = 0) -> list[Voice]:
    return [
        *(Voice(wins=1) for _ in range(wins)),
        *(Voice(losses=1) for _ in range(losses)),
        *(Voice(ties=1) for _ in range(ties)),
    ]


def _swapped(voice: Voice) -> Voice:
    return replace(
        voice,
        champion=voice.challenger,
        challenger=voice.champion,
        wins=voice.losses,
        losses=voice.wins,
    )


def _crowd(dice: random.Random, raters: int) -> list[Voice]:
    """Raters with thumbs on one arm or both, a past, and choices; each of one mood throughout."""

    def said(most: int, glad: bool) -> tuple[int, int]:
        many, few = dice.randint(0, most), dice.randint(0, 1)
        return (many, few) if glad else (few, many)

    def voice(number: int) -> Voice:
        glad, fond = dice.random() < 0.6, dice.random() < 0.6
        wins, losses = said(3, fond)
        return Voice(
            champion=said(4, glad) if number % 3 else (0, 0),
            challenger=said(5, glad) if number % 3 != 1 else (0, 0),
            before=said(6, glad) if number % 2 else (0, 0),
            wins=wins,
            losses=losses,
            ties=dice.randint(0, 1),
        )

    return [voice(number) for number in range(raters)]


def _by_matrices(voices: list[Voice], correlation: float) -> tuple[float, float, float]:
    """The lead by generalised least squares over single thumbs, and its variance by the sandwich and by the
    working model."""
    a, b, cases = np.zeros((3, 3)), np.zeros(3), []
    for voice in voices:
        arms = (voice.champion, voice.challenger, voice.before)
        y = np.array(list(chain.from_iterable([1.0] * up + [0.0] * down for up, down in arms)))
        design = np.array([np.eye(3)[arm] for arm in range(3) for _ in range(sum(arms[arm]))]).reshape(-1, 3)
        r = np.full((len(y), len(y)), correlation) + (1 - correlation) * np.eye(len(y))
        inverse = np.linalg.inv(r) if len(y) else r
        cases.append((design.T @ inverse, y, design))
        a += design.T @ inverse @ design
        b += design.T @ inverse @ y
    means, sides = np.linalg.solve(a, b), np.array([-1.0, 1.0, 0.0])
    scores = np.array([weighted @ (y - design @ means) for weighted, y, design in cases])
    approval = (b.sum() + 1 / 2) / (a.sum() + 1)
    dispersion = min(((scores.sum(1) ** 2).sum() + 1 / 4) / (a.sum() + 1), approval * (1 - approval))
    sandwich = ((scores @ np.linalg.solve(a, sides)) ** 2).sum()
    return float(means @ sides), float(sandwich), float(dispersion * sides @ np.linalg.solve(a, sides))


def _course(dice: random.Random, effect: float) -> list[list[Voice]]:
    """A canary's voices at each of its looks: raters of different leniency who vote one to eight times, each
    on one arm."""
    voices: dict[int, Voice] = {}
    shares: dict[int, float] = {}
    looks = []
    for n in range(1, RATINGS + 1):
        rater = dice.randrange(n // 4 + 1) if dice.random() < 0.5 else n
        mine = voices.get(rater, Voice())
        share = shares.setdefault(rater, dice.betavariate(3.6, 2.4))
        if rater % 2:
            up = dice.random() < share + effect
            voices[rater] = replace(mine, challenger=_one_more(mine.challenger, up))
        else:
            up = dice.random() < share
            voices[rater] = replace(mine, champion=_one_more(mine.champion, up))
        if n % LOOK_EVERY == 0:
            looks.append(list(voices.values()))
    return looks


def _one_more(thumbs: tuple[int, int], up: bool) -> tuple[int, int]:
    return thumbs[0] + up, thumbs[1] + (not up)


def _reaches(lead: float, variance: float) -> bool:
    return log_evidence(lead, variance, RULE.scale) >= math.log(1 / RULE.alpha)


def _shares(cases: int, n: int) -> Tally:
    return Tally(n, cases, cases)


def _lengths(mean: float, n: int) -> Tally:
    """With a standard deviation as large as the mean."""
    return Tally(n, n * mean, 2 * n * mean**2)


def _replies() -> Replies:
    return Replies(
        broken=_shares(4, 400),
        first_token=_lengths(0.3, 400),
        length=_lengths(200, 400),
        refused=_shares(20, 400),
    )


def _tripped(challenger: Replies) -> list[Guard]:
    return [guard for guard in guards_of(_replies(), challenger, RULE) if guard.tripped]
