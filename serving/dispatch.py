"""Telling the workers that there is a job. The job record is the truth; a lost message only delays it."""

import logging

from celery import Celery
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)

RUN_JOB = "workers.run_job"
TRAIN_QUEUE = "train"
CONTROL_QUEUE = "control"


def producer(broker_url: str) -> Celery:
    """A Celery application that only sends."""
    app = Celery("thumbwheel", broker=broker_url)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_transport_options={"socket_connect_timeout": 2, "socket_timeout": 5},
    )
    return app


class Dispatcher:
    def __init__(self, celery: Celery) -> None:
        self._celery = celery

    def announce(self, job_id: str) -> None:
        """Put a job on the workers' queue. Where the broker is away, the stuck-job watch does it later."""
        try:
            self._celery.send_task(RUN_JOB, [job_id], queue=TRAIN_QUEUE, retry=False)
        except OperationalError as error:
            log.warning("the broker is away, %s waits for the watch: %s", job_id, error)
