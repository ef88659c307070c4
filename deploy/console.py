"""What people see while things start: a line that renews itself on a terminal, some lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from deploy.visible import visible

QUIET_INTERVAL = 10.0


class Console:
    """Prints, and keeps a dated copy of what it printed in `log`."""

    def __init__(self, log: Path | None = None) -> None:
        self._log = log
        self._terminal = sys.stdout.isatty()
        self._shown = 0.0
        self._began = time.monotonic()

    def say(self, message: str) -> None:
        message = visible(message)  # it may hold a reply, or what a process logged
        self._print(("\r\x1b[K" if self._terminal else "") + message + "\n")
        if self._log is not None:
            # A full disk is announced by the processes that need it; saying so here must not stop them.
            with contextlib.suppress(OSError), self._log.open("a") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """A stretch of work whose `progress` counts from here."""
        self._began = self._shown = time.monotonic()
        yield
        if self._terminal:
            self._print("\r\x1b[K")

    def progress(self, what: str, detail: str = "") -> None:
        """Say that `what` goes on, if it is time to say so again."""
        now = time.monotonic()
        if now - self._shown < (0.5 if self._terminal else QUIET_INTERVAL):
            return
        self._shown = now
        line = visible(f"  {now - self._began:4.0f} s  {what}" + (f"  {detail}" if detail else ""))
        self._print(f"\r\x1b[K{line[:118]}" if self._terminal else f"{line[:118]}\n")

    def _print(self, text: str) -> None:
        # The reader may have gone, as it does once a detached start is over: that must not end the service.
        with contextlib.suppress(OSError):
            sys.stdout.write(text)
            sys.stdout.flush()


def tail(log: Path, lines: int = 15, start: int = 0) -> list[str]:
    """The last lines of a log file, from byte `start` on, at most 16 KiB of them; empty if there is none."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(start, end - 16384))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]
