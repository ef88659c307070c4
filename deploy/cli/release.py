"""`thumbwheel release`: what is on canary or watched, by which rules, and what an operator does about it."""

from typing import Annotated

import typer

from deploy.cli.session import AsJson, Session, Why
from deploy.client import Object
from serving.modes import Mode, Undecided

release_app = typer.Typer(
    invoke_without_command=True, help="Canaries and the watch after a promotion: show, begin, end, rules."
)

Version = Annotated[str, typer.Argument(help="A policy version.")]
MaybeShare = Annotated[float | None, typer.Option(min=0.001, max=0.5, help="Of the traffic, such as 0.1.")]


@release_app.callback()
def release(ctx: typer.Context, as_json: AsJson = False) -> None:
    if ctx.invoked_subcommand is None:
        show_release(ctx, as_json=as_json)


@release_app.command("show")
def show_release(ctx: typer.Context, as_json: AsJson = False) -> None:
    """What is on trial, with its evidence; who waits; the rules."""
    session: Session = ctx.obj
    with session.connect() as client:
        _answer(session, client.get("/v1/release"), as_json)


@release_app.command()
def canary(
    ctx: typer.Context, version: Version, reason: Why, share: MaybeShare = None, as_json: AsJson = False
) -> None:
    """Put a version on canary now."""
    _post(ctx.obj, f"/v1/policies/{version}/canary", {"reason": reason, "share": share}, as_json)


@release_app.command()
def abort(ctx: typer.Context, reason: Why, as_json: AsJson = False) -> None:
    """End what is on trial: a canary gets no traffic any more, a watch is over."""
    _post(ctx.obj, "/v1/release/abort", {"reason": reason}, as_json)


@release_app.command()
def drop(ctx: typer.Context, version: Version, reason: Why, as_json: AsJson = False) -> None:
    """A version that waits for its canary shall not come."""
    _post(ctx.obj, f"/v1/policies/{version}/drop", {"reason": reason}, as_json)


@release_app.command()
def rules(
    ctx: typer.Context,
    reason: Why,
    mode: Annotated[Mode | None, typer.Option(help="What becomes of an accepted version.")] = None,
    share: MaybeShare = None,
    hours: Annotated[float | None, typer.Option(min=0.001, help="After which a canary is undecided.")] = None,
    undecided: Annotated[Undecided | None, typer.Option(help="What becomes of it then.")] = None,
    watch_hours: Annotated[
        float | None, typer.Option(min=0.0, help="Of the watch after a promotion; 0: none.")
    ] = None,
    pinned: Annotated[
        bool | None, typer.Option("--pin/--unpin", help="Whether nothing moves by itself.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Change the rules; what is not named stays as it is."""
    changes: dict[str, object] = {
        "mode": mode and mode.value,
        "share": share,
        "canary": None if hours is None else hours * 3600,
        "undecided": undecided and undecided.value,
        "watch": None if watch_hours is None else watch_hours * 3600,
        "pinned": pinned,
    }
    _post(ctx.obj, "/v1/release", {"reason": reason, **changes}, as_json)


def _post(session: Session, path: str, body: dict[str, object], as_json: bool) -> None:
    with session.connect() as client:
        _answer(session, client.post(path, body), as_json)


def _answer(session: Session, found: Object, as_json: bool) -> None:
    session.screen.json(found) if as_json else session.screen.release(found)
