"""What feedback is narrowed to, on the command line: versions, time, a tag, a source."""

import time
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Annotated

import typer

from feedback.filters import MOST_HOURS
from feedback.layout import DAY, HOUR

Query = dict[str, str | int]


class From(StrEnum):
    """Where replies come from."""

    human = "human"
    data = "import"


def when(text: str) -> date:
    """A date, or a time: a datetime with its zone, this machine's where it names none. Raises
    typer.BadParameter."""
    with suppress(ValueError):
        return _sane(date.fromisoformat(text))
    with suppress(ValueError, OverflowError):
        return _sane(datetime.fromisoformat(text).astimezone())
    raise typer.BadParameter(
        f"{text!r} is no date or time. Write 2026-07-31 or 2026-07-31T14:30; "
        "with Z or +02:00 behind it a time is not this machine's."
    )


Versions = Annotated[str | None, typer.Option(help="Policy versions, by commas. Default: all.")]
Days = Annotated[float | None, typer.Option(min=0.01, help="Of the last so many days. Default: all time.")]
Since = Annotated[
    date | None,
    typer.Option(parser=when, metavar="WHEN", help="From a date or time on: 2026-07-31, 2026-07-31T14:30."),
]
Until = Annotated[
    date | None,
    typer.Option(parser=when, metavar="WHEN", help="Up to a time, or with all of a date. Default: now."),
]
Tag = Annotated[str | None, typer.Option(help="Of chats with this `metadata.tag`.")]
Source = Annotated[
    From | None, typer.Option(help="human: people, on our replies; import: imported data sets.")
]


def query_of(
    versions: str | None,
    days: float | None,
    since: date | None,
    until: date | None,
    tag: str | None,
    source: From | None,
) -> Query:
    """As the API takes it. Raises typer.BadParameter where times do not go together."""
    given = {"versions": versions, **_stretch(days, since, until), "tag": tag, "source": source}
    return {name: value for name, value in given.items() if value is not None}


def _stretch(days: float | None, since: date | None, until: date | None) -> Query:
    now = time.time()
    if days is not None:
        if since or until:
            raise typer.BadParameter("Take either it, or --since and --until.", param_hint="--days")
        return {"since": round(now - days * DAY)}
    if since is None:
        if until is not None:
            raise typer.BadParameter("Say from when, too: --since.", param_hint="--until")
        return {}
    first, end = _from_to(since, until, None, now)
    if end - first > MOST_HOURS * HOUR:  # more than that is counted by UTC days
        first, end = _from_to(since, until, UTC, now)
    if first > now:
        raise typer.BadParameter("It lies ahead: there is no feedback yet.", param_hint="--since")
    if first >= end:
        raise typer.BadParameter("It ends before it begins: --since is later.", param_hint="--until")
    return {"since": round(first)} if until is None else {"since": round(first), "until": round(end)}


def _from_to(since: date, until: date | None, zone: tzinfo | None, now: float) -> tuple[float, float]:
    return _seconds(since, zone), now if until is None else _seconds(until, zone, whole=True)


def _seconds(moment: date, zone: tzinfo | None, whole: bool = False) -> float:
    """The beginning of a date in a zone, or its end; a time is what it is. None: this machine's zone."""
    if isinstance(moment, datetime):
        return moment.timestamp()
    day = moment + timedelta(days=whole)
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def _sane(moment: date) -> date:
    if not 1971 <= moment.year <= 9000:
        raise ValueError
    return moment
