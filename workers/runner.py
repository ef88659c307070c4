"""One job under its lease: stages as subprocesses, progress, cancelling, taking up again what was begun.

<home>/jobs/<job id>/           facts.json: what the job starts from, fixed at its first attempt
<home>/jobs/<job id>/03-score/  a stage's folder; one with `DONE` is not run again
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from redis.exceptions import RedisError

from serving.errors import LeaseLost
from serving.jobs import Job, Jobs, Lease
from workers.stage import DONE, LOG, METRICS, PROGRESS, STAGE, WORKER, write_json

log = logging.getLogger(__name__)

# What its log is spared: bars, and reports of weights that a reward model does not take over from the base.
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
LOOK_EVERY = 0.25  # seconds between looks at a running stage
TELL_EVERY = 2.0  # seconds after which the job is told how long its stage has run
TERM_GRACE = 3.0  # seconds between asking a stage to stop and making it
FACTS = "facts.json"


class StageFailed(Exception):
    """A stage ended with an error; the message is its last line, or the signal that killed it."""


class Cancelled(Exception):
    """An operator asked for the job to stop."""


class Interrupted(Exception):
    """The worker is to stop; the job will be taken up again."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A stage that is done: its folder and its metrics."""

    directory: Path
    metrics: dict[str, Any]

    def path(self, name: str) -> str:
        return str(self.directory / name)


class Run:
    """The job that this worker holds the lease on."""

    def __init__(
        self,
        job: Job,
        lease: Lease,
        jobs: Jobs,
        home: Path,
        stopping: threading.Event,
        programs: str = "workers.stages",
    ) -> None:
        self.job = job
        self.lease = lease
        self.directory = home / "jobs" / job.id
        self.expected = 1
        self._jobs = jobs
        self._stopping = stopping
        self._programs = programs
        self._renewed = time.monotonic()
        self._asked = 0.0
        self._stages: list[dict[str, Any]] = []
        self._standing_by: dict[str, subprocess.Popen[bytes]] = {}

    def facts(self, fresh: dict[str, Any]) -> dict[str, Any]:
        """What the job starts from: `fresh` at the first attempt, and the same ever after. A fact that the
        version did not know yet which began the job is taken from `fresh`."""
        path = self.directory / FACTS
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            write_json(path, fresh)
        found: dict[str, Any] = json.loads(path.read_text())
        return fresh | found

    def stage(self, name: str, program: str, config: dict[str, Any]) -> Finished:
        """Run a stage, unless it is done already. Raises StageFailed, Cancelled, Interrupted or LeaseLost."""
        directory = self.directory / f"{len(self._stages) + 1:02d}-{name}"
        entry: dict[str, Any] = {"name": name, "state": "running", "seconds": 0.0, "message": None}
        self._stages.append(entry)
        if (directory / DONE).exists():
            self._dismiss(program)
        else:
            directory.mkdir(parents=True, exist_ok=True)
            write_json(directory / STAGE, config)
            (directory / PROGRESS).unlink(missing_ok=True)
            self._run(directory, name, program, entry)
        entry["state"] = "done"
        self._report(name, 1.0, entry["message"])
        return Finished(directory, json.loads((directory / METRICS).read_text()))

    def skip(self, name: str, why: str) -> None:
        """Leave out a stage that cannot be done, but not its number: should it be done at a later attempt,
        the stages that follow are still the same."""
        self._stages.append({"name": name, "state": "skipped", "seconds": 0.0, "message": why})
        self._report(name, 0.0, why)

    def stand_by(self, *programs: str) -> None:
        """Let the programs of later stages load while others run (workers.standby)."""
        for program in programs:
            if program not in self._standing_by:
                words = ["workers.standby", f"{self._programs}.{program}"]
                self._standing_by[program] = _start(words, subprocess.PIPE, subprocess.DEVNULL)

    def close(self) -> None:
        """Stop what was loaded and never run."""
        for program in list(self._standing_by):
            self._dismiss(program)

    def _dismiss(self, program: str) -> None:
        loaded = self._standing_by.pop(program, None)
        if loaded is not None:
            _stop(loaded)
            assert loaded.stdin is not None
            loaded.stdin.close()

    def _run(self, directory: Path, name: str, program: str, entry: dict[str, Any]) -> None:
        self._report(name, 0.0, None)
        started = time.monotonic()
        process = self._begin(program, directory)
        try:
            self._watch(process, directory, name, entry, started)
        finally:
            _stop(process)
            entry["seconds"] = round(time.monotonic() - started, 2)
        if process.returncode != 0 or not (directory / DONE).exists():
            entry["state"] = "failed"
            why = _why_it_failed(name, process.returncode, directory / LOG)
            raise StageFailed(f"{why} (log: {_relative(directory / LOG)})")

    def _begin(self, program: str, directory: Path) -> subprocess.Popen[bytes]:
        """The program on its directory: the one that stands by, unless something has killed it."""
        (directory / LOG).touch()
        loaded = self._standing_by.pop(program, None)
        if loaded is not None:
            assert loaded.stdin is not None
            try:
                with loaded.stdin as told:
                    told.write(f"{directory}\n".encode())
                return loaded
            except OSError:
                _stop(loaded)
        with (directory / LOG).open("ab") as output:
            return _start([f"{self._programs}.{program}", str(directory)], subprocess.DEVNULL, output)

    def _watch(
        self,
        process: subprocess.Popen[bytes],
        directory: Path,
        name: str,
        entry: dict[str, Any],
        start: float,
    ) -> None:
        shown, told = None, start
        while process.poll() is None:
            self.still_ours()
            progress = _progress(directory / PROGRESS)
            if progress != shown or time.monotonic() - told > TELL_EVERY:
                shown, told = progress, time.monotonic()
                entry["seconds"] = round(told - start, 2)
                entry["message"] = progress[1]
                self._report(name, *progress)
            time.sleep(LOOK_EVERY)

    def still_ours(self) -> None:
        """Renew the lease in time. Raises Cancelled, Interrupted or LeaseLost."""
        if self._stopping.is_set():
            raise Interrupted(self.job.id)
        silence = time.monotonic() - self._renewed
        if time.monotonic() - self._asked < 2 * LOOK_EVERY:
            return
        self._asked = time.monotonic()
        try:
            if self._jobs.cancel_requested(self.job.id):
                raise Cancelled(self.job.id)
            if silence > self._jobs.renew_every:
                self._jobs.renew(self.lease)
                self._renewed = time.monotonic()
        except RedisError as error:
            log.warning("%s goes on, Redis is away: %s", self.job.id, error)
            if silence > self._jobs.lease_seconds:
                raise LeaseLost(f"{self.job.id}: Redis was away for longer than the lease") from error

    def published(self, **versions: str) -> None:
        """Write on the job what it published, at once: it holds whatever becomes of the rest."""
        self._jobs.update(self.lease, **versions)

    def _report(self, stage: str, fraction: float, message: str | None) -> None:
        done = sum(entry["state"] == "done" for entry in self._stages)
        progress = min(1.0, (done if fraction == 1.0 else done + fraction) / max(self.expected, done, 1))
        try:
            self._jobs.update(
                self.lease, stage=stage, progress=round(progress, 4), message=message, stages=self._stages
            )
        except RedisError as error:  # the next report says it all again
            log.warning("%s: progress is not written, Redis is away: %s", self.job.id, error)


def _start(words: Sequence[str], stdin: int, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
    """A module as a program in a session of its own; it dies with this worker."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", *words],
        stdin=stdin,
        stdout=output,
        stderr=output,
        env={**QUIET, **os.environ, WORKER: str(os.getpid())},
        start_new_session=True,
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing of a stage behind: ask, then make."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(TERM_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _progress(path: Path) -> tuple[float, str | None]:
    if not path.exists():
        return 0.0, None
    found = json.loads(path.read_text())
    return found["done"] / max(found["total"], 1), found["message"]


def _why_it_failed(name: str, code: int, log_path: Path) -> str:
    # A killed process had no say in its last line: the kernel's OOM killer sends SIGKILL.
    if code < 0:
        hint = "; is there enough memory?" if -code == signal.SIGKILL else ""
        return f"{name} was killed by {signal.Signals(-code).name}{hint}"
    return f"{name}: {_last_line(log_path)}"


def _last_line(path: Path) -> str:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word"


def _relative(path: Path) -> str:
    return "/".join(path.parts[-4:])
