"""By how much raters like the challenger better than the champion, and how surely, rater by rater. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from serving.canary.rule import Rule

Thumbs = tuple[int, int]  # up, down
Trio = tuple[float, float, float]  # champion, challenger, before

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Voice:
    """All that one rater said during the canary. `champion`, `challenger`: thumbs (up, down) on replies of
    each; `wins`, `losses`, `ties`: pair votes between the two, seen from the challenger, a `both_bad` being a
    tie. `before`: the rater's thumbs of the time before the canary, whoever answered then: how lenient they
    are."""

    champion: Thumbs = (0, 0)
    challenger: Thumbs = (0, 0)
    before: Thumbs = (0, 0)
    wins: int = 0
    losses: int = 0
    ties: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One way to ask raters: the challenger's lead by it and its variance, and by how many raters, evenly
    heard, it is known (Kish 1965: (Σw)²/Σw²) on the arm with fewer."""

    lead: float
    variance: float
    raters: float


@dataclass(frozen=True, slots=True)
class Lead:
    """The challenger's lead over the champion, as a share: 0.1 are ten points. `thumbs` and `pairs` are its
    parts, None where too few raters spoke."""

    lead: float
    variance: float
    raters: float
    thumbs: Part | None
    pairs: Part | None


def lead_of(voices: Iterable[Voice], rule: Rule) -> Lead | None:
    """The challenger's lead, one voice a rater; None where too few raters spoke.

    Thumbs: generalised estimating equations with an exchangeable correlation r within a rater (Liang and
    Zeger 1986, "Longitudinal data analysis using generalized linear models"), identity link, one mean μ for
    each of champion, challenger and before: Σ Aᵢ μ = Σ bᵢ with Aᵢ = Xᵢ'Rᵢ⁻¹Xᵢ, bᵢ = Xᵢ'Rᵢ⁻¹yᵢ. A rater with m
    thumbs, all on one arm, has the weight m/(1 + (m-1)r), at most 1/r; thumbs on the other arm, or of before,
    tell how lenient a rater is, and the lead is cleared of it. (The use of before is that of Deng, Xu, Kohavi
    and Walker 2013, "Improving the sensitivity of online controlled experiments by utilizing pre-experiment
    data"; with a mean of its own, it leans to no arm however the times have changed.)
    Pairs: δ = Σvᵢdᵢ/Σvᵢ, d half of the mean of +1, 0 and -1, v the same weight. Half, since by Bradley and
    Terry (1952) a small gap q in quality moves a thumb from 1/2 by q/4 and a choice's mean by q/2.

    Together they are weighted by the inverse of the variances that the working model gives them: A⁻¹ times
    the dispersion of raters, Σ(1'(bᵢ-Aᵢμ))²/1'A1 (as in quasi-likelihood: McCullagh and Nelder 1989,
    "Generalized linear models", ch. 9), with one rater added who is half off, and at most p(1-p) of all
    thumbs. It is taken over all arms at once, and so cannot lean to one. The variance is the sandwich over
    raters, Σφᵢ²·k/(k-1), with φᵢ a rater's influence on the whole and k the raters of the arm with fewest:
    right whatever r is, and whatever thumbs and choices of one rater have in common. It is never taken for
    less than the working model's: of a small arm that is nearly all thumbs up the sandwich believes too much.
    """
    spoken = list(voices)
    thumbs, pairs = _thumbs(spoken, rule), _pairs(spoken, rule)
    heard = [part for part in (thumbs, pairs) if part is not None]
    if not heard:
        return None
    precision = math.fsum(1 / part.working for part in heard)
    shares = [1 / part.working / precision for part in heard]
    together = _Estimate(
        lead=math.fsum(share * part.lead for share, part in zip(shares, heard, strict=True)),
        influences=[
            math.fsum(share * phi for share, phi in zip(shares, each, strict=True))
            for each in zip(*(part.influences for part in heard), strict=True)
        ],
        working=1 / precision,
        raters=min(part.raters for part in heard),
    )
    return Lead(
        lead=together.lead,
        variance=together.variance,
        raters=together.raters,
        thumbs=thumbs.part() if thumbs else None,
        pairs=pairs.part() if pairs else None,
    )


@dataclass(frozen=True, slots=True)
class _Estimate:
    """A lead, each rater's influence on it, its variance by the working model, and its effective raters."""

    lead: float
    influences: Sequence[float]
    working: float
    raters: float

    @property
    def variance(self) -> float:
        sandwich = math.fsum(phi**2 for phi in self.influences) * self.raters / (self.raters - 1)
        return max(sandwich, self.working)

    def part(self) -> Part:
        return Part(self.lead, self.variance, self.raters)


@dataclass(frozen=True, slots=True)
class _Heard:
    """A rater's thumbs as numbers: how many and how many up, of champion, challenger and before; and what
    sums over them are shrunk by. R⁻¹ is (1 - shrunk·11')/(1 - r), and the 1/(1 - r) is left out."""

    n: Trio
    up: Trio
    shrunk: float

    @classmethod
    def of(cls, voice: Voice, correlation: float) -> Self:
        (a, b), (c, d), (e, f) = voice.champion, voice.challenger, voice.before
        thumbs = a + b + c + d + e + f
        return cls((a + b, c + d, e + f), (a, c, e), correlation / (1 + (thumbs - 1) * correlation))

    def weight(self, j: int, k: int) -> float:
        """A's entry."""
        return self.n[j] * (j == k) - self.shrunk * self.n[j] * self.n[k]

    def score(self, j: int) -> float:
        """b's entry."""
        return self.up[j] - self.shrunk * self.n[j] * sum(self.up)

    def influence(self, means: Trio, contrast: Trio) -> float:
        """contrast · (b - A means)"""
        gaps = [up - n * mean for up, n, mean in zip(self.up, self.n, means, strict=True)]
        along = sum(c * gap for c, gap in zip(contrast, gaps, strict=True))
        across = sum(c * n for c, n in zip(contrast, self.n, strict=True))
        return along - self.shrunk * across * sum(gaps)


def _thumbs(voices: Sequence[Voice], rule: Rule) -> _Estimate | None:
    heard = [_Heard.of(voice, rule.correlation) for voice in voices]
    raters = min(_even([each.weight(arm, arm) for each in heard]) for arm in (0, 1))
    if raters < rule.least_raters - ROUNDING:
        return None
    a = [[math.fsum(each.weight(j, k) for each in heard) for k in range(3)] for j in range(3)]
    b = [math.fsum(each.score(j) for each in heard) for j in range(3)]
    means, contrast = _solve(a, b)
    lone = 1 - rule.correlation  # the weight of a single thumb
    off = math.fsum(each.influence(means, (1, 1, 1)) ** 2 for each in heard)
    total = math.fsum(map(sum, a)) + lone
    approval = (sum(b) + lone / 2) / total
    dispersion = min((off + lone**2 / 4) / total, approval * (1 - approval) * lone)
    return _Estimate(
        lead=means[1] - means[0],
        influences=[each.influence(means, contrast) for each in heard],
        working=dispersion * (contrast[1] - contrast[0]),
        raters=raters,
    )


def _solve(a: Sequence[Sequence[float]], b: Sequence[float]) -> tuple[Trio, Trio]:
    """The means A⁻¹b and the contrast (-1, 1, 0)A⁻¹. Before is eliminated first; where there are no thumbs of
    before its row is 0, and so are its mean and its part in the contrast."""
    share = [a[j][2] / a[2][2] if a[2][2] > 0 else 0.0 for j in range(2)]
    a00, a01, a11 = (a[j][k] - share[j] * a[k][2] for j, k in ((0, 0), (0, 1), (1, 1)))
    b0, b1 = (b[j] - share[j] * b[2] for j in range(2))
    det = a00 * a11 - a01 * a01
    mean0, mean1 = (a11 * b0 - a01 * b1) / det, (a00 * b1 - a01 * b0) / det
    c0, c1 = -(a11 + a01) / det, (a00 + a01) / det
    before = b[2] / a[2][2] - share[0] * mean0 - share[1] * mean1 if a[2][2] > 0 else 0.0
    return (mean0, mean1, before), (c0, c1, -c0 * share[0] - c1 * share[1])


def _pairs(voices: Sequence[Voice], rule: Rule) -> _Estimate | None:
    choices = [voice.wins + voice.losses + voice.ties for voice in voices]
    shrunk = [1 / (1 + (n - 1) * rule.correlation) for n in choices]
    weights = [n * factor for n, factor in zip(choices, shrunk, strict=True)]
    raters = _even(weights)
    if raters < rule.least_raters - ROUNDING:
        return None
    total = math.fsum(weights)
    leads = [f * (voice.wins - voice.losses) / 2 for f, voice in zip(shrunk, voices, strict=True)]
    lead = math.fsum(leads) / total
    dispersion = (math.fsum(part**2 for part in leads) + 1 / 4) / (total + 1)
    return _Estimate(
        lead=lead,
        influences=[(part - weight * lead) / total for part, weight in zip(leads, weights, strict=True)],
        working=dispersion / total,
        raters=raters,
    )


def _even(weights: Sequence[float]) -> float:
    """How many evenly heard raters are worth these: (Σw)²/Σw² (Kish 1965)."""
    squares = math.fsum(weight**2 for weight in weights)
    return math.fsum(weights) ** 2 / squares if squares > 0 else 0.0
