"""How soon does a canary decide, and how often wrongly? Simulated raters, the service's own test.

    python -m tests.bench.release [--canaries 1000] [--scenario plain-50 often] [--effect 0 0.1 -0.1]
    python -m tests.bench.release --canaries 200 --horizon 2000
    python -m tests.bench.release --guards

A scenario is a crowd: how many of them get the challenger, how often they vote, whether a rater stays with
one arm, how many votes are choices between two replies, and how raters differ. A thumb is up with probability
sigmoid(b + leniency + effect), and of two replies the challenger's is chosen with probability
sigmoid(effect + taste), leniency and taste each rater's own, normal; b and effect are such that over all
raters the approvals are as the scenario says. 15 % of choices are ties. Where raters have a past, it is about
as long as what they say during the canary, and on the champion.

plain-…: people whose visits differ in number (log-normal, median 12) and who rate 3 % of them, so nearly all
rate once: 100 ratings take 3,300 replies, but raters are as good as independent. single: one vote each, no
past. often: 1 + Poisson(exponential of mean 4) votes a rater, all within a part of the canary. heavy:
log-normal, so that a tenth of the raters give half of the votes. regulars: the same 200 people all along.

The test looks after every rating, up to --horizon of them. "Ratings" are the median to a right decision, of
all canaries, undecided ones being above every number: those of the challenger's arm, and half of both arms'.
A choice counts as a rating of each arm. "Peeking" is how many a plain z-test would have promoted.
Each scenario's last canary is computed by serving/canary too, at ten moments, and must come out the
same. All of it, with 1,000 canaries each, takes ten to twenty minutes of one core; --scenario and --effect
take a part.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, log_ndtr

from serving.canary.evidence import log_evidence
from serving.canary.guards import Replies, Tally, guards_of, tally_of
from serving.canary.lead import ROUNDING, Voice, lead_of
from serving.canary.rule import Rule
from serving.served import GROUPS
from workers.statistics import wilson_interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESPONSE = 0.03
TIES = 0.15
REGULARS = 200
PAIR = 2  # a rating's kind: 0 and 1 are thumbs on champion and challenger
FIRST_LOOK = 1500  # ratings; most canaries with an effect are over by then
NODES, MASS = np.polynomial.hermite_e.hermegauss(61)


@dataclass(frozen=True)
class Scenario:
    """`leniency` and `taste`: standard deviations over raters, logits."""

    name: str
    traffic: float = 0.5
    approval: float = 0.6
    votes: str = "visits"
    pairs: float = 0.0
    leniency: float = 1.0
    taste: float = 0.0
    sticky: bool = True
    past: bool = True


SCENARIOS = (
    Scenario("single", votes="single", past=False),
    Scenario("plain-50"),
    Scenario("plain-25", traffic=0.25),
    Scenario("plain-10", traffic=0.1),
    Scenario("plain-30%-up", approval=0.3),
    Scenario("plain-85%-up", approval=0.85),
    Scenario("plain-85%-up-10", approval=0.85, traffic=0.1),
    Scenario("plain-strong-leniency", leniency=2.0),
    Scenario("pairs", pairs=0.3, taste=0.5),
    Scenario("pairs-25", pairs=0.3, taste=0.5, traffic=0.25),
    Scenario("often", votes="often"),
    Scenario("often-25", votes="often", traffic=0.25),
    Scenario("often-no-past", votes="often", past=False),
    Scenario("often-strong-leniency", votes="often", leniency=1.5),
    Scenario("often-both-arms", votes="often", sticky=False),
    Scenario("often-pairs", votes="often", pairs=0.3, taste=1.0),
    Scenario("heavy", votes="heavy"),
    Scenario("heavy-no-past", votes="heavy", past=False),
    Scenario("heavy-pairs", votes="heavy", pairs=0.3, taste=1.0),
    Scenario("regulars", votes="regulars"),
    Scenario("regulars-no-past", votes="regulars", past=False),
)


@dataclass(frozen=True)
class Canary:
    """Ratings in the order in which they came. `said`: 1 or 0 of a thumb, 1, 0 or -1 of a choice; `past`:
    thumbs and thumbs up before, by rater."""

    rater: Ints
    kind: Ints
    said: Ints
    past: Ints

    def until(self, end: int) -> "Canary":
        return Canary(self.rater[:end], self.kind[:end], self.said[:end], self.past)

    def ratings(self) -> tuple[float, float]:
        """Of the challenger's arm, and half of both arms'."""
        choices = int((self.kind == PAIR).sum())
        return int((self.kind == 1).sum()) + choices, (len(self.kind) + choices) / 2

    def voices(self) -> list[Voice]:
        """What serving/canary is told."""
        found = []
        for rater in np.unique(self.rater):
            mine = self.rater == rater
            thumbs, choices = self.said[mine], self.said[mine & (self.kind == PAIR)]
            ups = [int((thumbs[self.kind[mine] == arm] == 1).sum()) for arm in (0, 1)]
            downs = [int((thumbs[self.kind[mine] == arm] == 0).sum()) for arm in (0, 1)]
            n, up = (int(number) for number in self.past[rater])
            wins, losses, ties = (int((choices == side).sum()) for side in (1, -1, 0))
            found.append(Voice((ups[0], downs[0]), (ups[1], downs[1]), (up, n - up), wins, losses, ties))
        return found


@dataclass(frozen=True)
class Logits:
    """The champion's and the challenger's thumbs, and the challenger's side of a choice."""

    champion: float
    challenger: float
    choice: float

    @classmethod
    def of(cls, scenario: Scenario, effect: float) -> "Logits":
        spread, p = scenario.leniency, scenario.approval
        champion = logit_of(p, spread)
        return cls(
            champion,
            logit_of(p + effect, math.hypot(spread, scenario.taste)),
            logit_of(p + effect, spread) - champion,
        )


def logit_of(share: float, spread: float) -> float:
    """b with E sigmoid(b + spread·Z) = share, Z standard normal."""
    weights = MASS / MASS.sum()
    return float(brentq(lambda b: float(expit(b + spread * NODES) @ weights) - share, -30, 30))


def draw(scenario: Scenario, logits: Logits, horizon: int, dice: np.random.Generator) -> Canary:
    rater, past = votes_of(scenario, horizon, dice)
    raters, n = len(past), len(rater)
    leniency, taste = scenario.leniency * dice.normal(size=raters), scenario.taste * dice.normal(size=raters)
    arm = dice.random(raters)[rater] if scenario.sticky else dice.random(n)
    challenger, choice = arm < scenario.traffic, dice.random(n) < scenario.pairs
    thumb = np.where(challenger, logits.challenger + taste[rater], logits.champion) + leniency[rater]
    up = dice.random(n) < expit(thumb)
    won = np.where(dice.random(n) < expit(logits.choice + taste[rater]), 1, -1) * (dice.random(n) >= TIES)
    kind = np.where(choice, PAIR, challenger.astype(int))
    seen = past if scenario.past else np.zeros_like(past)
    ups = dice.binomial(seen, expit(logits.champion + leniency))
    return Canary(rater, kind, np.where(choice, won, up), np.stack([seen, ups], axis=1))


def votes_of(scenario: Scenario, horizon: int, dice: np.random.Generator) -> tuple[Ints, Ints]:
    """Who gives each of the first `horizon` votes, and how many votes each rater gave before the canary."""
    if scenario.votes == "regulars":
        rates = np.exp(dice.normal(size=REGULARS))
        rates /= rates.sum()
        return dice.choice(REGULARS, horizon, p=rates), dice.poisson(900 * rates)
    mine, past = activity(scenario.votes, horizon, dice)
    voting = np.flatnonzero(mine)
    raters = voting[: int(np.searchsorted(np.cumsum(mine[voting]), 1.5 * horizon)) + 1]
    mine, past = mine[raters], past[raters]
    rater = np.repeat(np.arange(len(mine)), mine)
    # a rater's votes lie within a part of the canary, as visits do
    times = dice.random(len(mine))[rater] + dice.exponential(0.15, len(rater)) * (mine[rater] > 1)
    return rater[np.argsort(times)[:horizon]], past


def activity(votes: str, horizon: int, dice: np.random.Generator) -> tuple[Ints, Ints]:
    """Votes during the canary and before it, for enough people."""
    if votes == "single":
        return np.ones(2 * horizon, dtype=int), np.ones(2 * horizon, dtype=int)
    if votes == "visits":
        rates = RESPONSE * np.exp(dice.normal(math.log(12), 1, 8 * horizon))
        return dice.poisson(rates), dice.poisson(rates)
    if votes == "often":
        rates = dice.exponential(4, 2 * horizon)
    else:
        rates = np.maximum(np.exp(dice.normal(1, 1.2, 2 * horizon)) - 1, 0)
    return 1 + dice.poisson(rates), 1 + dice.poisson(rates)


COUNTS = 6  # thumbs and thumbs up of champion and challenger; choices and their sum
TERMS = 11  # A of thumbs (00, 01, 11, 02, 12, 22), its b (0, 1, 2); weight and weighted lead of choices
UPPER = np.triu_indices(TERMS)


@dataclass(frozen=True)
class Course:
    """After each rating: the lead, its variance, and the logarithm of the evidence for better and worse."""

    lead: Floats
    variance: Floats
    better: Floats
    worse: Floats


def course_of(canary: Canary, rule: Rule) -> Course:
    """`lead_of` and `log_evidence` after each rating. Of all raters it keeps the sums of their terms x and of
    xx': a rater's influence is l'x, with l the same for all of them, so that Σφ² = l'(Σxx')l."""
    (said_before, said), past = counts_of(canary), canary.past[canary.rater].astype(float)
    known = said_before[:, [0, 2, 4]].sum(axis=1) > 0
    before = terms_of(said_before, past * known[:, None], rule.correlation)
    after = terms_of(said, past, rule.correlation)
    products = after[UPPER[0]] * after[UPPER[1]] - before[UPPER[0]] * before[UPPER[1]]
    square = np.empty((TERMS, TERMS, after.shape[1]))
    square[UPPER] = square[UPPER[::-1]] = np.cumsum(products, axis=1)
    sums = np.cumsum(after - before, axis=1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return _course(sums, square, rule)


def counts_of(canary: Canary) -> tuple[Floats, Floats]:
    """What the rater of each rating had said before it, and has with it: (ratings, COUNTS) each."""
    given = np.zeros((len(canary.rater), COUNTS))
    for kind in (0, 1, PAIR):
        given[:, 2 * kind] = canary.kind == kind
        given[:, 2 * kind + 1] = canary.said * (canary.kind == kind)
    order = np.argsort(canary.rater, kind="stable")
    rater, sums = canary.rater[order], np.cumsum(given[order], axis=0)
    first = np.flatnonzero(np.r_[True, rater[1:] != rater[:-1]])
    others = (sums - given[order])[first]
    after = np.empty_like(sums)
    after[order] = sums - np.repeat(others, np.diff(np.r_[first, len(rater)]), axis=0)
    return after - given, after


def terms_of(counts: Floats, past: Floats, correlation: float) -> Floats:
    """(TERMS, ratings)"""
    n0, up0, n1, up1, choices, wins = counts.T
    n2, up2 = past.T
    shrunk = correlation / (1 + (n0 + n1 + n2 - 1) * correlation)
    common = shrunk * (up0 + up1 + up2)
    weight = 1 / (1 + (choices - 1) * correlation)
    thumbs = [
        *(n0 - shrunk * n0 * n0, -shrunk * n0 * n1, n1 - shrunk * n1 * n1),
        *(-shrunk * n0 * n2, -shrunk * n1 * n2, n2 - shrunk * n2 * n2),
        *(up0 - n0 * common, up1 - n1 * common, up2 - n2 * common),
    ]
    return np.stack([*thumbs, weight * choices, weight * wins / 2])


def _course(sums: Floats, square: Floats, rule: Rule) -> Course:
    a00, a01, a11, a02, a12, a22, b0, b1, b2, weight, leads = sums
    evenly = [np.nan_to_num(total**2 / square[n, n]) for n, total in ((0, a00), (2, a11), (9, weight))]
    raters = np.minimum(evenly[0], evenly[1])
    least = rule.least_raters - ROUNDING
    rated, chosen = raters >= least, evenly[2] >= least
    share0, share1 = np.where(a22 > 0, a02 / a22, 0), np.where(a22 > 0, a12 / a22, 0)
    r00, r01, r11 = a00 - share0 * a02, a01 - share0 * a12, a11 - share1 * a12
    det = r00 * r11 - r01**2
    mean0 = (r11 * (b0 - share0 * b2) - r01 * (b1 - share1 * b2)) / det
    mean1 = (r00 * (b1 - share1 * b2) - r01 * (b0 - share0 * b2)) / det
    mean2 = np.where(a22 > 0, b2 / a22, 0) - share0 * mean0 - share1 * mean1
    c0, c1 = -(r11 + r01) / det, (r00 + r01) / det
    c2 = -c0 * share0 - c1 * share1
    lone, one = 1 - rule.correlation, np.ones_like(mean0)
    off = _squared(_of_thumbs((mean0, mean1, mean2), (one, one, one)), square)
    total = a00 + a11 + a22 + 2 * (a01 + a02 + a12) + lone
    approval = (b0 + b1 + b2 + lone / 2) / total
    dispersion = np.minimum((off + lone**2 / 4) / total, approval * (1 - approval) * lone)
    precise = np.where(rated, 1 / (dispersion * (c1 - c0)), 0)
    sure = np.where(chosen, weight * (weight + 1) / (square[10, 10] + 1 / 4), 0)
    precision, choice = precise + sure, np.nan_to_num(leads / weight)
    lead = (precise * np.nan_to_num(mean1 - mean0) + sure * choice) / precision
    line = np.where(rated, precise / precision * _of_thumbs((mean0, mean1, mean2), (c0, c1, c2)), 0)
    line[9:] += np.where(chosen, sure / precision * np.stack([-choice / weight, 1 / weight]), 0)
    k = np.minimum(np.where(rated, raters, np.inf), np.where(chosen, evenly[2], np.inf))
    sandwich = _squared(line, square) * np.where(k < np.inf, k / (k - 1), 1)
    variance = np.maximum(sandwich, 1 / precision)
    heard = rated | chosen
    return Course(lead, variance, *(_evidence(side * lead, variance, heard, rule) for side in (1, -1)))


def _of_thumbs(means: Sequence[Floats], contrast: Sequence[Floats]) -> Floats:
    """l with l'x = contrast'(b - A means), (TERMS, ratings)."""
    (m0, m1, m2), (c0, c1, c2) = means, contrast
    none = np.zeros_like(m0)
    return np.stack(
        [
            *(-c0 * m0, -c0 * m1 - c1 * m0, -c1 * m1),
            *(-c0 * m2 - c2 * m0, -c1 * m2 - c2 * m1, -c2 * m2),
            *(c0, c1, c2, none, none),
        ]
    )


def _squared(line: Floats, square: Floats) -> Floats:
    return np.asarray(np.einsum("it,ijt,jt->t", line, square, line))


def _evidence(lead: Floats, variance: Floats, heard: NDArray[np.bool_], rule: Rule) -> Floats:
    spread = variance + rule.scale**2
    z = rule.scale * lead / np.sqrt(variance * spread)
    mixed = math.log(2) + 0.5 * np.log(variance / spread) + z * z / 2 + log_ndtr(z)
    return np.where(heard, mixed, -np.inf)


def check(canary: Canary, rule: Rule) -> None:
    """The quick way comes to what serving/canary comes to. Raises AssertionError."""
    course = course_of(canary, rule)
    for end in np.linspace(30, len(canary.kind), 10).astype(int):
        lead, better = lead_of(canary.until(end).voices(), rule), course.better[end - 1]
        if lead is None:
            assert better == -np.inf, (end, better)
            continue
        slow = log_evidence(lead.lead, lead.variance, rule.scale)
        assert math.isclose(slow, better, rel_tol=1e-6, abs_tol=1e-6), (end, slow, better)


@dataclass(frozen=True)
class Ending:
    """`outcome`: 1 promoted, -1 aborted, 0 neither. `ratings`: of the challenger's arm, and half of both."""

    outcome: int
    ratings: tuple[float, float]
    peeked: bool


def ending_of(canary: Canary, rule: Rule) -> Ending:
    course, bar = course_of(canary, rule), math.log(1 / rule.alpha)
    better, worse = _first(course.better >= bar), _first(course.worse >= bar)
    quantile = 1.6449  # of 95 %
    peeked = bool(np.any((course.lead > quantile * np.sqrt(course.variance)) & (course.better > -np.inf)))
    outcome = 0 if better == worse else 1 if better < worse else -1
    return Ending(outcome, canary.until(min(better, worse) + 1).ratings(), peeked)


def _first(reached: NDArray[np.bool_]) -> int:
    return int(np.argmax(reached)) if reached.any() else len(reached)


def simulate(scenario: Scenario, effect: float, args: argparse.Namespace) -> list[Ending]:
    rule, logits = Rule(), Logits.of(scenario, effect)
    seed = [args.seed, [one.name for one in SCENARIOS].index(scenario.name), round(100 * (1 + effect))]
    dice, endings = np.random.default_rng(seed), []
    for _ in range(args.canaries):
        canary = draw(scenario, logits, args.horizon, dice)
        ending = ending_of(canary.until(FIRST_LOOK) if effect else canary, rule)
        endings.append(ending if ending.outcome or not effect else ending_of(canary, rule))
    check(canary, rule)
    return endings


def row_of(scenario: Scenario, effect: float, endings: Sequence[Ending]) -> list[str]:
    n = len(endings)
    promoted, aborted = (sum(ending.outcome == side for ending in endings) for side in (1, -1))
    row = [scenario.name, f"{100 * effect:+.0f}", *(f"{count / n:.1%}" for count in (promoted, aborted))]
    row.append(f"{(n - promoted - aborted) / n:.1%}")
    if not effect:
        spans = (wilson_interval(count, n) for count in (promoted, aborted))
        peeked = sum(ending.peeked for ending in endings) / n
        return [*row, *(f"{low:.1%} to {high:.1%}" for low, high in spans), f"{peeked:.0%}", "", ""]
    right = 1 if effect > 0 else -1
    found = [
        median(ending.ratings[which] if ending.outcome == right else math.inf for ending in endings)
        for which in (0, 1)
    ]
    return [*row, "", "", "", *(f"{number:.0f}" for number in found)]


HEADS = (
    *("scenario", "effect", "promoted", "aborted", "undecided", "false promotions", "false aborts"),
    *("peeking", "ratings, challenger's", "ratings, half of both"),
)


@dataclass(frozen=True)
class Harm:
    """How a challenger's replies are: shares, and the factor on the champion's mean. `people`: so many get
    all replies, some far more than others, each asks for their own length and for what is refused to their
    own degree, and stays with an arm; 0: each reply is somebody else's."""

    name: str
    people: int = 0
    broken: float = 0.01
    refused: float = 0.05
    first_token: float = 1.0
    length: float = 1.0


CHAMPION = Harm("alike")
HARMS = (
    CHAMPION,
    Harm("just borne", broken=0.03, refused=0.10, first_token=1.25, length=1.5),
    Harm("7 % broken", broken=0.07),
    Harm("everything broken", broken=1.0),
    Harm("20 % refused", refused=0.20),
    Harm("first token twice as late", first_token=2.0),
    Harm("three times as long", length=3.0),
    Harm("a third as long", length=1 / 3),
    Harm("alike, 30 people", people=30),
    Harm("alike, 300 people", people=300),
    Harm("alike, 3,000 people", people=3000),
    Harm("20 % refused, 300 people", refused=0.20, people=300),
    Harm("three times as long, 300 people", length=3.0, people=300),
    Harm("7 % broken, 30 people", broken=0.07, people=30),
)
LOOK_EVERY = 50  # replies of both arms


def trips(harm: Harm, traffic: float, horizon: int, dice: np.random.Generator) -> tuple[list[str], int]:
    """The guards that trip first, and after how many replies of the challenger; `horizon`: replies in all."""
    people = harm.people or horizon
    who = np.arange(horizon)
    longer, refuses = np.exp(dice.normal(0, 0.8, people)), np.full(people, CHAMPION.refused)
    if harm.people:
        often = np.exp(dice.normal(0, 1.0, people))
        who = dice.choice(people, horizon, p=often / often.sum())
        longer *= np.exp(dice.normal(0, 0.5, people))
        refuses = dice.beta(0.1, 0.1 / CHAMPION.refused - 0.1, people)
    arm, group = (dice.random(people) < traffic)[who], dice.integers(0, GROUPS, people)[who]
    more_refused = np.where(arm, harm.refused - CHAMPION.refused, 0)
    figures = (
        dice.random(horizon) < np.where(arm, harm.broken, CHAMPION.broken),
        0.3 * np.exp(dice.normal(0, 0.7, horizon)) * np.where(arm, harm.first_token, 1),
        np.ceil(150 * longer[who] * np.exp(dice.normal(0, 0.5, horizon)) * np.where(arm, harm.length, 1)),
        dice.random(horizon) < refuses[who] + more_refused,
    )
    for end in range(LOOK_EVERY, horizon + 1, LOOK_EVERY):
        chosen = [np.flatnonzero(arm[:end] == side) for side in (False, True)]
        sides = [[tally(each[rows], group[rows]) for each in figures] for rows in chosen]
        found = guards_of(Replies(*sides[0]), Replies(*sides[1]), Rule())
        if tripped := [guard.name for guard in found if guard.tripped]:
            return tripped, sides[1][0].n
    return [], int(arm.sum())


def tally(figures: NDArray[Any], groups: Ints) -> Tally:
    values = figures.astype(float)
    columns = (np.bincount(groups, weights, GROUPS) for weights in (np.ones_like(values), values, values**2))
    return tally_of(zip(*columns, strict=True))


def guard_rows(args: argparse.Namespace) -> Iterator[list[str]]:
    for number, (harm, traffic) in enumerate(product(HARMS, (0.5, 0.1))):
        dice = np.random.default_rng([args.seed, number])
        found = [trips(harm, traffic, args.horizon, dice) for _ in range(args.canaries)]
        names = Counter(name for tripped, _ in found for name in tripped)
        after = median(replies if tripped else math.inf for tripped, replies in found)
        row = [harm.name, f"{traffic:.0%}", f"{sum(bool(tripped) for tripped, _ in found) / len(found):.1%}"]
        yield [*row, f"{after:.0f}", ", ".join(f"{name} {n / len(found):.1%}" for name, n in names.items())]


GUARD_HEADS = ("replies", "traffic", "tripped", "median replies, challenger's", "by which guard")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = {scenario.name: scenario for scenario in SCENARIOS}
    parser.add_argument("--canaries", type=int, default=1000)
    parser.add_argument("--scenario", nargs="+", choices=names, default=list(names), metavar="NAME")
    parser.add_argument("--effect", nargs="+", type=float, default=[0.0, 0.1, -0.1], help="0.1: ten points")
    parser.add_argument("--horizon", type=int, default=4000, help="ratings; with --guards replies")
    parser.add_argument("--guards", action="store_true", help="the guards in place of the raters")
    parser.add_argument("--seed", type=int, default=2028)
    args = parser.parse_args(words)
    if args.guards:
        _say(GUARD_HEADS, guard_rows(args))
        return
    cases = product((names[name] for name in args.scenario), args.effect)
    _say(HEADS, (row_of(scenario, effect, simulate(scenario, effect, args)) for scenario, effect in cases))


def _say(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Markdown, a row as soon as it is there."""
    for row in chain((heads, ["---"] * len(heads)), rows):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
