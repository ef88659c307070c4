"""The reference texts: plain, good English that no policy is trained on, so that it stays likely; and others
of that kind that hold a policy there. No torch.

`data/reference.jsonl` holds short answers of our own: facts, sums, explanations, lists, refusals, courtesy. A
candidate that finds them surely less likely than the base does has lost some of its language. It sees what
such text needs; it does not see knowledge or skills that the texts do not use, nor other languages.

`data/plain.jsonl` holds other answers, to other questions, and a fifth of them refusals in the base's own
manner, of other things: to these `optimise` keeps a policy close.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.labels import Message

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Reference:
    """A question and a good answer to it."""

    prompt: str
    reply: str

    @property
    def messages(self) -> list[Message]:
        return [{"role": "user", "content": self.prompt}]


def read_plain(path: Path = DATA / "plain.jsonl") -> list[Reference]:
    return read_references(path)


def read_references(path: Path = DATA / "reference.jsonl") -> list[Reference]:
    return [Reference(**row) for row in read_rows(path)]


def read_rows(path: Path) -> list[Mapping[str, str]]:
    """The objects of a JSONL file, one a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
