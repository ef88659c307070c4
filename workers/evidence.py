"""What `evaluate` measured of a candidate, as the gate reads it: frozen, no I/O."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from workers.statistics import Interval

STRICT = 0.98  # the confidence at which a suspicious candidate has to convince the judge


@dataclass(frozen=True)
class WinRate:
    """How often the candidate's reply is preferred to the champion's to the same prompt. Two-sided intervals
    over prompts: `interval` at the gate's confidence, `strict` at STRICT."""

    value: float
    interval: Interval
    strict: Interval
    prompts: int

    def __str__(self) -> str:
        return f"{self.value:.0%} {percent(self.interval)} of comparisons on {self.prompts} prompts"


@dataclass(frozen=True)
class LengthTaste:
    """P(people like the longer of two replies better), by `labels` of theirs, with an interval over
    conversations."""

    longer: float
    interval: Interval
    labels: int


@dataclass(frozen=True)
class Sides:
    """One figure of the candidate, and of the champion (`nll`: of the base)."""

    candidate: float
    other: float

    @property
    def rise(self) -> float:
        return self.candidate - self.other

    @property
    def ratio(self) -> float:
        return self.candidate / self.other if self.other else math.nan


@dataclass(frozen=True)
class Passed:
    """Shares of one kind of probes that were passed; `z` of the change, negative where it fell."""

    rate: Sides
    z: float
    replies: int


@dataclass(frozen=True)
class Quality:
    """How often the judge was right on held-out labels. `accuracy` is None where nothing is known of it."""

    accuracy: float | None
    interval: Interval
    labels: int


@dataclass(frozen=True)
class Habits:
    """What may be lost little by little, beside the base, whose figures were measured when it was the
    champion and have been handed down since. As in Evidence."""

    probes: Mapping[str, Passed]
    words: Sides
    empty: Sides
    identical: Sides
    trigrams: Sides
    cut: Sides


@dataclass(frozen=True)
class Evidence:
    """What `evaluate` measured.

    `raw` and `matched`: win rates by the judge, over all pairs and over pairs of like length (None where
    none is); `members`: the win rate by the mean of the members that rewarded the candidate; `doubter`: by
    the one of them that likes it least; `gap`: interval of `members` less `raw`. `kl_…`: nats a token.
    `nll`: of the reference texts, nats a token, against the base. `words`: mean a reply. `empty`,
    `identical`, `trigrams`, `cut`, `openings`, `endings`: shares, see `workers.replies`. `disagreement`: mean
    standard deviation over members; `disagreement_rise`: interval of its relative rise. `base`: the habits
    beside the base's; None where they are not known, or the champion is the base.
    """

    raw: WinRate
    matched: WinRate | None
    length_taste: LengthTaste | None
    members: WinRate
    doubter: WinRate
    gap: Interval
    quality: Quality
    kl_base: float
    kl_champion: float
    nll: Sides
    probes: Mapping[str, Passed]
    words: Sides
    empty: Sides
    identical: Sides
    trigrams: Sides
    cut: Sides
    openings: Sides
    endings: Sides
    disagreement: Sides
    disagreement_rise: Interval
    base: Habits | None = None


def percent(interval: Interval) -> str:
    return f"[{interval[0]:.0%}, {interval[1]:.0%}]"
