"""`thumbwheel feedback`, `thumbwheel export`: what people said, as the dashboard has it; all of it as a file.

A file that is there already is replaced only once all of the new one has come.
"""

import codecs
import io
import sys
import time
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli_session import AsJson, Session
from deploy.cli_show import Screen
from deploy.cli_table import show_table
from deploy.cli_words import ago, interval, many, share
from deploy.client import Object
from deploy.visible import visible_json


class Format(StrEnum):
    csv = "csv"
    jsonl = "jsonl"


Versions = Annotated[str | None, typer.Option(help="Policy versions, by commas. Default: all.")]
Days = Annotated[float | None, typer.Option(min=0.01, help="Of the last so many days. Default: all time.")]
Tag = Annotated[str | None, typer.Option(help="Of chats with this `metadata.tag`.")]
Source = Annotated[str | None, typer.Option(help="human, or import.")]


def feedback(
    ctx: typer.Context,
    versions: Versions = None,
    days: Days = None,
    tag: Tag = None,
    source: Source = None,
    as_json: AsJson = False,
) -> None:
    """What people think: approval, response, who beats whom, reasons, comments."""
    session: Session = ctx.obj
    with session.connect() as client:
        found = client.get("/v1/stats/dashboard", **_query(versions, days, tag, source))
    session.screen.json(found) if as_json else show(session.screen, found)


def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where it goes; -: standard output.", allow_dash=True)],
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: by the file's name, else jsonl.")
    ] = None,
    versions: Versions = None,
    days: Days = None,
    tag: Tag = None,
    source: Source = None,
) -> None:
    """All feedback as CSV, or as JSON lines that `import` takes again."""
    session: Session = ctx.obj
    kind = form or _form_of(file)
    query = {**_query(versions, days, tag, source), "format": kind.value}
    with session.connect() as client:
        parts = client.download("/v1/stats/export", **query)
        if str(file) == "-":
            _print(parts)
            return
        beside = file.with_name(f"{file.name}.part")
        with beside.open("wb") as out:
            out.writelines(parts)
    beside.replace(file)
    session.screen.say(f"{file} has it.")


def show(screen: Screen, found: Object) -> None:
    sums, sides, raters = found["totals"], found["sides"], found["raters"]
    thumbs = f"{many(sums['up'], 'thumb')} up, {sums['down']:,} down"
    screen.say(
        f"{many(sums['labels'], 'label')}: {thumbs}, {many(sums['comparisons'], 'choice')}. "
        f"Rated: {share(sums['response_rate']) or 'none'} of {many(sums['completions'], 'reply', 'replies')}."
    )
    said = (
        ("ties", share(sums["tie_share"])),
        ("both bad", share(sums["both_bad_share"])),
        ("left side chosen", share(sides["left_share"])),
    )
    screen.say(", ".join(f"{name} {value}" for name, value in said if value is not None) or "No choices yet.")
    if (part := share(raters["share"])) is not None:
        screen.say(f"The ten raters who rate most gave {part} of all labels.")
    strengths = {row["policy"]: row for row in found["strengths"]}
    rows = [
        (
            row["policy"],
            interval(row["approval"], row["approval_interval"]),
            row["up"] + row["down"],
            interval(row["response_rate"], row["response_interval"]),
            row["completions"],
            _strength(strengths.get(row["policy"])),
        )
        for row in found["policies"]
    ]
    show_table(
        screen.console,
        ("policy", "thumbs up", "thumbs", "rated", "replies", "strength"),
        rows,
        least=("strength", "replies"),
    )
    if found["reasons"]:
        show_table(screen.console, ("reason", "times"), [(r["reason"], r["total"]) for r in found["reasons"]])
    if found["comments"]:
        columns = ("when", "policy", "said", "comment")
        show_table(screen.console, columns, map(_comment, found["comments"]), prose=("comment",))


def _form_of(file: Path) -> Format:
    """By the file's ending; without one it is JSON lines. Raises typer.BadParameter."""
    ending = file.suffix.lower().removeprefix(".")
    if ending and ending not in [*Format]:
        known = " and ".join(f".{form.value}" for form in Format)
        raise typer.BadParameter(
            f"It ends in {file.suffix}, and there are {known}. Take one of these, or say --format.",
            param_hint="FILE",
        )
    return Format(ending) if ending else Format.jsonl


def _print(parts: Iterable[bytes]) -> None:
    """As it is, but on a terminal, which comments could steer."""
    if not sys.stdout.isatty():
        sys.stdout.buffer.writelines(parts)
        return
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    for part in parts:
        sys.stdout.write(visible_json(decoder.decode(part)))


def _comment(said: Object) -> tuple[str | None, str, str, str]:
    if said["kind"] == "rating":
        return ago(said["created"]), said["policy"], said["rating"], said["comment"]
    both = said["policies"]
    return ago(said["created"]), f"{both['a']}, {both['b']}", said["winner"], said["comment"]


def _strength(row: Object | None) -> str | None:
    if row is None or row["value"] is None:
        return None
    low, high = row["interval"] or (row["value"], row["value"])
    return f"{row['value']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _query(
    versions: str | None, days: float | None, tag: str | None, source: str | None
) -> dict[str, str | int]:
    since = None if days is None else round(time.time() - days * 86400)
    given = {"versions": versions, "since": since, "tag": tag, "source": source}
    return {name: value for name, value in given.items() if value is not None}
