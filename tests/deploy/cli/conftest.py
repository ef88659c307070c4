"""The `thumbwheel` command beside a gateway: as a call, and as a process on a terminal."""

import codecs
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from typer.testing import CliRunner

from deploy.cli.app import app
from deploy.client import ROOT
from deploy.state import Run
from tests.conftest import Gateway
from tests.servers import eventually

Thumbwheel = Callable[..., Result]
STEERS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# A terminal is a process's own, so that Ctrl-C on it is a signal, once the process has claimed it.
CLAIMED = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from deploy.cli.app import app; app()"


@pytest.fixture
def thumbwheel(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Thumbwheel:
    return command_beside(gateway, monkeypatch)


def command_beside(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Thumbwheel:
    """The command, run as the operator on the machine of the gateway."""
    monkeypatch.setenv("THUMBWHEEL_HOME", str(gateway.home))
    monkeypatch.setattr("deploy.cli.follow.POLL", 0.1)
    run = Run(gateway.home)
    run.folder.mkdir(exist_ok=True)
    run.write({"url": gateway.url})

    def call(*words: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, list(words), input=stdin, env={"COLUMNS": "200"})

    return call


class Terminal:
    """A command on a terminal, and all that it has shown there."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.told = ""
        self._master, slave = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLAIMED, *words],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "100", "LINES": "60", "TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def shows(self, text: str, times: int = 1) -> None:
        eventually(lambda: self.told.count(text) >= times, seconds=30)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        code = self._process.wait(30)
        self._reader.join()
        return code

    def end(self) -> None:
        self._process.kill()
        self.wait()
        os.close(self._master)

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")()
        while True:
            try:
                part = os.read(self._master, 65536)
            except OSError:  # as Linux tells the end
                return
            self.told = STEERS.sub("", self.told + decoder.decode(part))


@pytest.fixture
def five_hours_west(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time is UTC - 5."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "WST5")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def terminal(thumbwheel: Thumbwheel) -> Iterator[Callable[..., Terminal]]:
    """Starts the command on a terminal, as the operator on the machine of the gateway."""
    started: list[Terminal] = []

    def start(*words: str) -> Terminal:
        started.append(Terminal(words))
        return started[-1]

    yield start
    for each in started:
        each.end()
