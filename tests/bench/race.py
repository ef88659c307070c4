"""Two ways to the same gold score: what each has reached after which time, and when they meet. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from rich.table import Table


@dataclass(frozen=True)
class Leg:
    """One round: an update, then fresh replies of the policy as it now stands; the first has no update.

    `seconds`: from the start until the gold score of those replies was known. `gold`: their mean, with
    `error`, its standard error over prompts. `training`: seconds of the update, of `trained` tokens (prompt
    and reply, without padding, once an epoch); `sampling`: seconds of `sampled` tokens. `note`: for people.
    """

    seconds: float
    gold: float
    error: float
    training: float
    trained: int
    sampling: float
    sampled: int
    note: str = ""


@dataclass(frozen=True)
class Course:
    """`start`: seconds before the first leg that are not counted in it, and of what."""

    name: str
    start: float
    start_of: str
    legs: list[Leg]

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        return cls(**{**found, "legs": [Leg(**leg) for leg in found["legs"]]})

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def seconds_to(self, gold: float) -> float | None:
        """When the gold mean came to that height first, on straight lines between the legs; None if never."""
        before = None
        for leg in self.legs:
            if leg.gold >= gold:
                if before is None:
                    return leg.seconds
                share = (gold - before.gold) / (leg.gold - before.gold)
                return before.seconds + share * (leg.seconds - before.seconds)
            before = leg
        return None

    @property
    def best(self) -> float:
        return max(leg.gold for leg in self.legs)


def mean_and_error(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The mean over all of the groups' values, and its standard error where groups are independent (a
    prompt's replies are a group)."""
    count = sum(map(len, groups))
    mean = sum(map(sum, groups)) / count
    if len(groups) < 2:
        return mean, math.nan
    off = [sum(group) - mean * len(group) for group in groups]
    return mean, math.sqrt(sum(value**2 for value in off) * len(groups) / (len(groups) - 1)) / count


def target_of(courses: Sequence[Course], target: float | None) -> float:
    """What was aimed at if all came there, else the best that all came to."""
    common = min(course.best for course in courses)
    return common if target is None else min(target, common)


def legs_table(courses: Sequence[Course]) -> Table:
    table = Table(
        "", "round", "gold", "minutes so far", "training s", "tokens/s", "sampling s", "tokens/s", "note"
    )
    for course in courses:
        for number, leg in enumerate(course.legs):
            table.add_row(
                course.name if number == 0 else "",
                str(number),
                f"{leg.gold:.3f} ± {leg.error:.3f}",
                f"{leg.seconds / 60:.2f}",
                f"{leg.training:.1f}" if number else "",
                _rate(leg.trained, leg.training) if number else "",
                f"{leg.sampling:.1f}",
                _rate(leg.sampled, leg.sampling),
                leg.note,
            )
        table.add_section()
    return table


def race_table(courses: Sequence[Course], target: float) -> Table:
    """Of each the time to the target, the time of as many rounds as all ran, and its gain a minute; the
    first of them is the one that the others are compared with."""
    rounds = min(len(course.legs) for course in courses) - 1
    table = Table(
        "", f"minutes to gold {target:.3f}", "times less", f"minutes for {rounds} rounds", "times less"
    )
    table.add_column("gold gained a minute")
    table.add_column("before it, not counted")
    first = courses[0]
    for course in courses:
        to, its = course.seconds_to(target), first.seconds_to(target)
        last, base = course.legs[rounds], course.legs[0]
        table.add_row(
            course.name,
            "never" if to is None else f"{to / 60:.2f}",
            "" if not to or its is None else f"{its / to:.2f}",
            f"{last.seconds / 60:.2f}",
            f"{first.legs[rounds].seconds / last.seconds:.2f}",
            f"{(last.gold - base.gold) / last.seconds * 60:.3f}",
            f"{course.start:.0f} s: {course.start_of}" if course.start_of else "",
        )
    return table


def _rate(tokens: int, seconds: float) -> str:
    return f"{tokens / seconds:.0f}" if seconds else ""
