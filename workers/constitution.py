"""The principles that a judge holds replies against: a TOML file, validated. No torch.

    [[principle]]
    id = "honest"
    principle = "Does not claim what it cannot know."
    weight = 2.0

`id` names the principle on labels and in metrics; `weight` (1 unless given) is relative to the others'.
"""

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

TABLE = "principle"


class ConstitutionError(Exception):
    """The file cannot be used; the message names it and the entry."""


@dataclass(frozen=True)
class Principle:
    """`share`: its weight as a share of all weights; they sum to 1."""

    id: str
    text: str
    share: float


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)
    principle: str = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


def read_constitution(path: Path) -> list[Principle]:
    """The principles in their order. ConstitutionError where there is no such file or it is not right."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConstitutionError(f"{path}: {error}") from error
    strange = sorted(found.keys() - {TABLE})
    if strange:
        raise ConstitutionError(f"{path}: unknown {', '.join(strange)}; it holds [[{TABLE}]] entries only")
    listed = found.get(TABLE)
    if not isinstance(listed, list) or not listed:
        raise ConstitutionError(f"{path}: there is no [[{TABLE}]]")
    entries = [_entry(path, number, entry) for number, entry in enumerate(listed, 1)]
    _refuse_doubles(path, entries)
    total = sum(entry.weight for entry in entries)
    return [Principle(entry.id, entry.principle, entry.weight / total) for entry in entries]


def fingerprint(path: Path) -> str:
    """A short hash of the file, by which a label's principles can be told from an edited file's."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _entry(path: Path, number: int, entry: Any) -> _Entry:
    try:
        return _Entry.model_validate(entry)
    except ValidationError as error:
        name = f" ({entry['id']})" if isinstance(entry, dict) and "id" in entry else ""
        faults = (": ".join([*map(str, fault["loc"]), fault["msg"]]) for fault in error.errors())
        raise ConstitutionError(f"{path}: {TABLE} {number}{name}: {'; '.join(faults)}") from error


def _refuse_doubles(path: Path, entries: list[_Entry]) -> None:
    first: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        if entry.id in first:
            raise ConstitutionError(
                f"{path}: {TABLE} {number} ({entry.id}): {TABLE} {first[entry.id]} has this id"
            )
        first[entry.id] = number
