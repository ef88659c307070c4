"""Child processes: started in groups of their own, watched, restarted with backoff, stopped together."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.console import Console, tail
from deploy.watchdog import Watchdog, kill_group

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
STEADY = 60.0  # Seconds after which a process counts as healthy again.
LOG_LIMIT = 64 << 20
POLL = 0.1


class StartError(Exception):
    """A step of the start failed: what, the last lines of its log, and what to do about it."""

    def __init__(self, what: str, lines: list[str], advice: str) -> None:
        super().__init__(what)
        self.what, self.lines, self.advice = what, lines, advice


class Stopped(Exception):
    """Somebody asked to stop while something was awaited."""


@dataclass(frozen=True)
class Process:
    """One child: `ready` is asked with its log since its start; a higher `tier` is stopped earlier."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[str], bool] = lambda log: True
    advice: str = ""
    tier: int = 2
    grace: float = 10.0


@dataclass
class Child:
    process: Process
    popen: "subprocess.Popen[bytes]"
    log: Path
    log_start: int
    started: float
    failures: int = 0
    restart_at: float | None = None
    ready: bool = False

    def output(self) -> str:
        """At most the last 16 KiB that it wrote since it was started."""
        return "\n".join(tail(self.log, 1000, self.log_start))


class Supervisor:
    """Owns the children. Not for several threads; `stop_asked` may be set from a signal handler."""

    def __init__(self, logs: Path, console: Console, watchdog: Watchdog, stop_asked: threading.Event) -> None:
        self._logs, self._console, self._watchdog = logs, console, watchdog
        self._stop_asked = stop_asked
        self._children: dict[str, Child] = {}

    @property
    def pids(self) -> dict[str, int]:
        return {name: child.popen.pid for name, child in self._children.items()}

    def start(self, process: Process) -> Child:
        log = self._logs / f"{process.name}.log"
        _set_aside(log)
        with log.open("ab") as output:
            log_start = output.tell()
            popen = subprocess.Popen(
                process.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(process.environment),
                start_new_session=True,
            )
        self._watchdog.add(popen.pid)
        child = Child(process, popen, log, log_start, time.monotonic())
        self._children[process.name] = child
        return child

    def run(self, process: Process, what: str) -> None:
        """Run one to its end; `StartError` unless that end is 0."""
        child = self.start(process)
        try:
            while child.popen.poll() is None:
                self._console.progress(what, _last(child))
                self._pause()
            if child.popen.returncode:
                raise self._failure(child, f"{what} failed ({_ending(child)})")
        finally:
            self._reap(child)
            del self._children[process.name]

    def await_ready(self, timeout: float) -> None:
        """Return when every child is ready; `StartError` when one ends or `timeout` seconds have passed."""
        waiting = {name: child for name, child in self._children.items() if not child.ready}
        deadline = time.monotonic() + timeout
        while waiting:
            for name, child in list(waiting.items()):
                if child.popen.poll() is not None:
                    raise self._failure(child, f"{name} did not start ({_ending(child)})")
                if self._became_ready(child):
                    del waiting[name]
                elif time.monotonic() > deadline:
                    raise self._failure(child, f"{name} was not ready within {timeout:.0f} s")
            if waiting:
                first = next(iter(waiting.values()))
                self._console.progress(f"waiting for {', '.join(waiting)}", _last(first))
                self._pause()

    def require_alive(self) -> None:
        """`StartError` if a child has ended; during a start none may."""
        for child in self._children.values():
            if child.popen.poll() is not None:
                raise self._failure(child, f"{child.process.name} ended ({_ending(child)})")

    def tend(self) -> bool:
        """Notice the dead and restart those that are due, once. Says whether a process was started."""
        now, started = time.monotonic(), False
        for child in list(self._children.values()):
            name = child.process.name
            if _set_aside(child.log):
                child.log_start = 0
            if child.restart_at is None and child.popen.poll() is not None:
                self._reap(child)
                child.failures = 1 if now - child.started > STEADY else child.failures + 1
                delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (child.failures - 1))
                child.restart_at = now + delay
                lines = "".join(f"\n    {line}" for line in tail(child.log, 3, child.log_start))
                self._console.say(f"{name} ended ({_ending(child)}); starting it again in {delay:g} s{lines}")
            elif child.restart_at is not None and child.restart_at <= now:
                self.start(child.process).failures = child.failures
                self._console.say(f"{name} was started again (attempt {child.failures})")
                started = True
            elif child.restart_at is None and not child.ready:
                self._became_ready(child)
        return started

    def stop(self) -> None:
        """Stop all children, the highest tier first: SIGTERM, their grace, then SIGKILL for the group."""
        self._stop_asked.clear()
        for tier in sorted({child.process.tier for child in self._children.values()}, reverse=True):
            children = [child for child in self._children.values() if child.process.tier == tier]
            for child in children:
                if child.popen.poll() is None:
                    child.popen.terminate()
            began = time.monotonic()
            while any(
                child.popen.poll() is None and time.monotonic() - began < child.process.grace
                for child in children
            ):
                # A second Ctrl-C is an impatient one.
                if self._stop_asked.wait(POLL):
                    break
            for child in children:
                if child.popen.poll() is None:
                    self._console.say(f"  {child.process.name} did not stop in time and was killed")
                self._reap(child)
                del self._children[child.process.name]

    def _became_ready(self, child: Child) -> bool:
        child.ready = child.process.ready(child.output())
        if child.ready:
            self._console.say(f"  {child.process.name} is ready ({time.monotonic() - child.started:.1f} s)")
        return child.ready

    def _pause(self) -> None:
        if self._stop_asked.wait(POLL):
            raise Stopped

    def _reap(self, child: Child) -> None:
        # The group outlives its leader where that left children behind, as a killed vLLM server does.
        kill_group(child.popen.pid)
        child.popen.wait()
        self._watchdog.remove(child.popen.pid)

    def _failure(self, child: Child, what: str) -> StartError:
        advice = " ".join(filter(None, [child.process.advice, f"Its log: {child.log}"]))
        return StartError(what, tail(child.log, 15, child.log_start), advice)


def _set_aside(log: Path) -> bool:
    """Copy a log that has grown large and empty it; its writer appends, so it goes on at the new end."""
    if not log.exists() or log.stat().st_size <= LOG_LIMIT:
        return False
    shutil.copyfile(log, log.with_suffix(".log.1"))
    os.truncate(log, 0)
    return True


def _ending(child: Child) -> str:
    code = child.popen.returncode
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _last(child: Child) -> str:
    lines = tail(child.log, 1, child.log_start)
    return lines[0].split(os.linesep)[0].rsplit("\r", 1)[-1].strip() if lines else ""
