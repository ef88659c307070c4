"""What a person types of replies in `thumbwheel chat`: reasons, each behind a #, and then a comment."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from deploy.client import ClientError, Object

# Those of the chat page: what is counted together has to be called the same.
REASONS = {
    "up": ("accurate", "helpful", "clear", "complete", "concise", "good tone", "creative"),
    "down": (
        *("wrong", "not helpful", "unclear", "too long", "too short", "repetitive"),
        *("off topic", "rude", "unsafe"),
    ),
}
STRENGTHS = {"s": 0.1, "c": 0.5, "f": 1.0}
SIDES = ("a", "b")


class UnknownReason(ClientError):
    pass


class Said(NamedTuple):
    reasons: list[str]
    comment: str


def typed(question: str) -> str:
    """A line of the input. A piped one shows no typing, so it is printed, to be read with its answer."""
    line = input(question)
    if not sys.stdin.isatty():
        print(line)
    return line


@dataclass
class Lines:
    """Lines as they are typed. Raises EOFError at their end."""

    read: Callable[[str], str]
    ahead: str | None = None

    def ask(self, question: str) -> str:
        if self.ahead is not None:
            line, self.ahead = self.ahead, None
            return line
        return self.read(question).strip()

    def ask_if_liked(self, question: str) -> str:
        """The answer, or "" for Enter and the end of input. A command says that there is none, and is what
        comes next."""
        try:
            line = self.ask(question)
        except EOFError:
            return ""
        if line.startswith("/"):
            self.ahead = line
            return ""
        return line


def tagged(reasons: Sequence[str]) -> str:
    """`#too-long #rude`, as they are typed."""
    return " ".join(_tag(reason) for reason in reasons)


def read_said(line: str, known: Sequence[str]) -> Said:
    """`#too-long #rude the comment`: what begins with a # before the comment is a reason. Raises
    UnknownReason."""
    by_tag = {_tag(reason): reason for reason in known}
    reasons, rest = [], line.strip()
    while rest.startswith("#"):
        tag, *after = rest.split(maxsplit=1)
        if (reason := by_tag.get(tag.lower().rstrip(","))) is None:
            raise UnknownReason(
                f"{tag} is no reason here, so nothing was sent. The reasons are {tagged(known)}."
            )
        reasons.append(reason)
        rest = after[0] if after else ""
    return Said(list(dict.fromkeys(reasons)), rest)


def ask_why(winner: str, lines: Lines, say: Callable[[str], None]) -> Object:
    """How much better what was chosen of a pair is, and why, as far as a person likes to tell."""
    strength = _ask_strength(lines) if winner in SIDES else None
    known = _reasons_for(winner)
    say(f"Reasons: {tagged(known)}")
    while True:
        try:
            said = read_said(lines.ask_if_liked("Why? Reasons, a comment, or both (Enter: skip): "), known)
        except UnknownReason as error:
            say(str(error))
        else:
            return {"strength": strength, "reasons": said.reasons, "comment": said.comment or None}


def _ask_strength(lines: Lines) -> float | None:
    while True:
        answer = lines.ask_if_liked("How much? s (slightly), c (clearly) or f (far better; Enter: skip): ")
        if not answer:
            return None
        if (letter := answer.lower()[0]) in STRENGTHS:
            return STRENGTHS[letter]


def _reasons_for(winner: str) -> Sequence[str]:
    """Those that speak for what was chosen; of a tie, both."""
    good = () if winner == "both_bad" else REASONS["up"]
    bad = () if winner in SIDES else REASONS["down"]
    return (*good, *bad)


def _tag(reason: str) -> str:
    return "#" + reason.replace(" ", "-")
