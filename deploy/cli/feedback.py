"""`thumbwheel feedback`, `thumbwheel export`: what people said, as the dashboard has it; all as a file."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.filters import Days, Source, Tag, Versions, query_of
from deploy.cli.labels import conversation, labels, who_said
from deploy.cli.out import write_out
from deploy.cli.session import AsJson, Session
from deploy.cli.show import Screen
from deploy.cli.table import show_table
from deploy.cli.words import interval, many, share
from deploy.client import Object

feedback_app = typer.Typer(
    invoke_without_command=True,
    help="What people think: approval, response, who beats whom, reasons, comments; labels one by one.",
)
feedback_app.command()(labels)
feedback_app.command()(conversation)


class Format(StrEnum):
    csv = "csv"
    jsonl = "jsonl"


@feedback_app.callback()
def feedback(
    ctx: typer.Context,
    versions: Versions = None,
    days: Days = None,
    tag: Tag = None,
    source: Source = None,
    as_json: AsJson = False,
) -> None:
    query = query_of(versions, days, tag, source)
    if (command := ctx.invoked_subcommand) is not None:
        if query or as_json:
            ctx.fail(f"Options of `{command}` stand behind it: thumbwheel feedback {command} …")
        return
    session: Session = ctx.obj
    with session.connect() as client:
        found = client.get("/v1/stats/dashboard", **query)
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
    query = {**query_of(versions, days, tag, source), "format": kind.value}
    with session.connect() as client:
        write_out(client.download("/v1/stats/export", **query), file)
    if str(file) != "-":
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
        comments = [(*who_said(label), label["comment"]) for label in found["comments"]]
        show_table(screen.console, columns, comments, prose=("comment",))


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


def _strength(row: Object | None) -> str | None:
    if row is None or row["value"] is None:
        return None
    low, high = row["interval"] or (row["value"], row["value"])
    return f"{row['value']:+.2f} [{low:+.2f}, {high:+.2f}]"
