"""`thumbwheel learning`: automatic updates."""

from collections.abc import Callable

import typer

from deploy.cli.session import AsJson, Session, Why
from deploy.client import Client, Object

learning_app = typer.Typer(invoke_without_command=True, help="Automatic updates: show, pause, resume.")


@learning_app.callback()
def learning(ctx: typer.Context, as_json: AsJson = False) -> None:
    if ctx.invoked_subcommand is None:
        show_learning(ctx, as_json=as_json)


@learning_app.command("show")
def show_learning(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Whether updates start by themselves."""
    _learning(ctx.obj, lambda client: client.get("/v1/learning"), as_json)


@learning_app.command("pause")
def pause_learning(ctx: typer.Context, reason: Why, as_json: AsJson = False) -> None:
    """Let no update start by itself."""
    body = {"paused": True, "reason": reason}
    _learning(ctx.obj, lambda client: client.post("/v1/learning", body), as_json)


@learning_app.command("resume")
def resume_learning(ctx: typer.Context, reason: Why, as_json: AsJson = False) -> None:
    """Let updates start by themselves again."""
    body = {"paused": False, "reason": reason}
    _learning(ctx.obj, lambda client: client.post("/v1/learning", body), as_json)


def _learning(session: Session, call: Callable[[Client], Object], as_json: bool) -> None:
    with session.connect() as client:
        state = call(client)
    if as_json:
        session.screen.json(state)
    elif state["paused"]:
        session.screen.say(
            'Paused: no update starts by itself. `thumbwheel learning resume --reason "…"` ends that.'
        )
    else:
        session.screen.say("On: an update starts by itself when enough new labels are there.")
