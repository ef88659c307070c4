"""Celery's wiring: which task calls what, on which queue, and the beat.

    celery -A workers.tasks worker -Q train --pool solo
    celery -A workers.tasks worker -Q control --pool solo
    celery -A workers.tasks beat

Messages only announce; the truth is the job record with its lease. So they are acknowledged early, and one
that is lost or comes twice does no harm.
"""

from typing import Any

from celery.signals import worker_shutting_down

from feedback.redis import connect
from serving.dispatch import CONTROL_QUEUE, RUN_JOB, TRAIN_QUEUE, Dispatcher, producer
from workers.cadence import Cadence
from workers.jobs import Worker
from workers.releasing import Releasing
from workers.settings import WorkerSettings

CHECK_UPDATE = "workers.check_update"
RESCUE_JOBS = "workers.rescue_jobs"
RESCUE_EVERY = 5.0
CHECK_RELEASE = "workers.check_release"

settings = WorkerSettings()
app = producer(settings.broker_url)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=False,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    task_routes={
        RUN_JOB: {"queue": TRAIN_QUEUE},
        CHECK_UPDATE: {"queue": CONTROL_QUEUE},
        RESCUE_JOBS: {"queue": CONTROL_QUEUE},
        CHECK_RELEASE: {"queue": CONTROL_QUEUE},
    },
    beat_schedule={
        "check-update": {
            "task": CHECK_UPDATE,
            "schedule": settings.check_every,
            "options": {"expires": settings.check_every},
        },
        "rescue-jobs": {
            "task": RESCUE_JOBS,
            "schedule": RESCUE_EVERY,
            "options": {"expires": RESCUE_EVERY},
        },
        "check-release": {
            "task": CHECK_RELEASE,
            "schedule": settings.release_every,
            "options": {"expires": settings.release_every},
        },
    },
)
redis = connect(settings.redis_url)
dispatcher = Dispatcher(app)
worker = Worker(redis, settings, dispatcher)
cadence = Cadence(redis, settings, dispatcher)
releasing = Releasing(redis, settings)


@app.task(name=RUN_JOB)
def run_job(job_id: str) -> None:
    worker.run(job_id)


@app.task(name=CHECK_UPDATE)
def check_update() -> None:
    cadence.start_if_due()


@app.task(name=RESCUE_JOBS)
def rescue_jobs() -> None:
    cadence.rescue()


@app.task(name=CHECK_RELEASE)
def check_release() -> None:
    releasing.check()


@worker_shutting_down.connect
def stop_stage(**_: Any) -> None:
    """The worker is told to stop: the stage is killed, and its job goes on when a worker is back."""
    worker.stopping.set()
