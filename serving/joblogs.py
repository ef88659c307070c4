"""The end of what one of a job's stages printed, the newest if not told which. Sync.

It is read from the worker's folder, <home>/jobs/<id>/NN-stage/log.txt, so a gateway can tell it only where it
shares THUMBWHEEL_HOME with the worker; elsewhere it says so.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from serving.errors import UnknownLog
from serving.jobs import Job

LOG = "log.txt"
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


class JobLogs:
    def __init__(self, home: Path) -> None:
        self._jobs = home / "jobs"

    def tail(self, job: Job, lines: int, stage: str | None = None) -> Tail:
        """The last lines of a stage, the newest if not told which; none where it has not begun. `stage`: its
        name, or its folder's. Raises UnknownLog where the job has no such stage, or has run, but left nothing
        here."""
        name = None if stage is None else _known(job, stage)
        if job.started is None:
            return Tail()
        folder = self._jobs / job.id
        if not folder.is_dir():
            raise UnknownLog(
                f"The log of {job.id} is not here: this gateway does not share THUMBWHEEL_HOME with the "
                "worker that ran it, or the job's folder was removed. Read it on the worker's machine."
            )
        path = self._newest(folder, name)
        if path is None:
            return Tail()
        text, whole = _end_of(path)
        found = [_as_shown(line) for line in text.split("\n")]
        if not found[-1]:
            found.pop()
        if not whole and len(found) > 1:
            found = found[1:]  # it begins in the middle
        return Tail(path.parent.name, tuple(found[-lines:]), not whole or len(found) > lines)

    def _newest(self, folder: Path, name: str | None) -> Path | None:
        """The log of the stage with the highest number, of those with this name if one is given. A link that
        leads out of the jobs is none."""
        stages = [(match, path) for path in folder.iterdir() if (match := STAGE.fullmatch(path.name))]
        asked = [found for found in stages if name in (None, found[0][2])]
        for _, path in sorted(asked, key=lambda found: int(found[0][1]), reverse=True):
            log = path / LOG
            if log.is_file() and log.resolve().is_relative_to(self._jobs.resolve()):
                return log
        return None


def _known(job: Job, stage: str) -> str:
    """The name of one of the job's stages. No path is ever made of what was asked for."""
    names = [entry["name"] for entry in job.stages]
    numbered = STAGE.fullmatch(stage)
    for name in (stage, numbered and numbered[2]):
        if name in names:
            return str(name)
    there = f"It has {', '.join(names)}." if names else "None has begun."
    raise UnknownLog(f"{job.id} has no stage {stage!r}. {there}", "stage")


def _end_of(path: Path) -> tuple[str, bool]:
    """At most MOST_BYTES from a file's end, and whether that is all of it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MOST_BYTES))
        return file.read(MOST_BYTES).decode(errors="replace"), size <= MOST_BYTES


def _as_shown(line: str) -> str:
    """What a terminal without colours shows of a line that a progress bar wrote over and over."""
    return COLOUR.sub("", line.rstrip("\r").rpartition("\r")[2])
