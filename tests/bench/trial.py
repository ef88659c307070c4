"""One run of the learning experiment: what was planned, and all that came of it, as JSON.

Rewritten after each cycle, so a run that is cut off keeps what it had. Every figure is computed from it.
"""

import json
import os
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from feedback.settings import PREFIX
from tests.bench.exam import Paper

BASE = "policy-v0"
FORMAT = "thumbwheel-learning-1"
ARM = ("labels", "thumbs", "raters", "leniency", "temperature", "standard")  # of a plan


@dataclass(frozen=True)
class Plan:
    """`cheats`: the shares of raters and votes. `flaw`: the closing that the reward model is to love, and
    `flaw_share` that of its labels which say so.

    `temperature`: in standard deviations of the base's gold scores; `standard`: whose mean gold a thumb is
    measured against, the base's or the champion's. `until`: the win rate over policy-v0 at which no further
    labels are asked for. `variables`: settings of the service.
    """

    scorer: str
    seed: int = 0
    cycles: int = 5
    plateau: int = 0
    labels: int = 128
    thumbs: float = 0.5
    noise: float = 0.0
    raters: int = 60
    leniency: float = 0.5
    temperature: float = 0.5
    standard: str = "base"
    cheats: tuple[float, float] | None = None
    phrase: str = "however"
    corrections: bool = True
    caps: bool = True
    flaw: str | None = None
    flaw_share: float = 1.0
    method: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    exam_prompts: int = 84
    exam_replies: int = 2
    evaluate_every: int = 1
    until: float | None = None
    tag: str | None = None

    @property
    def name(self) -> str:
        """The file's name, without its ending."""
        parts = [
            self.scorer,
            f"noise{round(100 * self.noise)}" if self.noise else None,
            "cheats" if self.cheats else None,
            None if self.caps else "nocaps",
            "flaw" if self.flaw else None,
            f"until{self.until}" if self.until else None,
            f"plateau{self.plateau}" if self.plateau else None,
            self.method,
            *(f"{name}-{value}" for name, value in self._settings),
            self.tag,
            f"seed{self.seed}",
        ]
        return "-".join(re.sub(r"[^\w.]+", "-", part) for part in parts if part)

    @property
    def is_clean(self) -> bool:
        return not self.noise and self.cheats is None and self.flaw is None

    @property
    def arm(self) -> str:
        """What is compared with its like: all but the taste, the seed and what is done to labels."""
        defaults = {field.name: field.default for field in fields(self) if field.name in ARM}
        unusual = [(name, value) for name in ARM if (value := getattr(self, name)) != defaults[name]]
        told = [f"{name}={value}" for name, value in (*unusual, *self._settings)]
        return ", ".join([self.method or "default method", *told, *([self.tag] if self.tag else [])])

    @property
    def _settings(self) -> list[tuple[str, str]]:
        return [(key.removeprefix(PREFIX).lower(), value) for key, value in sorted(self.variables.items())]


@dataclass(frozen=True)
class Cycle:
    """`votes`: what was said, as in votes.py. `job`: as the API shows it. `evidence`: what the gate saw.
    `stages`: metrics of each. `plateau`: without new labels. `champion`: who answers after it."""

    number: int
    plateau: bool
    votes: list[dict[str, Any]]
    label_seconds: float
    job: dict[str, Any]
    job_seconds: float
    champion: str
    evidence: dict[str, Any] | None = None
    stages: dict[str, Any] = field(default_factory=dict)

    @property
    def minutes(self) -> float:
        return (self.label_seconds + self.job_seconds) / 60


@dataclass
class Trial:
    """`taste`: the standard, the temperature and what they were made of. `papers`: exams, by version.
    `given`: the votes of a cycle whose job has not ended, empty while they are given."""

    plan: Plan
    prompts: list[str]
    taste: dict[str, float | None] = field(default_factory=dict)
    papers: dict[str, Paper] = field(default_factory=dict)
    cycles: list[Cycle] = field(default_factory=list)
    given: list[dict[str, Any]] | None = None
    failures: list[str] = field(default_factory=list)
    error: str | None = None
    finished: bool = False

    def paper_after(self, cycle: int) -> Paper | None:
        """The exam of whoever answered after that cycle; 0: of the base."""
        version = BASE if cycle == 0 else self.cycles[cycle - 1].champion
        return self.papers.get(version)

    @property
    def learning_cycles(self) -> int:
        return sum(not cycle.plateau for cycle in self.cycles)

    def as_dict(self) -> dict[str, Any]:
        papers = {version: paper.as_dict() for version, paper in self.papers.items()}
        return {"format": FORMAT, **asdict(self), "papers": papers}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Trial":
        """ValueError where it is something else."""
        if given.get("format") != FORMAT:
            raise ValueError("this is no record of the learning bench")
        parts = {key: value for key, value in given.items() if key != "format"}
        cheats = given["plan"]["cheats"]
        parts["plan"] = Plan(**{**given["plan"], "cheats": tuple(cheats) if cheats else None})
        parts["papers"] = {name: Paper.from_dict(paper) for name, paper in given["papers"].items()}
        parts["cycles"] = [Cycle(**cycle) for cycle in given["cycles"]]
        return cls(**parts)

    def write(self, folder: Path) -> Path:
        """<folder>/<plan's name>.json, whole or not at all."""
        path = folder / f"{self.plan.name}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(self.as_dict(), ensure_ascii=False, indent=1))
        os.replace(partial, path)
        return path

    @classmethod
    def read(cls, path: Path) -> "Trial":
        return cls.from_dict(json.loads(path.read_text()))


def read_trials(folder: Path) -> list[Trial]:
    """All records of a folder, by name; other JSON is left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and content.get("format") == FORMAT:
            found.append(Trial.from_dict(content))
    return found
