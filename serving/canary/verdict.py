"""What a canary has come to: raters lead, guards stop, time ends it. Pure.

The raters' verdict is a one-sided test that holds under any number of looks, on thumbs and pair votes
together; the guards are the same test on what replies are like.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from serving.canary.evidence import evidence, margin
from serving.canary.guards import Guard, Replies, guards_of
from serving.canary.lead import Lead, Thumbs, Voice, lead_of
from serving.canary.rule import Rule

Interval = tuple[float, float]


class Outcome(StrEnum):
    """As Argo Rollouts has them, and `running` before."""

    running = "running"
    successful = "successful"
    failed = "failed"
    inconclusive = "inconclusive"


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
        better = evidence(lead.lead, lead.variance, rule.scale)
        worse = evidence(-lead.lead, lead.variance, rule.scale)
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
