"""Job records, and the lease with a fencing token that lets one worker at a time run one. Sync.

tw:job:<id>     hash    a job's fields, each as JSON
tw:jobs         zset    job id by the time it was made
tw:lease        string  the fencing token of the worker that is at work; expires
tw:lease:token  int     the last token given out; only ever grows

One lease for all jobs: two policy updates at once would both descend from the same champion.
"""

import time
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any

import orjson
from redis import Redis

from feedback.types import new_id
from serving.errors import BadRequest, Conflict, LeaseLost, UnknownJob

JOBS = "tw:jobs"
LEASE = "tw:lease"
TOKEN = "tw:lease:token"
LEASE_SECONDS = 20.0


class Kind(StrEnum):
    reward = "reward"
    policy = "policy"
    cycle = "cycle"


class State(StrEnum):
    queued = "queued"
    running = "running"
    done = "done"
    skipped = "skipped"
    failed = "failed"
    cancelled = "cancelled"


ACTIVE = (State.queued, State.running)


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    kind: Kind
    by: str
    created: float
    params: dict[str, Any] = field(default_factory=dict)
    state: State = State.queued
    stage: str | None = None
    progress: float = 0.0
    message: str | None = None
    reason: str | None = None
    policy: str | None = None
    reward: str | None = None
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    cancel_requested: bool = False
    stages: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {"object": "job", **asdict(self)}

    def told(self) -> dict[str, str]:
        """As the audit log has it: a running job that was asked to stop is `cancelling`."""
        stopping = self.state == State.running and self.cancel_requested
        return {"id": self.id, "state": "cancelling" if stopping else self.state.value}


@dataclass(frozen=True, slots=True)
class Lease:
    job_id: str
    token: int


FIELDS = frozenset(field.name for field in fields(Job))

# KEYS: lease, token counter, job. ARGV: milliseconds, time.
# Returns the token, 0 where somebody is at work, -1 where the job is over.
_ACQUIRE = """
local state = redis.call('HGET', KEYS[3], 'state')
if state ~= '"queued"' and state ~= '"running"' then return -1 end
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], token, 'PX', ARGV[1])
redis.call('HSET', KEYS[3], 'state', '"running"')
redis.call('HINCRBY', KEYS[3], 'attempts', 1)
if redis.call('HGET', KEYS[3], 'started') == 'null' then redis.call('HSET', KEYS[3], 'started', ARGV[2]) end
return token
"""

# KEYS: lease. ARGV: token, milliseconds.
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

# KEYS: lease. ARGV: token.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

# KEYS: lease, job. ARGV: token, then field, value, …
_UPDATE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
return 1
"""

# KEYS: job. ARGV: time, reason. A queued job is over at once; a running one is asked to stop.
_CANCEL = """
local state = redis.call('HGET', KEYS[1], 'state')
if state == '"queued"' then
  redis.call('HSET', KEYS[1], 'state', '"cancelled"', 'finished', ARGV[1], 'reason', ARGV[2])
elseif state == '"running"' then
  redis.call('HSET', KEYS[1], 'cancel_requested', 'true', 'reason', ARGV[2])
else
  return 0
end
return 1
"""


class Jobs:
    def __init__(self, redis: Redis, lease_seconds: float = LEASE_SECONDS) -> None:
        self._redis = redis
        self._lease_ms = round(lease_seconds * 1000)
        self.lease_seconds = lease_seconds
        self.renew_every = lease_seconds / 4
        self._acquire = redis.register_script(_ACQUIRE)
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)
        self._update = redis.register_script(_UPDATE)
        self._cancel = redis.register_script(_CANCEL)

    def create(self, kind: Kind, by: str, params: dict[str, Any] | None = None) -> Job:
        job = Job(id=new_id("job"), kind=kind, by=by, created=time.time(), params=params or {})
        with self._redis.pipeline() as pipe:
            pipe.hset(_key(job.id), mapping=_encode(asdict(job)))
            pipe.zadd(JOBS, {job.id: job.created})
            pipe.execute()
        return job

    def get(self, job_id: str) -> Job:
        stored = self._redis.hgetall(_key(job_id))
        if not stored:
            raise UnknownJob(f"There is no job {job_id!r}. GET /v1/jobs lists them.")
        return _decode(stored)

    def page(self, limit: int = 20, after: str | None = None) -> tuple[list[Job], bool]:
        """The newest jobs first, those older than `after`; and whether there are more."""
        start = 0
        if after is not None:
            rank = self._redis.zrevrank(JOBS, after)
            if rank is None:
                raise BadRequest(f"There is no job {after!r} to list after.", "after")
            start = int(str(rank)) + 1
        ids = [str(job_id) for job_id in self._redis.zrevrange(JOBS, start, start + limit)]
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids[:limit]:
                pipe.hgetall(_key(job_id))
            return [_decode(stored) for stored in pipe.execute()], len(ids) > limit

    def active(self) -> list[Job]:
        """Queued and running jobs, oldest first."""
        recent, _ = self.page(limit=200)
        return [job for job in reversed(recent) if job.state in ACTIVE]

    def cancel(self, job_id: str, reason: str) -> Job:
        job = self.get(job_id)
        if not self._cancel(keys=[_key(job_id)], args=[repr(time.time()), _json(reason)]):
            raise Conflict(f"{job_id} is {job.state} already; only a queued or running job can be cancelled.")
        return self.get(job_id)

    def cancel_requested(self, job_id: str) -> bool:
        return self._redis.hget(_key(job_id), "cancel_requested") == "true"

    def acquire(self, job_id: str) -> Lease | None:
        """The lease on the work, or None: another worker has it, or the job is over."""
        keys = [LEASE, TOKEN, _key(job_id)]
        token = int(str(self._acquire(keys=keys, args=[self._lease_ms, repr(time.time())])))
        return Lease(job_id, token) if token > 0 else None

    def leased(self) -> bool:
        return bool(self._redis.exists(LEASE))

    def renew(self, lease: Lease) -> None:
        """Raises LeaseLost where the lease ran out or went to another worker."""
        if not self._renew(keys=[LEASE], args=[lease.token, self._lease_ms]):
            raise LeaseLost(f"the lease on {lease.job_id} is lost")

    def release(self, lease: Lease) -> None:
        self._release(keys=[LEASE], args=[lease.token])

    def update(self, lease: Lease, **changes: Any) -> None:
        """Set fields of the leased job. Raises LeaseLost, and then has changed nothing."""
        unknown = changes.keys() - FIELDS
        if unknown:
            raise TypeError(f"a job has no {sorted(unknown)}")
        flat = [part for pair in _encode(changes).items() for part in pair]
        if not self._update(keys=[LEASE, _key(lease.job_id)], args=[lease.token, *flat]):
            raise LeaseLost(f"the lease on {lease.job_id} is lost")


def _key(job_id: str) -> str:
    return f"tw:job:{job_id}"


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _encode(values: dict[str, Any]) -> dict[Any, Any]:
    return {name: _json(value) for name, value in values.items()}


def _decode(stored: dict[Any, Any]) -> Job:
    values = {str(name): orjson.loads(value) for name, value in stored.items()}
    return Job(**{**values, "kind": Kind(values["kind"]), "state": State(values["state"])})
