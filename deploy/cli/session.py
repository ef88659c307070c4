"""What every `thumbwheel` command shares: the connection, the screen, its common options."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from deploy.cli.show import Screen
from deploy.client import Client, ClientError, find_home, find_key, find_url
from deploy.settings import DeploySettings
from deploy.visible import visible

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Why = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]
MaybeWhy = Annotated[str | None, typer.Option("--reason", help="Why, for the audit log.")]
Limit = Annotated[int, typer.Option(min=1, help="How many, the newest first.")]


class Commands(TyperGroup):
    """Turns errors into a sentence on standard error and an exit code, in one place."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ClientError as error:
            typer.secho(visible(str(error)), fg="red", err=True)
            raise typer.Exit(1) from error


class Session:
    """What a command works with. The connection is made when it is asked for: `up` needs none."""

    def __init__(self, url: str | None, key: str | None) -> None:
        self._url, self._key = url, key
        self.screen = Screen()

    def connect(self) -> Client:
        """Raises ClientError: an unknown variable is refused here as it is by the service."""
        if wrong := DeploySettings.unknown_variables():
            raise ClientError(wrong)
        home = find_home()
        return Client(self._url or find_url(home), self._key or find_key(home))
