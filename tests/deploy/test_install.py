"""The installer under its shell script, with a pip that only waits: what a signal leaves behind."""

import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.servers import alive, eventually

ROOT = Path(__file__).parents[2]
# `.venv/bin/python`: as pip it starts a child that ignores an interrupt, and waits for it.
PYTHON = f"""#!/bin/sh
[ "$1" = -m ] || exec {sys.executable} "$@"
cd "$(dirname "$0")"
sleep 600 &
echo $$ $! > pids.partial
mv pids.partial pids
wait
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "deploy" / "requirements").mkdir(parents=True)
    for name in ("up", "python.sh", "install.py"):
        shutil.copy(ROOT / "deploy" / name, tmp_path / "deploy")
    (tmp_path / "pyproject.toml").touch()
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").write_text(PYTHON)
    (folder / "python").chmod(0o755)
    (folder / "pip").touch()
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [["bash", "deploy/up"], [sys.executable, "deploy/install.py", "cpu"]])
def test_a_signal_ends_the_installation_and_all_that_it_started(
    checkout: Path, command: list[str], number: signal.Signals
) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=checkout, stdout=pipe, stderr=pipe, text=True) as process:
        pids_file = checkout / ".venv" / "bin" / "pids"
        eventually(pids_file.exists)
        pids = [int(pid) for pid in pids_file.read_text().split()]
        assert all(alive(pid) for pid in pids)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=30)  # until nobody holds its output any more
    assert process.returncode == 130
    assert said.strip() == "Stopped. The next start goes on with what is installed so far."
    eventually(lambda: not any(alive(pid) for pid in pids))
    assert not list(checkout.glob(".venv/*.stamp"))


def test_every_package_is_installed():
    """An editable install has those that are not named, too; a wheel has not."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = [
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("feedback", "serving", "workers", "deploy")
        for path in (ROOT / top).rglob("__init__.py")
    ]
    assert sorted(named) == sorted(found)
