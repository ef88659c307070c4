"""`thumbwheel keys`: who may use the service."""

from enum import StrEnum
from typing import Annotated

import typer

from deploy.cli.session import AsJson, MaybeWhy, Session

keys_app = typer.Typer(invoke_without_command=True, help="API keys: list, add, revoke.")


class Role(StrEnum):
    user = "user"
    viewer = "viewer"
    operator = "operator"


@keys_app.callback()
def keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    if ctx.invoked_subcommand is None:
        list_keys(ctx, as_json=as_json)


@keys_app.command("list")
def list_keys(ctx: typer.Context, as_json: AsJson = False) -> None:
    """The keys, without their secrets."""
    session: Session = ctx.obj
    with session.connect() as client:
        found = client.get("/v1/keys")["data"]
    session.screen.json(found) if as_json else session.screen.keys(found)


@keys_app.command("add")
def add_key(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    role: Annotated[Role, typer.Option(help="user: chat and rate; viewer: look; operator: all.")] = Role.user,
    as_json: AsJson = False,
) -> None:
    """Make a key. It is shown once."""
    session: Session = ctx.obj
    with session.connect() as client:
        same = [k["id"] for k in client.get("/v1/keys")["data"] if k["name"] == name and not k["revoked"]]
        made = client.post("/v1/keys", {"name": name, "role": role.value})
    if same:
        session.screen.warn(f"Note: {name} is the name of another valid key too ({', '.join(same)}).")
    if as_json:
        session.screen.json(made)
        return
    session.screen.warn(f"A key for {name} ({role.value}), id {made['id']}. It is shown only now:")
    session.screen.say(made["key"])


@keys_app.command("revoke")
def revoke_key(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(help="The key's id; `keys list` shows it.")],
    reason: MaybeWhy = None,
    as_json: AsJson = False,
) -> None:
    """End a key's use, for good."""
    session: Session = ctx.obj
    with session.connect() as client:
        revoked = client.delete(f"/v1/keys/{key_id}", {"reason": reason})
    if as_json:
        session.screen.json(revoked)
    else:
        session.screen.say(f"The key {key_id} of {revoked['name']} is revoked.")
