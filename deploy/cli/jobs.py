"""`thumbwheel jobs`: list, show, watch and cancel update jobs, and read their logs."""

from typing import Annotated

import typer

from deploy.cli.follow import follow, outcome
from deploy.cli.session import AsJson, Limit, Session, Why
from deploy.client import Client, ClientError, Object

EXIT_CODES = {"done": 0, "skipped": 3}
INTERRUPTED = 130

JobId = Annotated[str, typer.Argument(help="The job's id; `jobs list` shows it.")]
MaybeJobId = Annotated[str | None, typer.Argument(help="The job's id. Default: the newest.")]
Lines = Annotated[int, typer.Option(min=1, max=2000, help="How many, the last ones.")]
Stage = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which; `jobs show` has them. Default: the newest.")
]
Measured = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Which. Default: evaluate, or the last one that is done."),
]

jobs_app = typer.Typer(
    invoke_without_command=True, help="The update jobs; lists the newest if not told more."
)


@jobs_app.callback()
def jobs(ctx: typer.Context, as_json: AsJson = False) -> None:
    if ctx.invoked_subcommand is None:
        list_jobs(ctx, as_json=as_json)


@jobs_app.command("list")
def list_jobs(ctx: typer.Context, limit: Limit = 20, as_json: AsJson = False) -> None:
    """The newest jobs."""
    session: Session = ctx.obj
    with session.connect() as client:
        found = client.every("/v1/jobs", limit)
    session.screen.json(found) if as_json else session.screen.jobs(found)


@jobs_app.command("show")
def show_job(ctx: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """All about one job."""
    session: Session = ctx.obj
    with session.connect() as client:
        found = client.get(f"/v1/jobs/{job_id}")
    session.screen.json(found) if as_json else session.screen.job(found)


@jobs_app.command("watch")
def watch_job(ctx: typer.Context, job_id: MaybeJobId = None, as_json: AsJson = False) -> None:
    """Follow a job until its end."""
    session: Session = ctx.obj
    with session.connect() as client:
        job = client.get(f"/v1/jobs/{job_id}") if job_id else _newest(client)
        watch(session, client, job, as_json)


@jobs_app.command("log")
def log_of_job(
    ctx: typer.Context,
    job_id: MaybeJobId = None,
    stage: Stage = None,
    lines: Lines = 50,
    as_json: AsJson = False,
) -> None:
    """The end of what one of a job's stages printed."""
    session: Session = ctx.obj
    with session.connect() as client:
        which = {"stage": stage} if stage else {}
        found = client.get(f"/v1/jobs/{job_id or _newest(client)['id']}/log", lines=lines, **which)
    if as_json:
        session.screen.json(found)
        return
    session.screen.warn(_headline(found, stage))  # beside the lines, which may go into a file
    for line in found["lines"]:
        session.screen.say(line)


@jobs_app.command("metrics")
def metrics_of_job(
    ctx: typer.Context, job_id: MaybeJobId = None, stage: Measured = None, as_json: AsJson = False
) -> None:
    """What one of a job's stages measured: of a candidate that was turned away, all that is known."""
    session: Session = ctx.obj
    with session.connect() as client:
        job = client.get(f"/v1/jobs/{job_id}") if job_id else _newest(client)
        found = client.get(f"/v1/jobs/{job['id']}/stages/{stage or _telling(job)}")
    session.screen.json(found) if as_json else session.screen.measured(found)


@jobs_app.command("cancel")
def cancel_job(ctx: typer.Context, job_id: JobId, reason: Why, as_json: AsJson = False) -> None:
    """Stop a job; the live policy stays as it is."""
    session: Session = ctx.obj
    with session.connect() as client:
        job = client.post(f"/v1/jobs/{job_id}/cancel", {"reason": reason})
    if as_json:
        session.screen.json(job)
    else:
        stopping = job["state"] == "running"
        session.screen.say(f"{job_id} stops within seconds." if stopping else f"{job_id} is {job['state']}.")


def _newest(client: Client) -> Object:
    if newest := client.every("/v1/jobs", 1):
        return newest[0]
    raise ClientError("There is no job yet. `thumbwheel update` starts one.")


def _telling(job: Object) -> str:
    """The stage that tells most of what came of a job. Raises ClientError where none is done."""
    done = [stage["name"] for stage in job["stages"] if stage["state"] == "done"]
    if not done:
        raise ClientError(f"No stage of {job['id']} is done yet.")
    return "evaluate" if "evaluate" in done else str(done[-1])


def _headline(log: Object, asked: str | None) -> str:
    if log["stage"] is None and asked:
        return f"{asked} of {log['id']} has printed nothing."
    if log["stage"] is None:
        return f"No stage of {log['id']} has printed anything yet."
    part = f", the last {len(log['lines'])} lines" if log["more"] else ""
    return f"{log['id']}/{log['stage']}/log.txt{part}:"


def watch(session: Session, client: Client, job: Object, as_json: bool) -> None:
    screen = session.screen
    try:
        ended = follow(client, job, screen.errors if as_json else screen.console)
    except KeyboardInterrupt:
        stop = f'thumbwheel jobs cancel {job["id"]} --reason "…"'
        screen.warn(f"It goes on without you; `{stop}` stops it.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        screen.json(ended)
    else:
        screen.say(outcome(ended))
    raise typer.Exit(EXIT_CODES.get(ended["state"], 1))
