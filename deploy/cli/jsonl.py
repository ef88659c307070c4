"""A file of JSON lines in batches: constant memory, and a sentence for each line that cannot be read.

Blank lines are skipped; a byte-order mark and carriage returns are no part of a line.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import orjson

BATCH_LINES = 200
BATCH_BYTES = 256 * 1024  # well within what a gateway takes at once, and little enough to hold nobody up
LONGEST = 16 * 1024 * 1024  # bytes of a line
BOM = b"\xef\xbb\xbf"
ARRAY = (
    "It is a JSON array, not JSON lines: one object a line is needed. "
    "`jq -c '.[]' FILE > FILE.jsonl` makes it so."
)


class NotLines(ValueError):
    """The file as a whole is no JSON lines."""


class BadLine(ValueError):
    """The message says what is wrong with the line."""


@dataclass(slots=True)
class Batch:
    """`lines`: {number, record}; `errors`: {line, message}; `end`: bytes of the file up to here; `last`: the
    number of its last line."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0
    end: int = 0
    last: int = 0

    @property
    def full(self) -> bool:
        return len(self.lines) + len(self.errors) >= BATCH_LINES or self.size >= BATCH_BYTES


def batches(file: BinaryIO) -> Iterator[Batch]:
    """The file's lines, some at a time. Raises NotLines, and OSError of the file's."""
    batch, begun = Batch(), False
    for number, raw, length in _numbered(file):
        batch.end, batch.last = batch.end + length, number
        text = raw.removeprefix(BOM).strip() if number == 1 else raw.strip()
        if not text:
            continue
        if not begun and text.startswith(b"["):
            raise NotLines(ARRAY)
        begun = True
        try:
            batch.lines.append({"number": number, "record": read_record(text)})
            batch.size += len(text)
        except BadLine as error:
            batch.errors.append({"line": number, "message": str(error)})
        if batch.full:
            yield batch
            batch = Batch(end=batch.end, last=number)
    if batch.lines or batch.errors:
        yield batch


def read_record(text: bytes) -> object:
    """The JSON value of one line. Raises BadLine."""
    if len(text) > LONGEST:
        raise BadLine(f"it is longer than {LONGEST >> 20} MiB")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise BadLine(f"it is not UTF-8 (at byte {error.start + 1})") from None
    try:
        record: object = orjson.loads(text)
        orjson.dumps(record)
    except orjson.JSONDecodeError as error:
        raise BadLine(f"it is not JSON: {error.msg} (at character {error.pos + 1})") from None
    except orjson.JSONEncodeError:  # it reads deeper levels than it writes, and so does the gateway
        raise BadLine("it is nested too deep") from None
    return record


def _numbered(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Each line's number, its beginning as far as it can matter, and its length in bytes."""
    number = 0
    while raw := file.readline(LONGEST + 2):
        number, length = number + 1, len(raw)
        end = raw
        while not end.endswith(b"\n") and (end := file.readline(LONGEST)):
            length += len(end)
        yield number, raw, length
