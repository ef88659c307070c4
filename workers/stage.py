"""What every stage shares: a directory in, a directory out, `DONE` last.

    python -m workers.stages.<name> DIR

reads DIR/stage.json, writes its outputs into DIR, then DIR/metrics.json, and last of all DIR/DONE. While it
runs it may say how far it is in DIR/progress.json. When it fails it exits with 1, and the last line on stderr
is for people.
"""

import ctypes
import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

STAGE, METRICS, PROGRESS, DONE = "stage.json", "metrics.json", "progress.json", "DONE"
LOG = "log.txt"  # what it prints, where a worker runs it
WORKER = "STAGE_WORKER"  # the environment variable with the process id of the worker that started a stage
_PR_SET_PDEATHSIG = 1


class StageError(Exception):
    """The stage cannot do its work; the message tells a person why and what to do."""


class StageConfig(BaseModel):
    """The base of what a stage reads from stage.json: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=StageConfig)


class Stage:
    """The directory of one run of a stage."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        return self.directory / name

    def progress(self, done: int, total: int, message: str) -> None:
        write_json(self.path(PROGRESS), {"done": done, "total": total, "message": message})


def run(config_class: type[C], main: Callable[[C, Stage], Mapping[str, Any]]) -> None:
    """Be the program of a stage: run `main` on the directory named by the only argument and exit.

    What `main` returns becomes metrics.json. Exits with 0 once `DONE` is there, with 1 on any failure, with 2
    when it was called wrongly.
    """
    if len(sys.argv) != 2:
        print(f"usage: python -m {_module(main)} DIR, where DIR holds {STAGE}", file=sys.stderr)
        sys.exit(2)
    try:
        execute(Path(sys.argv[1]).resolve(), config_class, main)
    except Exception as error:
        traceback.print_exc()
        print(f"{_module(main).rpartition('.')[2]} failed: {_sentence(error)}", file=sys.stderr)
        sys.exit(1)


def execute(
    directory: Path, config_class: type[C], main: Callable[[C, Stage], Mapping[str, Any]]
) -> dict[str, Any]:
    """Run `main` on `directory` in this process, and return its metrics. `DONE` of an earlier run is taken
    away first."""
    (directory / DONE).unlink(missing_ok=True)
    config = config_class.model_validate_json((directory / STAGE).read_bytes())
    metrics = dict(main(config, Stage(directory)))
    write_json(directory / METRICS, metrics)
    (directory / DONE).touch()
    return metrics


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees all of it or what was there before. NaN and infinities become null."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(_finite(value), indent=1, allow_nan=False), encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def die_with_worker() -> None:
    """Linux kills this process when the worker that started it goes, so that none trains on, on its own.

    The worker names itself in the environment; one that is gone by now cannot send the signal any more.
    """
    worker = os.environ.get(WORKER)
    if worker is None or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(worker):
        sys.exit("the worker that started this stage is gone")


def _module(main: Callable[..., object]) -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec is not None else main.__module__


def _sentence(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return _sentence(error.exceptions[0])
    if isinstance(error, ValidationError):
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        return f"{STAGE} is not right: {'; '.join(faults)}"
    return str(error).replace("\n", " ") or type(error).__name__
