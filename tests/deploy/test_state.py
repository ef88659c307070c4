import socket
import stat
from pathlib import Path

import pytest

from deploy.state import AlreadyRunning, Run, port_is_free


def test_the_lock_is_held_once_and_names_its_owner(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert not run.is_locked()
    with run.lock():
        assert run.is_locked()
        with pytest.raises(AlreadyRunning), Run(tmp_path).lock():
            pass
        assert run.is_locked()
    assert not run.is_locked()


def test_facts_are_private_and_forgotten(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.folder.mkdir()
    assert run.read() == {}
    run.write({"url": "http://here"})
    assert run.read() == {"url": "http://here"}
    assert stat.S_IMODE((run.folder / "thumbwheel.json").stat().st_mode) == 0o600
    run.forget()
    run.forget()
    assert run.read() == {}


def test_a_port_is_remembered_until_somebody_takes_it(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.folder.mkdir()
    port = run.port("valkey")
    assert run.port("valkey") == port
    assert run.port("engine") != port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert not port_is_free("127.0.0.1", port)
        assert run.port("valkey") != port


def test_a_secret_is_made_once_and_private(tmp_path: Path) -> None:
    run = Run(tmp_path)
    secret = run.secret("valkey")
    assert run.secret("valkey") == secret
    assert len(secret) >= 24
    assert stat.S_IMODE((tmp_path / "keys" / "valkey").stat().st_mode) == 0o600
