"""With what surety a challenger is better or worse than the champion, looked at as often as one likes. Pure.

Raters lead, guards stop. The raters' verdict is a one-sided mixture test that holds under any number of
looks, on thumbs and pair votes together, clustered by rater; the guards are the same test on what replies are
like. What is called evidence here is an e-value: were there nothing to find, it would ever reach 1/alpha with
a probability of at most alpha (Ville 1939), whoever looks and whenever.

It leans on the central limit theorem over raters (an asymptotic confidence sequence: Waudby-Smith, Arbour,
Sinha, Kennedy and Ramdas 2021, arXiv 2103.06476; with a delayed start: Bibaut, Kallus and Lindon 2022, arXiv
2212.14411), so it is silent until enough raters speak. tests/bench/release.py measures what that is worth.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

Interval = tuple[float, float]
Thumbs = tuple[int, int]  # up, down
Trio = tuple[float, float, float]  # champion, challenger, before

SHARE_SCALE = 0.05  # the excess of a share that guards are tuned to see
RATIO_SCALE = 0.25  # and the excess of a ratio, as a logarithm
LEAST_VARIANCE = 1e-12  # of replies that are all alike
LARGEST_LOG = 700.0  # beyond it exp overflows
ROUNDING = 1e-9


class Outcome(StrEnum):
    """As Argo Rollouts has them, and `running` before."""

    running = "running"
    successful = "successful"
    failed = "failed"
    inconclusive = "inconclusive"


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
class Rule:
    """How a canary decides.

    `alpha`: the most that a challenger as good as the champion is promoted with, and the most it is aborted
    with. `scale`: the lead that the test is tuned to see. `correlation`: what two thumbs of one rater are
    taken to have in common, which bounds a rater's weight by 1/correlation votes. `least_raters`: below so
    many on an arm, evenly heard, thumbs are not looked at, nor pair votes of fewer; above 1. `broken` and
    `refused`: by how much the challenger's share may be higher; `first_token` and `length`: by what part its
    mean may be higher (or the length lower). `guard_alpha`: the most that one guard trips with where its
    tolerance is kept; `least_replies`: before so many on each arm guards are silent. `deadline`: seconds.
    """

    alpha: float = 0.05
    scale: float = 0.1
    correlation: float = 0.2
    least_raters: float = 20.0
    broken: float = 0.02
    first_token: float = 0.25
    length: float = 0.5
    refused: float = 0.05
    guard_alpha: float = 0.01
    least_replies: int = 50
    deadline: float = 7 * 86400.0


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """`interval` holds the lead at all times with a confidence of 1 - 2 alpha, and leaves 0 out just when
    `better` or `worse` reaches 1/alpha. `raters`: how many spoke; `champion` and `challenger`: thumbs on
    each; `pairs`: wins, losses and ties. `probability`: that the challenger's approval is higher, by
    `beta_binomial`; shown, and never decided on."""

    outcome: Outcome
    reason: str
    lead: Lead | None
    interval: Interval | None
    better: float
    worse: float
    raters: int
    champion: Thumbs
    challenger: Thumbs
    pairs: tuple[int, int, int]
    probability: float
    guards: tuple[Guard, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def log_evidence(lead: float, variance: float, scale: float) -> float:
    """The logarithm of the evidence that the mean of `lead` ~ N(θ, V) is above 0: the likelihood ratio of
    θ against 0, mixed over a half-normal θ > 0 of scale τ.

        2 ∫₀^∞ N(θ; 0, τ²) exp(θ·lead/V - θ²/2V) dθ = 2 √(V/(V+τ²)) exp(z²/2) Φ(z),   z = τ·lead/√(V(V+τ²))

    Without the 2 and Φ it is the two-sided mixture of Robbins (1970, "Statistical methods related to the law
    of the iterated logarithm") in the form of Johari, Pekelis and Walsh (2017, "Always valid inference",
    arXiv 1512.04922, the mSPRT of normal data). Half of it is a supermartingale under every θ <= 0.
    """
    spread = variance + scale**2
    z = scale * lead / math.sqrt(variance * spread)
    return math.log(2) + 0.5 * math.log(variance / spread) + _log_tilted(z)


def margin(variance: float, scale: float, alpha: float) -> float:
    """The lead from which on `log_evidence` reaches log(1/alpha). So lead ± margin is a confidence sequence:
    each end holds at all times with 1 - alpha."""
    spread = variance + scale**2
    wanted = math.log(1 / (2 * alpha)) + 0.5 * math.log(spread / variance)
    low, high = -1.0, math.sqrt(2 * (abs(wanted) + 1))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _log_tilted(middle) < wanted else (low, middle)
    return high * math.sqrt(variance * spread) / scale


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


def share_guard(name: str, champion: Tally, challenger: Tally, tolerance: float, rule: Rule) -> Guard:
    """Is the challenger's share higher by more than `tolerance`? The difference of two shares; their variance
    p(1-p)/n with half a case added on either side, for none in n is not never."""
    variance = sum(_share_variance(tally) for tally in (champion, challenger))
    excess = challenger.mean - champion.mean - tolerance
    evidence = _guard_evidence(champion, challenger, excess, variance, SHARE_SCALE, rule)
    sentence = (
        f"{name}: {challenger.mean:.1%} of the challenger's {challenger.n} replies against "
        f"{champion.mean:.1%} of the champion's {champion.n}; {tolerance:.1%} more are borne."
    )
    tripped = evidence >= 1 / rule.guard_alpha
    return Guard(name, champion.mean, challenger.mean, tolerance, evidence, tripped, sentence)


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
    evidence = _guard_evidence(champion, challenger, excess, variance, RATIO_SCALE, rule)
    bound = 1 / (1 + tolerance) if low else 1 + tolerance
    sentence = (
        f"{name}: a mean of {challenger.mean:.3g} {unit} of the challenger against {champion.mean:.3g} of "
        f"the champion; {bound:.2f} times that is borne."
    )
    tripped = evidence >= 1 / rule.guard_alpha
    return Guard(name, champion.mean, challenger.mean, tolerance, evidence, tripped, sentence)


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


def beta_binomial(challenger: Thumbs, champion: Thumbs) -> float:
    """P(the challenger's approval > the champion's), each Beta(1 + up, 1 + down): every thumb on its own, and
    looked at once. For A ~ Beta(a, b) and C ~ Beta(c, d) of whole numbers

        P(C > A) = Σ_{i<c} B(a+i, b+d) / ((d+i) B(1+i, d) B(a, b))

    (Miller 2014, "Formulas for Bayesian A/B testing"). By symmetry the sum can run over any of the four; it
    runs over the least.
    """
    a, b, c, d = champion[0] + 1, champion[1] + 1, challenger[0] + 1, challenger[1] + 1
    forms = {c: (1, a, b, c, d), a: (-1, c, d, a, b), b: (1, d, c, b, a), d: (-1, b, a, d, c)}
    sign, *numbers = forms[min(forms)]
    above = _above(*numbers)
    return min(1.0, max(0.0, above if sign > 0 else 1 - above))


def verdict(
    voices: Iterable[Voice], champion: Replies, challenger: Replies, elapsed: float, rule: Rule
) -> Verdict:
    """What a canary has come to after `elapsed` seconds. A tripped guard fails it whatever raters say; then
    raters fail or promote it; then time ends it."""
    spoken = list(voices)
    lead, guards = lead_of(spoken, rule), guards_of(champion, challenger, rule)
    better = worse = 1.0
    interval = None
    if lead is not None:
        better = _exp(log_evidence(lead.lead, lead.variance, rule.scale))
        worse = _exp(log_evidence(-lead.lead, lead.variance, rule.scale))
        half = margin(lead.variance, rule.scale, rule.alpha)
        interval = (lead.lead - half, lead.lead + half)
    said = _said(lead, interval, rule)
    outcome, reason = Outcome.running, f"No decision yet. {said}"
    if any(guard.tripped for guard in guards):
        outcome = Outcome.failed
        reason = " ".join(_sentence(guard.sentence) for guard in guards if guard.tripped)
    elif worse >= 1 / rule.alpha:
        outcome, reason = Outcome.failed, f"Raters find the challenger worse. {said}"
    elif better >= 1 / rule.alpha:
        outcome, reason = Outcome.successful, f"Raters find the challenger better. {said}"
    elif elapsed >= rule.deadline:
        outcome = Outcome.inconclusive
        reason = f"No decision in the {rule.deadline / 3600:.1f} hours that were given. {said}"
    thumbs = [_sum_of([voice.champion for voice in spoken]), _sum_of([voice.challenger for voice in spoken])]
    return Verdict(
        outcome=outcome,
        reason=reason,
        lead=lead,
        interval=interval,
        better=better,
        worse=worse,
        raters=sum(voice != Voice(before=voice.before) for voice in spoken),
        champion=thumbs[0],
        challenger=thumbs[1],
        pairs=(
            sum(voice.wins for voice in spoken),
            sum(voice.losses for voice in spoken),
            sum(voice.ties for voice in spoken),
        ),
        probability=beta_binomial(thumbs[1], thumbs[0]),
        guards=guards,
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


def _guard_evidence(
    champion: Tally, challenger: Tally, excess: float, variance: float, scale: float, rule: Rule
) -> float:
    if min(champion.n, challenger.n) < rule.least_replies:
        return 1.0
    return _exp(log_evidence(excess, max(variance, LEAST_VARIANCE), scale))


def _share_variance(tally: Tally) -> float:
    share = (tally.total + 0.5) / (tally.n + 1)
    return share * (1 - share) / max(tally.n, 1)


def _above(a: int, b: int, c: int, d: int) -> float:
    start = _log_beta(a, b)
    return math.fsum(
        math.exp(_log_beta(a + i, b + d) - math.log(d + i) - _log_beta(1 + i, d) - start) for i in range(c)
    )


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _sum_of(thumbs: Sequence[Thumbs]) -> Thumbs:
    return sum(up for up, _ in thumbs), sum(down for _, down in thumbs)


def _said(lead: Lead | None, interval: Interval | None, rule: Rule) -> str:
    if lead is None or interval is None:
        return f"Fewer than {rule.least_raters:.0f} raters spoke for it or for the champion."
    low, high = (100 * end for end in interval)
    return (
        f"Its lead is {100 * lead.lead:+.1f} points, between {low:+.1f} and {high:+.1f} "
        f"(each end with {1 - rule.alpha:.0%} confidence, however often one looks)."
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _exp(logarithm: float) -> float:
    return math.exp(min(logarithm, LARGEST_LOG))


def _log_tilted(z: float) -> float:
    """z²/2 + log Φ(z); it grows with z. Far down, where erfc is 0, Φ is the first terms of its tail."""
    if z < -30:
        return math.log1p(-1 / z**2) - math.log(-z * math.sqrt(2 * math.pi))
    return z * z / 2 + math.log(math.erfc(-z / math.sqrt(2)) / 2)
