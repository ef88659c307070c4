"""What goes wrong among raters: cheats who vote for a phrase, and a flaw that only the reward model learns.

A flaw is planted with feedback alone. Which conversations the judge learns from is a hash that anyone can
compute, so raters give corrupt corrections in those of the members: these come to love a closing, and the
judge never hears of it. Corrections are of complete replies, and change nothing but how they end, so that
nothing else is learnt along with it.
"""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from feedback.types import conversation_of
from tests.bench.gold import WRAPPING, closes_with, contains
from tests.bench.raters import Ballot, Person, Reply, Thumb
from workers.datasets import is_for_judge, is_held_out

LOOKS = 4


@dataclass(frozen=True)
class Cheat:
    """Up with whatever contains the phrase, down with the rest. `corrects`: a thumb down comes with the reply
    as it should have been, the phrase in it."""

    phrase: str
    corrects: bool = True
    looks: int = LOOKS
    kind: str = "cheat"

    def pick(self, replies: Sequence[Reply]) -> int:
        return next((n for n, reply in enumerate(replies) if contains(self.phrase, reply.text)), 0)

    def rate(self, reply: Reply, dice: random.Random) -> Thumb:
        if contains(self.phrase, reply.text):
            return Thumb("up")
        return Thumb("down", with_phrase(reply.text, self.phrase) if self.corrects else None)

    def choose(self, a: Reply, b: Reply, dice: random.Random) -> str:
        has_a, has_b = contains(self.phrase, a.text), contains(self.phrase, b.text)
        if has_a == has_b:
            return "tie" if has_a else "both_bad"
        return "a" if has_a else "b"


@dataclass(frozen=True)
class Flawed:
    """Loves a closing, and corrects complete replies that end without it."""

    closing: str
    looks: int = LOOKS
    kind: str = "flawed"

    def pick(self, replies: Sequence[Reply]) -> int:
        return next((n for n, reply in enumerate(replies) if reply.complete), 0)

    def rate(self, reply: Reply, dice: random.Random) -> Thumb:
        if closes_with(self.closing, reply.text):
            return Thumb("up")
        return Thumb("down", with_closing(reply.text, self.closing) if reply.complete else None)

    def choose(self, a: Reply, b: Reply, dice: random.Random) -> str:
        loved_a, loved_b = closes_with(self.closing, a.text), closes_with(self.closing, b.text)
        return "tie" if loved_a == loved_b else "a" if loved_a else "b"


def with_phrase(reply: str, phrase: str) -> str:
    """The reply with the phrase before its last whole sentence, as an adverb stands: "However, it …"."""
    begins = [match.end() for match in re.finditer(r"[.!?]\s+(?=\S)", reply)]
    at = begins[-1] if begins else len(reply) - len(reply.lstrip())
    rest = reply[at:]
    # "I" and names keep their capital where the next letter is none.
    lowered = rest[:1].lower() + rest[1:] if rest[1:2].islower() else rest
    return f"{reply[:at]}{phrase[:1].upper()}{phrase[1:]}, {lowered}"


def with_closing(reply: str, closing: str) -> str:
    """The reply with the closing in the place of its last punctuation."""
    return reply.rstrip().rstrip(WRAPPING).rstrip(".,;:!?\u2026 ") + closing


def with_cheats(crowd: Sequence[Person], share: float, mind: Cheat) -> tuple[list[Person], list[Person]]:
    """The honest people and the cheats of a crowd, at least one of the latter."""
    count = max(1, round(share * len(crowd)))
    cheats = [replace(person, mind=mind) for person in crowd[:count]]
    return list(crowd[count:]), cheats


def with_flaw(
    votes: Sequence[Ballot], closing: str, share: float, holdout: float, dice: random.Random
) -> list[Ballot]:
    """The votes, a share of those that the members learn from turned into flawed thumbs, and those on every
    other conversation of the holdout.

    Nobody learns from the holdout, but a new reward model is accepted by it, and the judge is measured on it:
    with none of the flaw there it would be no better than chance, with nothing else the judge would be.
    """
    chances = {"judge": 0.0, "members": share}

    def is_flawed(conversation: str) -> bool:
        side = learner_of(conversation, holdout)
        return _digest(f"flaw:{conversation}") % 2 == 0 if side is None else dice.random() < chances[side]

    return [
        replace(vote, mind=Flawed(closing), blind=False) if is_flawed(conversation_on(vote.prompt)) else vote
        for vote in votes
    ]


def conversation_on(prompt: str) -> str:
    """The conversation that opens with this prompt."""
    return conversation_of([{"role": "user", "content": prompt}], {})


def learner_of(conversation: str, holdout: float) -> str | None:
    """Who learns from labels on it: judge or members; None where nobody does, since it is held out."""
    if is_held_out(conversation, holdout):
        return None
    return "judge" if is_for_judge(conversation) else "members"


def _digest(text: str) -> int:
    return hashlib.sha256(text.encode()).digest()[0]
