"""When to learn: is an update due, and is a job stuck. Light; on the `control` queue."""

import logging
import time

from redis import Redis

from feedback.stats import Stats
from serving.dispatch import Dispatcher
from serving.jobs import Job, Jobs, Kind, State
from serving.registry import Registry
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

BEAT = "beat"
ANNOUNCE_AGAIN = 15  # seconds after which a job that nobody took is announced once more
WAITS_LONG = 120.0  # seconds without any job running after which a waiting job is worth a warning


class Cadence:
    def __init__(self, redis: Redis, settings: WorkerSettings, dispatcher: Dispatcher) -> None:
        self._redis = redis
        self._settings = settings
        self._stats = Stats(redis)
        self._jobs = Jobs(redis)
        self._registry = Registry(redis, settings.home)
        self._dispatcher = dispatcher

    def start_if_due(self) -> Job | None:
        """Start a cycle where enough new labels, or enough time, have come together."""
        learning = self._registry.learning()
        if learning.paused or self._jobs.active():
            return None
        why = self._due(self._stats.labels() - max(learning.labels, self._tried()), learning.updated)
        if why is None:
            return None
        job = self._jobs.create(Kind.cycle, by=BEAT, params={"why": why})
        self._redis.mset({TRIED: self._stats.labels(), SINCE: repr(time.time())})
        log.info("%s: %s", job.id, why)
        self._dispatcher.announce(job.id)
        return job

    def rescue(self) -> list[str]:
        """Announce the jobs again that nobody is at: the worker was killed, or the message got lost."""
        if self._jobs.leased():
            return []
        waiting = [job for job in self._jobs.active() if self._may_announce(job)]
        for job in waiting:
            age = time.time() - (job.started or job.created)
            if age > WAITS_LONG:
                log.warning(
                    "%s is %s for %.0f s and nobody is at it: is the train worker up?", job.id, job.state, age
                )
            self._dispatcher.announce(job.id)
        return [job.id for job in waiting]

    def _due(self, new: int, updated: float | None) -> str | None:
        settings = self._settings
        if new >= settings.update_every:
            return f"{new} new labels (an update is due after {settings.update_every})"
        schedule = settings.update_schedule
        if schedule and new > 0 and time.time() - max(updated or 0.0, self._since()) >= schedule:
            return f"{new} new labels, and the schedule of {schedule:.0f} s"
        return None

    def _tried(self) -> int:
        """Labels at the last automatic cycle, so that one that came to nothing is not repeated at once."""
        return int(self._redis.get(TRIED) or 0)

    def _since(self) -> float:
        """When the last automatic cycle began, or else this installation was first looked at."""
        self._redis.set(SINCE, repr(time.time()), nx=True)
        return float(self._redis.get(SINCE) or 0)

    def _may_announce(self, job: Job) -> bool:
        fresh = job.state is State.queued and time.time() - job.created < ANNOUNCE_AGAIN
        key = f"tw:announced:{job.id}"
        return not fresh and bool(self._redis.set(key, 1, nx=True, ex=ANNOUNCE_AGAIN))


TRIED = "tw:cadence:tried"
SINCE = "tw:cadence:since"
