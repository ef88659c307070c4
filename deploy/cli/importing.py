"""`thumbwheel import`: people's preference data from a file, as if it had been said here."""

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from deploy.cli.jsonl import Batch, NotLines, batches
from deploy.cli.progress import Show, progress
from deploy.cli.session import AsJson, MaybeWhy, Session
from deploy.client import Client, ClientError, Object, Refused

SHOWN = 20  # bad lines that are listed for people
KEPT = 1000  # and for scripts; the memory that a file takes does not grow with what is wrong with it
INTERRUPTED = 130
TOO_LONG = "it is longer than the gateway takes (THUMBWHEEL_MAX_BODY)"
AGAIN = "Run it again: what is there is not imported twice."
NAMES = {"preference": "preference", "unpaired": "unpaired", "prompt": "prompts"}


@dataclass
class Tally:
    """What an import has come to so far."""

    imported: Counter[str] = field(default_factory=Counter)
    already: int = 0
    bad: int = 0
    unsent: int = 0  # of the bad ones those that the gateway never saw
    errors: list[Object] = field(default_factory=list)

    def add(self, batch: Batch, answers: list[Object]) -> None:
        errors = batch.errors + [error for answer in answers for error in answer["errors"]]
        self.bad += len(errors)
        self.unsent += len(batch.errors)
        self.errors += sorted(errors, key=lambda error: int(error["line"]))[: KEPT - len(self.errors)]
        for answer in answers:
            self.imported.update(answer["imported"])
            self.already += answer["already"]

    @property
    def labels(self) -> int:
        return self.imported["preference"] + self.imported["unpaired"]

    def sentence(self) -> str:
        parts = ", ".join(f"{self.imported[kind]:,} {name}" for kind, name in NAMES.items())
        text = f"imported {self.imported.total():,} ({parts}), {self.already:,} already there"
        return text + (f", {self.bad:,} bad line{'s' if self.bad > 1 else ''}:" if self.bad else ".")


@dataclass(frozen=True)
class Import:
    """One import of one file: its batches carry the same id."""

    client: Client
    facts: Object
    dry_run: bool
    tally: Tally = field(default_factory=Tally)

    def run(self, file: BinaryIO, size: int | None, show: Show) -> None:
        """Send all of it. Raises ClientError, which says how far it came."""
        number = 0
        try:
            for number, batch in enumerate(batches(file), 1):
                self.tally.add(batch, self._send(batch.lines))
                fraction = min(1.0, batch.end / size) if size else 0.0
                if number > 1:
                    show(
                        fraction, "reading", f"line {batch.last:,}, {self.tally.imported.total():,} imported"
                    )
        except NotLines as error:
            raise ClientError(str(error)) from error
        except OSError as error:
            raise ClientError(f"The file cannot be read on: {error.strerror}. {self._so_far()}") from error
        except ClientError as error:
            raise ClientError(f"{error} {self._so_far()}".strip()) from error
        if not self.dry_run and number:
            self._post([], more=False, bad=self.tally.unsent)  # so that the audit log has its end

    def _send(self, lines: list[Object]) -> list[Object]:
        """The answers to lines, sent in smaller parts where the gateway finds them too large."""
        if not lines:
            return []
        try:
            return [self._post(lines, more=True)]
        except Refused as refusal:
            if refusal.status != 413:
                raise
        if len(lines) == 1:
            self.tally.unsent += 1
            error = {"line": lines[0]["number"], "message": TOO_LONG}
            return [{"imported": {}, "already": 0, "errors": [error]}]
        half = len(lines) // 2
        return self._send(lines[:half]) + self._send(lines[half:])

    def _post(self, lines: list[Object], more: bool, bad: int = 0) -> Object:
        body = {**self.facts, "lines": lines, "more": more, "dry_run": self.dry_run, "bad": bad or None}
        return self.client.post("/v1/import", body)

    def _so_far(self) -> str:
        tally = self.tally
        if self.dry_run or not (tally.imported.total() or tally.already):
            return ""
        return f"Until then: {tally.sentence().rstrip(':.')}. {AGAIN}"


def import_file(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - reads standard input.")],
    source: Annotated[
        str | None, typer.Option(help="The data set's name, kept with the replies. Default: the file's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the lines, and import nothing.")] = False,
    reason: MaybeWhy = None,
    as_json: AsJson = False,
) -> None:
    """Import preference data: TRL's preference, unpaired and prompt-only JSON lines, mixed as they come.

    Good lines are imported, and bad ones named with what is wrong; then it exits with 1.
    What is there already is not imported twice.
    """
    session: Session = ctx.obj
    with _opened(file) as (stream, size), session.connect() as client:
        facts = {
            "id": f"import-{uuid.uuid4().hex[:12]}",
            "source": source or (None if file == "-" else _name(file)),
            "reason": reason,
        }
        work = Import(client, facts, dry_run)
        console = session.screen.errors if as_json else session.screen.console
        try:
            with progress(console, "import") as show:
                work.run(stream, size, show)
        except KeyboardInterrupt:
            session.screen.errors.print(f"Stopped; {work.tally.sentence().rstrip(':.')}. {AGAIN}")
            raise typer.Exit(INTERRUPTED) from None
    _report(session, work.tally, facts["id"], dry_run, as_json)
    raise typer.Exit(1 if work.tally.bad else 0)


def _name(file: str) -> str:
    """A file's name as text; in what is not UTF-8 a question mark stands for each odd byte."""
    return Path(file).name.encode(errors="replace").decode()[:200]


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file and its size in bytes, as far as it has one. Raises ClientError."""
    if file == "-":
        yield typer.get_binary_stream("stdin"), None
        return
    path = Path(file)
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise ClientError(f"There is no file {file}.") from None
    except OSError as error:
        raise ClientError(f"{file} cannot be read: {error.strerror}.") from None
    with stream:
        yield stream, path.stat().st_size


def _report(session: Session, tally: Tally, import_id: Any, dry_run: bool, as_json: bool) -> None:
    screen = session.screen
    if as_json:
        found = {kind: tally.imported[kind] for kind in NAMES}
        screen.json(
            {
                "id": import_id,
                "dry_run": dry_run,
                "imported": found,
                "already": tally.already,
                "bad": tally.bad,
                "errors": tally.errors,
            }
        )
        return
    screen.say(("would have " if dry_run else "") + tally.sentence())
    for error in tally.errors[:SHOWN]:
        screen.say(f"  line {error['line']}: {error['message']}")
    if tally.bad > SHOWN:
        more = ranges([int(error["line"]) for error in tally.errors[SHOWN:]])
        beyond = f", and {tally.bad - KEPT:,} after these" if tally.bad > KEPT else ""
        screen.say(f"  … and {tally.bad - SHOWN:,} more, in lines {more}{beyond} (--json: what is wrong)")
    if dry_run:
        return
    if tally.labels:
        screen.say(
            f"{tally.labels:,} new labels count towards the next update, which may be due with them; "
            "`thumbwheel update` starts one now."
        )
    elif tally.imported["prompt"]:
        screen.say("The next update learns on these prompts too; `thumbwheel update` starts one now.")


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, those without a gap together: "3, 7-9"."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ", ".join("-".join(map(str, ends)) for ends in found)
