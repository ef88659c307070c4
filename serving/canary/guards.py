"""What replies are like, and the evidence that the challenger's are worse than they may be. Pure."""

import math
from dataclasses import dataclass, field

from serving.canary.evidence import evidence
from serving.canary.rule import Rule

SHARE_SCALE = 0.05  # the excess of a share that guards are tuned to see
RATIO_SCALE = 0.25  # and the excess of a ratio, as a logarithm
LEAST_VARIANCE = 1e-12  # of replies that are all alike


@dataclass(frozen=True, slots=True)
class Tally:
    """`n` replies: the sum of some figure over them, and the sum of its squares."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """Unbiased; 0 of fewer than two."""
        return max(0.0, self.squares - self.n * self.mean**2) / (self.n - 1) if self.n > 1 else 0.0


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
        share_guard("broken replies", champion.broken, challenger.broken, rule.broken, rule),
        ratio_guard("time to first token", *first_tokens, unit="s"),
        ratio_guard("longer replies", *lengths, unit="tokens"),
        ratio_guard("shorter replies", *lengths, unit="tokens", low=True),
        share_guard("refusals", champion.refused, challenger.refused, rule.refused, rule),
    )


def share_guard(name: str, champion: Tally, challenger: Tally, tolerance: float, rule: Rule) -> Guard:
    """Is the challenger's share higher by more than `tolerance`? The difference of two shares; their variance
    p(1-p)/n with half a case added on either side, for none in n is not never."""
    variance = sum(_share_variance(tally) for tally in (champion, challenger))
    excess = challenger.mean - champion.mean - tolerance
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
    method: Σ s²/(n·mean²). Where a mean is 0 there is no ratio, and no evidence."""
    means = challenger.mean, champion.mean
    excess = variance = 0.0
    if min(means) > 0:
        excess = math.log(means[0] / means[1]) * (-1 if low else 1) - math.log1p(tolerance)
        variance = sum(tally.variance / (tally.n * tally.mean**2) for tally in (champion, challenger))
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


def _share_variance(tally: Tally) -> float:
    share = (tally.total + 0.5) / (tally.n + 1)
    return share * (1 - share) / max(tally.n, 1)
