"""What replies are like, and the evidence that the challenger's are worse than they may be. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from serving.canary.evidence import evidence
from serving.canary.rule import Rule

SHARE_SCALE = 0.05  # the excess of a share that guards are tuned to see
RATIO_SCALE = 0.25  # and the excess of a ratio, as a logarithm
LEAST_VARIANCE = 1e-12  # of replies that are all alike


@dataclass(frozen=True, slots=True)
class Tally:
    """`n` replies: the sum of some figure over them, and the sum of its squares; `groups`: replies and sum of
    each group of people, one where people are few. Without groups each reply is of somebody else."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    groups: tuple[tuple[float, float], ...] = ()

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """Unbiased; 0 of fewer than two."""
        return max(0.0, self.squares - self.n * self.mean**2) / (self.n - 1) if self.n > 1 else 0.0

    @property
    def witnesses(self) -> float:
        """How many evenly served groups are worth these: (Σn)²/Σn² (Kish 1965)."""
        squares = math.fsum(n**2 for n, _ in self.groups)
        return self.n**2 / squares if squares > 0 else float(self.n)

    @property
    def between(self) -> float:
        """The variance of the mean as a ratio of sums over groups (Cochran 1977, "Sampling techniques",
        2.46): Σ(total - n·mean)²/N²·k/(k-1) with k `witnesses`; 0 without groups, infinite of one."""
        if not self.groups:
            return 0.0
        if (k := self.witnesses) <= 1:
            return math.inf
        return math.fsum((total - n * self.mean) ** 2 for n, total in self.groups) / self.n**2 * k / (k - 1)


def tally_of(groups: Iterable[tuple[float, float, float]]) -> Tally:
    """From each group's replies, sum and sum of squares."""
    some = [group for group in groups if group[0] > 0]
    n, total, squares = (math.fsum(column) for column in zip(*some, strict=True)) if some else (0, 0, 0)
    return Tally(round(n), total, squares, tuple((n, total) for n, total, _ in some))


@dataclass(frozen=True, slots=True)
class Replies:
    """What an arm's replies are like. `broken` and `refused` are tallies of 0 and 1, `first_token` is of
    seconds, `length` of tokens."""

    broken: Tally = field(default_factory=Tally)
    first_token: Tally = field(default_factory=Tally)
    length: Tally = field(default_factory=Tally)
    refused: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Guard:
    """One figure of both arms and the evidence that the challenger's is worse than it may be."""

    name: str
    champion: float
    challenger: float
    tolerance: float
    evidence: float
    tripped: bool
    sentence: str


def guards_of(champion: Replies, challenger: Replies, rule: Rule) -> tuple[Guard, ...]:
    lengths = champion.length, challenger.length, rule.length, rule
    first_tokens = champion.first_token, challenger.first_token, rule.first_token, rule
    return (
        share_guard("broken replies", champion.broken, challenger.broken, rule.broken, rule, alone=True),
        ratio_guard("time to first token", *first_tokens, unit="s"),
        ratio_guard("longer replies", *lengths, unit="tokens"),
        ratio_guard("shorter replies", *lengths, unit="tokens", low=True),
        share_guard("refusals", champion.refused, challenger.refused, rule.refused, rule),
    )


def share_guard(
    name: str, champion: Tally, challenger: Tally, tolerance: float, rule: Rule, *, alone: bool = False
) -> Guard:
    """Is the challenger's share higher by more than `tolerance`? The difference of two shares; their variance
    p(1-p)/n with half a case added on either side, for none in n is not never, or what groups of people say,
    if that is more. With `alone` what befalls a reply befalls it alone where people are too few to tell: it
    is the engine's doing, and who has one user wants to be guarded too."""
    few = _few(champion, challenger, rule)
    variance = sum(
        _share_variance(tally) if alone and few else max(_share_variance(tally), tally.between)
        for tally in (champion, challenger)
    )
    excess = challenger.mean - champion.mean - tolerance
    found = 1.0
    if alone or not few:
        found = _guard_evidence(champion, challenger, excess, variance, SHARE_SCALE, rule)
    sentence = (
        f"{name}: {challenger.mean:.1%} of the challenger's {challenger.n} replies against "
        f"{champion.mean:.1%} of the champion's {champion.n}; {tolerance:.1%} more are borne."
    )
    return _guard(name, champion, challenger, tolerance, found, sentence, rule)


def ratio_guard(
    name: str,
    champion: Tally,
    challenger: Tally,
    tolerance: float,
    rule: Rule,
    *,
    unit: str,
    low: bool = False,
) -> Guard:
    """Is the challenger's mean higher by more than the part `tolerance`; with `low`, is it so much lower that
    the champion's is higher by as much? The logarithm of the ratio of two means, its variance by the delta
    method: Σ s²/(n·mean²), or what groups of people say instead of s²/n, if that is more. Where a mean is 0
    there is no ratio, and no evidence."""
    means = challenger.mean, champion.mean
    found = 1.0
    if min(means) > 0 and not _few(champion, challenger, rule):
        excess = math.log(means[0] / means[1]) * (-1 if low else 1) - math.log1p(tolerance)
        variance = sum(
            max(tally.variance / tally.n, tally.between) / tally.mean**2 for tally in (champion, challenger)
        )
        found = _guard_evidence(champion, challenger, excess, variance, RATIO_SCALE, rule)
    bound = 1 / (1 + tolerance) if low else 1 + tolerance
    sentence = (
        f"{name}: a mean of {challenger.mean:.3g} {unit} of the challenger against {champion.mean:.3g} of "
        f"the champion; {bound:.2f} times that is borne."
    )
    return _guard(name, champion, challenger, tolerance, found, sentence, rule)


def _guard(
    name: str, champion: Tally, challenger: Tally, tolerance: float, found: float, sentence: str, rule: Rule
) -> Guard:
    tripped = found >= 1 / rule.guard_alpha
    return Guard(name, champion.mean, challenger.mean, tolerance, found, tripped, sentence)


def _guard_evidence(
    champion: Tally, challenger: Tally, excess: float, variance: float, scale: float, rule: Rule
) -> float:
    if min(champion.n, challenger.n) < rule.least_replies:
        return 1.0
    return evidence(excess, max(variance, LEAST_VARIANCE), scale)


def _few(champion: Tally, challenger: Tally, rule: Rule) -> bool:
    return min(champion.witnesses, challenger.witnesses) < rule.least_groups


def _share_variance(tally: Tally) -> float:
    share = (tally.total + 0.5) / (tally.n + 1)
    return share * (1 - share) / max(tally.n, 1)
