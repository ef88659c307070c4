"""`thumbwheel plots`: the pictures that were drawn with a version, or a candidate that became none, and the
numbers that they show."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cli.out import write_out
from deploy.cli.session import AsJson, Session
from deploy.cli.table import show_table
from deploy.client import ClientError

SHOWS = {
    "reward": "reward of members and judge against the root of the KL, along the lineage",
    "training": "what each step of the optimiser reported",
    "reliability": "predicted probability against the observed share, on held-out labels",
}


def plots(
    ctx: typer.Context,
    version: Annotated[str, typer.Argument(help="A policy or reward version; or a job, for its candidate.")],
    name: Annotated[
        str | None, typer.Argument(help="The plot, such as `training`; without it, what there is.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where it goes; -: standard output. Default: VERSION-NAME.png.", allow_dash=True),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A version's plots, or a candidate's: list them, save one as PNG, or print its numbers with --json."""
    session: Session = ctx.obj
    if name is None and out is not None:
        raise typer.BadParameter("Say which plot it shall be.", param_hint="NAME")
    with session.connect() as client:
        path = _path(version)
        there = client.get(path)["plots"]
        if name is None:
            _list(session, version, there, as_json)
            return
        plot = _plot_of(version, there, name)
        if as_json and out is None:
            session.screen.json(client.get(f"{path}/plots/{plot}.json"))
            return
        file = out or Path(f"{version}-{plot}.png")
        write_out(client.download(f"{path}/plots/{plot}.{'json' if as_json else 'png'}"), file)
    if str(file) != "-":
        session.screen.say(f"{file} has it.")


def _path(version: str) -> str:
    if version.startswith("job-"):
        return f"/v1/jobs/{version}/stages/evaluate"
    return f"/v1/{'rewards' if version.startswith('reward-') else 'policies'}/{version}"


def _list(session: Session, version: str, there: list[str], as_json: bool) -> None:
    if as_json:
        session.screen.json(there)
    elif not there:
        session.screen.say(f"{version} has no plots.")
    else:
        rows = [(name, SHOWS.get(name)) for name in map(_bare, there)]
        show_table(session.screen.console, ("plot", "shows"), rows, prose=("shows",))


def _plot_of(version: str, there: list[str], name: str) -> str:
    """Its name without an ending. Raises ClientError where there is none."""
    plot, names = _bare(name), [_bare(each) for each in there]
    if plot not in names:
        raise ClientError(f"{version} has no plot {name!r}. It has {', '.join(names) or 'none'}.")
    return plot


def _bare(name: str) -> str:
    return name.removesuffix(".png")
