"""What a job's stages left on the worker's disk: what one printed, measured and drew. Sync.

It is read from the worker's folder, <home>/jobs/<id>/NN-stage/, so a gateway can tell it only where it shares
THUMBWHEEL_HOME with the worker; elsewhere it says so.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from serving.errors import UnknownPlot, UnknownStage
from serving.jobs import Job

LOG, METRICS, DONE = "log.txt", "metrics.json", "DONE"
PLOTS = ("plots", "reward/plots")  # of a candidate, and of a reward model, within a stage's folder
MOST_BYTES = 256 * 1024
COLOUR = re.compile("\x1b\\[[0-9;]*m")
STAGE = re.compile(r"(\d+)-([\w-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tail:
    """`stage`: its folder's name, None where it has none, or none has begun.
    `more`: whether there is more before it."""

    stage: str | None = None
    lines: tuple[str, ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a stage: `stage` is its folder's name. Empty before it is done."""

    stage: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    plots: tuple[str, ...] = ()


class JobFolders:
    def __init__(self, home: Path) -> None:
        self._jobs = home / "jobs"

    def tail(self, job: Job, lines: int, stage: str | None = None) -> Tail:
        """The last lines of a stage, the newest if not told which; none where it has not begun. `stage`: its
        name, or its folder's. Raises UnknownStage where the job has no such stage, or has run, but left
        nothing here."""
        path = self._newest(job, stage, LOG)
        if path is None:
            return Tail()
        text, whole = _end_of(path)
        found = [_as_shown(line) for line in text.split("\n")]
        if not found[-1]:
            found.pop()
        if not whole and len(found) > 1:
            found = found[1:]  # it begins in the middle
        return Tail(path.parent.name, tuple(found[-lines:]), not whole or len(found) > lines)

    def result(self, job: Job, stage: str) -> Result:
        """What a stage measured, and the names of the pictures that it drew. Raises UnknownStage."""
        path = self._newest(job, stage, METRICS)
        if path is None or not (path.parent / DONE).exists():
            return Result()
        drawn = {plot.name for folder in PLOTS for plot in (path.parent / folder).glob("*.png")}
        return Result(path.parent.name, orjson.loads(path.read_bytes()), tuple(sorted(drawn)))

    def plot(self, job: Job, stage: str, name: str) -> Path:
        """A plot that a stage drew, as a picture or as data. Raises UnknownStage, or UnknownPlot."""
        for folder in PLOTS:
            path = self._newest(job, stage, f"{folder}/{name}")
            if path is not None:
                return path
        raise UnknownPlot(f"{stage} of {job.id} has no plot {name!r}.", "name")

    def _newest(self, job: Job, stage: str | None, name: str) -> Path | None:
        """The file of the stage with the highest number, of those with this name if one is given, that has
        one. A link that leads out of the jobs is none."""
        asked = None if stage is None else _known(job, stage)
        if job.started is None:
            return None
        folder = self._jobs / job.id
        if not folder.is_dir():
            raise UnknownStage(
                f"What {job.id} left is not here: this gateway does not share THUMBWHEEL_HOME with the "
                "worker that ran it, or the job's folder was removed. Look on the worker's machine."
            )
        stages = [(match, path) for path in folder.iterdir() if (match := STAGE.fullmatch(path.name))]
        wanted = [found for found in stages if asked in (None, found[0][2])]
        for _, path in sorted(wanted, key=lambda found: int(found[0][1]), reverse=True):
            file = path / name
            if file.is_file() and file.resolve().is_relative_to(self._jobs.resolve()):
                return file
        return None


def _known(job: Job, stage: str) -> str:
    """The name of one of the job's stages. No path is ever made of what was asked for."""
    names = [entry["name"] for entry in job.stages]
    numbered = STAGE.fullmatch(stage)
    for name in (stage, numbered and numbered[2]):
        if name in names:
            return str(name)
    there = f"It has {', '.join(names)}." if names else "None has begun."
    raise UnknownStage(f"{job.id} has no stage {stage!r}. {there}", "stage")


def _end_of(path: Path) -> tuple[str, bool]:
    """At most MOST_BYTES from a file's end, and whether that is all of it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MOST_BYTES))
        return file.read(MOST_BYTES).decode(errors="replace"), size <= MOST_BYTES


def _as_shown(line: str) -> str:
    """What a terminal without colours shows of a line that a progress bar wrote over and over."""
    return COLOUR.sub("", line.rstrip("\r").rpartition("\r")[2])
