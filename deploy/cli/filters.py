"""What feedback is narrowed to, on the command line: versions, time, a tag, a source."""

import time
from typing import Annotated

import typer

Versions = Annotated[str | None, typer.Option(help="Policy versions, by commas. Default: all.")]
Days = Annotated[float | None, typer.Option(min=0.01, help="Of the last so many days. Default: all time.")]
Tag = Annotated[str | None, typer.Option(help="Of chats with this `metadata.tag`.")]
Source = Annotated[str | None, typer.Option(help="human, or import.")]


def query_of(
    versions: str | None, days: float | None, tag: str | None, source: str | None
) -> dict[str, str | int]:
    since = None if days is None else round(time.time() - days * 86400)
    given = {"versions": versions, "since": since, "tag": tag, "source": source}
    return {name: value for name, value in given.items() if value is not None}
