"""Folders of published versions: copied beside, renamed in, manifest last. A name is never used twice."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from workers.stage import Stage, read_json, write_json

MANIFEST = "manifest.json"
NAME = "version.json"


def reserved_name(stage: Stage, next_name: Callable[[], str]) -> str:
    """The version's name: a new one, or the one that an earlier attempt of this stage was given."""
    path = stage.path(NAME)
    if not path.exists():
        write_json(path, {"version": next_name()})
    return str(read_json(path)["version"])


def install(parts: Iterable[Path], folder: Path, manifest: dict[str, Any]) -> None:
    """Copy files and folders into `folder`, so that it is there whole or not at all."""
    if not folder.exists():
        beside = folder.with_name(f".{folder.name}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for part in parts:
            if part.is_dir():
                shutil.copytree(part, beside / part.name)
            else:
                shutil.copy2(part, beside / part.name)
        beside.rename(folder)
    write_json(folder / MANIFEST, manifest)
