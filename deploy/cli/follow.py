"""Watching a job until its end."""

import time
from collections.abc import Callable

from rich.console import Console

from deploy.cli.progress import joined, progress
from deploy.client import Client, ClientError, Object, Refused

ACTIVE = ("queued", "running")
POLL = 0.5
PATIENCE = 60.0  # seconds without an answer after which watching is given up; the job goes on


def follow(
    client: Client, job: Object, console: Console, tick: Callable[[Object], None] = lambda job: None
) -> Object:
    """The job as it ended. `tick` sees it at every look. Raises ClientError where nobody answers any more."""
    with progress(console, job["kind"]) as show:
        answered = time.monotonic()
        while True:
            show(job["progress"], _step(job), job["message"])
            tick(job)
            if job["state"] not in ACTIVE:
                return job
            time.sleep(POLL)
            try:
                job = client.get(f"/v1/jobs/{job['id']}")
                answered = time.monotonic()
            except ClientError as error:
                # A gateway that restarts is back in seconds, and the job does not need it.
                lasting = isinstance(error, Refused) and error.status < 500
                if lasting or time.monotonic() - answered > PATIENCE:
                    raise


def doing(job: Object) -> str:
    """What a job does now."""
    return joined(_step(job), job["message"])


def outcome(job: Object) -> str:
    """How a job ended, and why."""
    made = ", ".join(version for version in (job["reward"], job["policy"]) if version)
    text = f"{job['id']} is {job['state']}" + (f": it published {made}" if made else "")
    return text + (f". {job['reason']}" if job["reason"] else ".")


def _step(job: Object) -> str:
    return str(job["stage"] or job["state"]) if job["state"] == "running" else str(job["state"])
