"""Answers that are files. One that is there already is replaced only once all of the new one has come."""

import codecs
import contextlib
import io
import sys
from collections.abc import Iterable
from pathlib import Path

from deploy.client import ClientError
from deploy.visible import visible_json


def write_out(parts: Iterable[bytes], file: Path) -> None:
    """Into the file, or to standard output for -. Raises ClientError, and then nothing new is left there."""
    if str(file) == "-":
        _print(parts)
        return
    beside = file.parent / f"{file.name}.part"
    try:
        with beside.open("wb") as out:
            out.writelines(parts)
        beside.replace(file)
    except OSError as error:
        raise ClientError(f"{file} cannot be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def _print(parts: Iterable[bytes]) -> None:
    """As it is, but on a terminal, which comments could steer."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.writelines(parts)
        return
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    for part in parts:
        sys.stdout.write(visible_json(decoder.decode(part)))
