"""`thumbwheel feedback`, `thumbwheel export`: what people said, as the dashboard has it; all as a file."""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.board import Part, show
from deploy.cli.filters import Days, Query, Since, Source, Tag, Until, Versions, query_of
from deploy.cli.labels import conversation, labels
from deploy.cli.out import write_out
from deploy.cli.session import AsJson, Session
from deploy.cli.show import Screen
from deploy.cli.watching import watch
from deploy.cli.words import day
from deploy.client import Client, Object

PARTS = ", ".join(Part)

feedback_app = typer.Typer(
    invoke_without_command=True,
    help="What people think, as the dashboard has it: a summary, or its parts with --show or --all. "
    "Labels one by one, and the conversations behind them.",
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
    since: Since = None,
    until: Until = None,
    tag: Tag = None,
    source: Source = None,
    shown: Annotated[
        str | None, typer.Option("--show", metavar="PARTS", help=f"Only these, whole, by commas: {PARTS}.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All parts, whole.")] = False,
    watched: Annotated[
        bool, typer.Option("--watch", help="Anew every few seconds, as much as fits, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    given = (versions, days, since, until, tag, source, shown, everything, watched, as_json)
    if (command := ctx.invoked_subcommand) is not None:
        if any(given):
            ctx.fail(f"Options of `{command}` stand behind it: thumbwheel feedback {command} …")
        return
    session: Session = ctx.obj
    screen = session.screen
    query = partial(query_of, versions, days, since, until, tag, source)
    draw = partial(_draw, query=query, parts=_parts_of(shown, everything))
    if watched and (as_json or not screen.console.is_terminal):
        raise typer.BadParameter("It draws on a terminal; leave it out in a script.", param_hint="--watch")
    with session.connect() as client:
        if watched:
            watch(screen, lambda: _look(client, query), draw)
            return
        found = _look(client, query)
    screen.json(found) if as_json else draw(screen, found)


def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where it goes; -: standard output.", allow_dash=True)],
    form: Annotated[
        Format | None, typer.Option("--format", help="Default: by the file's name, else jsonl.")
    ] = None,
    versions: Versions = None,
    days: Days = None,
    since: Since = None,
    until: Until = None,
    tag: Tag = None,
    source: Source = None,
) -> None:
    """All feedback as CSV, or as JSON lines that `import` takes again."""
    session: Session = ctx.obj
    kind = form or _form_of(file)
    query = {**query_of(versions, days, since, until, tag, source), "format": kind.value}
    with session.connect() as client:
        write_out(client.download("/v1/stats/export", **query), file)
    if str(file) != "-":
        session.screen.say(f"{file} has it.")


def _look(client: Client, query: Callable[[], Query]) -> Object:
    return client.get("/v1/stats/dashboard", **query())


def _draw(screen: Screen, found: Object, query: Callable[[], Query], parts: tuple[Part, ...]) -> None:
    show(screen, found, parts)
    since = query().get("since")
    if since is not None and found["since"] > since:
        screen.say(f"\nFigures go back to {day(found['since'])}, no further; `thumbwheel export` does.")


def _parts_of(names: str | None, everything: bool) -> tuple[Part, ...]:
    """By commas; none, if none are named. Raises typer.BadParameter."""
    if everything:
        return tuple(Part)
    if names is None:
        return ()
    named = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in named if name not in [*Part]]:
        raise typer.BadParameter(f"There is no {', '.join(unknown)}. There are {PARTS}.", param_hint="--show")
    if not named:
        raise typer.BadParameter(f"Name some of {PARTS}.", param_hint="--show")
    return tuple(part for part in Part if part in named)


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
