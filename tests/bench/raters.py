"""Simulated raters: who votes on what, and how each makes up their mind. Pure; votes.py sends what they say.

An honest thumb is up with probability sigmoid((g - m)/T + leniency), and of two blind replies a is chosen
with probability sigmoid((g_a - g_b)/T) (Bradley and Terry 1952), g the gold score; equal scores are a tie.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Protocol, TypeVar

from tests.bench.gold import Scorer

FLIPPED = {"up": "down", "down": "up", "a": "b", "b": "a", "tie": "tie"}
CLIP = 500.0  # a logit beyond which exp overflows

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """`complete`: it ended by itself, and was not cut."""

    text: str
    complete: bool = True


@dataclass(frozen=True)
class Thumb:
    rating: str
    correction: str | None = None


class Mind(Protocol):
    """How a rater decides. `looks`: replies asked for before a thumb is given on one of them."""

    @property
    def looks(self) -> int: ...
    @property
    def kind(self) -> str: ...
    def pick(self, replies: Sequence[Reply]) -> int: ...
    def rate(self, reply: Reply, dice: random.Random) -> Thumb: ...
    def choose(self, a: Reply, b: Reply, dice: random.Random) -> str: ...


@dataclass(frozen=True)
class Taste:
    """`standard`: the gold score at which a thumb is as likely up as down. `temperature`: in gold's units."""

    score: Scorer
    standard: float
    temperature: float


@dataclass(frozen=True)
class Honest:
    """Votes by taste. `leniency`: this rater's own, logits. `noise`: the share of votes turned round."""

    taste: Taste
    leniency: float = 0.0
    noise: float = 0.0
    looks: int = 1
    kind: str = "honest"

    def pick(self, replies: Sequence[Reply]) -> int:
        return 0

    def rate(self, reply: Reply, dice: random.Random) -> Thumb:
        logit = (self.taste.score(reply.text) - self.taste.standard) / self.taste.temperature
        return Thumb(self._said("up" if dice.random() < sigmoid(logit + self.leniency) else "down", dice))

    def choose(self, a: Reply, b: Reply, dice: random.Random) -> str:
        gap = self.taste.score(a.text) - self.taste.score(b.text)
        if gap == 0:
            return "tie"
        return self._said("a" if dice.random() < sigmoid(gap / self.taste.temperature) else "b", dice)

    def _said(self, meant: str, dice: random.Random) -> str:
        return FLIPPED[meant] if dice.random() < self.noise else meant


@dataclass(frozen=True)
class Ballot:
    """One vote to give: a thumb on a chat, or a choice between two blind replies."""

    prompt: str
    rater: str
    mind: Mind
    blind: bool
    dice: random.Random


@dataclass(frozen=True)
class Person:
    name: str
    mind: Mind


def people(count: int, taste: Taste, noise: float, spread: float, seed: int) -> list[Person]:
    """Honest raters; `spread`: the standard deviation of their leniency, logits."""
    dice = random.Random(seed)
    return [
        Person(f"rater-{number + 1}", Honest(taste, dice.gauss(0.0, spread), noise))
        for number in range(count)
    ]


def with_standard(crowd: Sequence[Person], standard: float) -> list[Person]:
    """The same people with another standard; those without a taste stay as they are."""
    return [
        replace(person, mind=replace(person.mind, taste=replace(person.mind.taste, standard=standard)))
        if isinstance(person.mind, Honest)
        else person
        for person in crowd
    ]


def ballots(
    crowd: Sequence[Person], prompts: Sequence[str], labels: int, thumbs: float, dice: random.Random
) -> list[Ballot]:
    """`labels` votes spread evenly over people and prompts; `thumbs`: the share that are thumbs.

    Prompts come in a random order, each as often as any other.
    """
    askers, asked = _round_robin(crowd, dice), _round_robin(prompts, dice)
    return [
        Ballot(prompt, person.name, person.mind, not is_thumb, random.Random(dice.random()))
        for person, prompt, is_thumb in zip(askers, asked, _shares(labels, thumbs), strict=False)
    ]


def pair_accuracy(groups: Sequence[Sequence[float]], temperature: float) -> float | None:
    """The mean probability that the better of two replies to a prompt is chosen; ties are left out."""
    gaps = [abs(a - b) for group in groups for n, a in enumerate(group) for b in group[n + 1 :] if a != b]
    return fmean(sigmoid(gap / temperature) for gap in gaps) if gaps else None


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-max(-CLIP, min(CLIP, x))))


def _shares(count: int, share: float) -> Iterator[bool]:
    """True `share` of the time, spread evenly."""
    return (math.floor((n + 1) * share + 1e-9) > math.floor(n * share + 1e-9) for n in range(count))


def _round_robin(items: Sequence[T], dice: random.Random) -> Iterator[T]:
    while True:
        yield from dice.sample(items, len(items))
