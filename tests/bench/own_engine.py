"""An engine as `deploy/up` starts it, and a stage as a worker runs it, for measurements. Nothing outlives the
block or the call."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.console import Console, tail
from deploy.processes import engine, model_conversion
from deploy.settings import DeploySettings
from deploy.supervisor import StartError, Supervisor
from deploy.watchdog import Watchdog, kill_group
from tests.e2e.stack import ROOT
from tests.servers import free_port
from workers.stage import LOG, METRICS, STAGE, WORKER

GRACE = 5.0

Environment = Mapping[str, str]
Program = Callable[[Path, dict[str, Any]], dict[str, Any]]  # a folder that is not there yet, config → metrics


@contextmanager
def running_engine(settings: DeploySettings, folder: Path) -> Iterator[tuple[str, float]]:
    """Its URL, and the seconds until it was ready. Its log stays in `folder`."""
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    watchdog = Watchdog(lock)
    supervisor = Supervisor(folder, Console(), watchdog, threading.Event())
    port = free_port()
    try:
        if settings.model_is_packaged and not (Path(settings.model) / "DONE").exists():
            supervisor.run(model_conversion(settings), "preparing the model")
        began = time.monotonic()
        supervisor.start(engine(settings, port))
        supervisor.await_ready(settings.start_timeout)
        yield f"http://127.0.0.1:{port}", time.monotonic() - began
    except StartError as error:
        raise SystemExit("\n".join([error.what, *error.lines, error.advice])) from error
    finally:
        supervisor.stop()
        watchdog.close()
        os.close(lock)


def run_program(
    module: str, folder: Path, config: dict[str, Any], environment: Environment
) -> dict[str, Any]:
    """A program that works on a folder as stages do → its metrics. SystemExit where it fails."""
    with standing_by(module, environment) as program:
        return program(folder, config)


@contextmanager
def standing_by(module: str, environment: Environment) -> Iterator[Program]:
    """The same, but it loads what it needs until it is called, as stages of a job do (workers.standby)."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.standby", module],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,  # until it knows its folder
            stderr=output,
            env={**environment, WORKER: str(os.getpid())},
            start_new_session=True,
        )

        def program(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
            folder.mkdir(parents=True)
            (folder / STAGE).write_text(json.dumps(config, default=str))
            log = folder / LOG
            log.touch()
            process.communicate(f"{folder}\n".encode())
            if process.returncode:
                output.seek(0)
                before = output.read().decode(errors="replace").splitlines()[-15:]
                raise SystemExit("\n".join([*before, *tail(log, 15), f"{module} failed; its log: {log}"]))
            found: dict[str, Any] = json.loads((folder / METRICS).read_text())
            return found

        try:
            yield program
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        kill_group(process.pid, signal.SIGTERM)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            kill_group(process.pid)
            process.wait()
