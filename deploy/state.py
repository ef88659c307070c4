"""The folder `run/` of a home: who runs here, under which addresses."""

import contextlib
import fcntl
import json
import os
import random
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class AlreadyRunning(Exception):
    """Another supervisor holds the lock of this home."""


class Run:
    """`lock` is held for a supervisor's life, `thumbwheel.json` says what it runs, `ports.json` lasts."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "run"
        self._facts = self.folder / "thumbwheel.json"

    @contextlib.contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the lock; gives its file descriptor. `AlreadyRunning` if it is taken."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning from None
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            yield descriptor
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        with contextlib.suppress(FileNotFoundError), (self.folder / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def owner(self) -> int:
        """The process id of whoever took the lock last."""
        return int((self.folder / "lock").read_text())

    def write(self, facts: dict[str, Any]) -> None:
        _write_private(self._facts, json.dumps(facts, indent=2))

    def read(self) -> dict[str, Any]:
        """What runs here, as `write` had it; empty if nothing does."""
        try:
            facts: dict[str, Any] = json.loads(self._facts.read_text())
        except FileNotFoundError:
            return {}
        return facts

    def write_file(self, name: str, text: str) -> Path:
        """A file in `run/` that only this user can read."""
        path = self.folder / name
        _write_private(path, text)
        return path

    def forget(self) -> None:
        self._facts.unlink(missing_ok=True)

    def port(self, name: str) -> int:
        """A free loopback port for `name`: the one it had the last time, if that is still free."""
        path = self.folder / "ports.json"
        ports = json.loads(path.read_text()) if path.exists() else {}
        if name not in ports or not port_is_free("127.0.0.1", ports[name]):
            ports[name] = _any_free_port(set(ports.values()))
            _write_private(path, json.dumps(ports))
        return int(ports[name])

    def secret(self, name: str) -> str:
        """A password that only this user can read, made at the first call."""
        path = self.folder.parent / "keys" / name
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _write_private(path, secrets.token_urlsafe(24) + "\n")
        return path.read_text().strip()


def port_is_free(host: str, port: int) -> bool:
    """Whether one could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _any_free_port(taken: set[int]) -> int:
    # Below the range of outgoing connections, one of which could hold it when a process restarts.
    while True:
        port = random.randrange(20000, 32000)
        if port not in taken and port_is_free("127.0.0.1", port):
            return port


def _write_private(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
