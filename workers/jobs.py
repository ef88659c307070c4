"""A job from its announcement to its end, on the worker that got the lease."""

import asyncio
import logging
import threading
import time

from redis import Redis

from serving.dispatch import Dispatcher
from serving.engine import Engine, EngineError, new_session
from serving.errors import LeaseLost
from serving.jobs import Jobs, Lease, State
from serving.registry import Registry
from workers.recipes import Outcome, cook
from workers.runner import Cancelled, Interrupted, Run, StageFailed
from workers.settings import WorkerSettings

log = logging.getLogger(__name__)

UNLOAD_SECONDS = 5.0  # on all engines at once; well within the lease
MAX_ATTEMPTS = 5  # a job that kills its worker each time would be taken up for ever
CANDIDATE = "job-"  # names of candidates on the engines begin with their job's id


class Worker:
    def __init__(self, redis: Redis, settings: WorkerSettings, dispatcher: Dispatcher) -> None:
        self.stopping = threading.Event()
        self._settings = settings
        self._jobs = Jobs(redis)
        self._registry = Registry(redis, settings.home)
        self._dispatcher = dispatcher

    def run(self, job_id: str) -> None:
        """Run a job, or take it up again. Does nothing where another worker is at it, or it is over."""
        lease = self._jobs.acquire(job_id)
        if lease is None:
            log.info("%s is not for us: another worker has the lease, or it is over", job_id)
            return
        log.info("%s: begins with the fencing token %d", job_id, lease.token)
        try:
            self._unload_candidates(lease)
            self._end(lease, self._outcome(lease))
            self._unload_candidates(lease)
        except LeaseLost as error:  # the candidates on the engines may be the next owner's
            log.error("%s: %s; nothing more is done here", job_id, error)
        except Interrupted:
            log.info("%s: interrupted, to be taken up again", job_id)
            # Called off in order: it does not count against the job.
            self._jobs.update(lease, attempts=self._jobs.get(job_id).attempts - 1)
        finally:
            self._jobs.release(lease)
        self._announce_next()

    def _unload_candidates(self, lease: Lease) -> None:
        asyncio.run(_unload_candidates(self._settings.engines))
        self._jobs.renew(lease)

    def _outcome(self, lease: Lease) -> Outcome:
        job = self._jobs.get(lease.job_id)
        if job.attempts > MAX_ATTEMPTS:
            reason = (
                f"given up: none of {MAX_ATTEMPTS} attempts came to an end; is its worker killed each time?"
            )
            return Outcome(State.failed, reason)
        run = Run(job, lease, self._jobs, self._settings.home, self.stopping)
        try:
            return cook(run, self._settings, self._registry)
        except Cancelled:
            return Outcome(State.cancelled, self._jobs.get(job.id).reason)
        except StageFailed as error:
            return Outcome(State.failed, str(error))
        except (LeaseLost, Interrupted):
            raise
        except Exception as error:
            log.exception("%s failed outside of its stages", job.id)
            return Outcome(State.failed, f"{type(error).__name__}: {error}")
        finally:
            run.close()

    def _end(self, lease: Lease, outcome: Outcome) -> None:
        log.info("%s: %s%s", lease.job_id, outcome.state, f", {outcome.reason}" if outcome.reason else "")
        changes = {"progress": 1.0} if outcome.state is State.done else {}
        self._jobs.update(
            lease,
            state=outcome.state,
            reason=outcome.reason,
            finished=time.time(),
            message=None,
            **changes,
        )

    def _announce_next(self) -> None:
        if not self.stopping.is_set():
            for job in self._jobs.active()[:1]:
                self._dispatcher.announce(job.id)


async def _unload_candidates(urls: tuple[str, ...]) -> None:
    """Take candidates of jobs off the engines, those that a killed worker left there too."""

    async def unload(engine: Engine) -> None:
        try:
            async with asyncio.timeout(UNLOAD_SECONDS):
                for name in await engine.models():
                    if name.startswith(CANDIDATE):
                        await engine.unload_adapter(name)
        except (EngineError, TimeoutError) as error:
            log.warning("candidates stay on the engine %s: %r", engine.url, error)

    async with new_session() as session:
        await asyncio.gather(*(unload(Engine(url, session)) for url in urls))
