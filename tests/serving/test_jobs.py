"""Job records: one lease, a fencing token, cancelling, paging."""

import time

import pytest

from serving.errors import BadRequest, Conflict, LeaseLost, UnknownJob
from serving.jobs import Jobs, Kind, State
from serving.registry import Registry, Version


@pytest.fixture
def jobs(redis) -> Jobs:
    return Jobs(redis, lease_seconds=0.2)


def test_a_job_is_read_back_as_it_was_made(jobs):
    job = jobs.create(Kind.cycle, by="ann", params={"method": "rloo"})
    assert jobs.get(job.id) == job
    assert (job.state, job.progress, job.attempts) == ("queued", 0.0, 0)
    with pytest.raises(UnknownJob):
        jobs.get("job-none")


def test_only_one_worker_gets_the_lease(jobs):
    one, two = jobs.create(Kind.cycle, by="ann"), jobs.create(Kind.cycle, by="ann")
    lease = jobs.acquire(one.id)
    assert lease is not None
    assert jobs.acquire(one.id) is None, "the same job"
    assert jobs.acquire(two.id) is None, "another one: both would descend from the same champion"
    running = jobs.get(one.id)
    assert (running.state, running.attempts) == (State.running, 1)
    assert running.started is not None
    jobs.release(lease)
    assert jobs.acquire(two.id) is not None


def test_a_killed_workers_job_is_taken_up_again(jobs):
    job = jobs.create(Kind.cycle, by="ann")
    first = jobs.acquire(job.id)
    started = jobs.get(job.id).started
    time.sleep(0.25)
    second = jobs.acquire(job.id)
    assert second.token > first.token
    taken_up = jobs.get(job.id)
    assert (taken_up.attempts, taken_up.started) == (2, started)


def test_renewing_keeps_the_lease(jobs):
    lease = jobs.acquire(jobs.create(Kind.cycle, by="ann").id)
    for _ in range(4):
        time.sleep(0.1)
        jobs.renew(lease)
    assert jobs.leased()


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_worker_that_lost_its_lease_can_publish_nothing(jobs, redis, tmp_path, taken_over):
    registry = Registry(redis, tmp_path)
    registry.ensure_base()
    job = jobs.create(Kind.cycle, by="ann")
    stale = jobs.acquire(job.id)
    time.sleep(0.25)
    if taken_over:
        assert jobs.acquire(job.id) is not None
    before = {key: redis.dump(key) for key in redis.scan_iter("*") if key != "tw:lease"}
    version = Version("policy-v1", "artifacts/policies/policy-v1", 1.0)
    attempts = [
        lambda: jobs.renew(stale),
        lambda: jobs.update(stale, state=State.done),
        lambda: registry.next_version("policy", stale),
        lambda: registry.add_policy(version, stale),
        lambda: registry.add_reward(Version("reward-v1", "x", 1.0), stale),
        lambda: registry.promote("policy-v0", who="job", why=None, lease=stale),
        lambda: registry.advance_cursor("5-0", 7, stale),
    ]
    for attempt in attempts:
        with pytest.raises(LeaseLost):
            attempt()
    jobs.release(stale)
    assert jobs.leased() is taken_over, "a stale release frees nobody else's lease"
    assert {key: redis.dump(key) for key in redis.scan_iter("*") if key != "tw:lease"} == before


def test_a_job_that_is_over_is_never_taken_up(jobs):
    job = jobs.create(Kind.cycle, by="ann")
    lease = jobs.acquire(job.id)
    jobs.update(lease, state=State.done, policy="policy-v1")
    jobs.release(lease)
    assert jobs.acquire(job.id) is None
    assert jobs.acquire("job-none") is None
    assert jobs.get(job.id).policy == "policy-v1"


def test_a_field_that_no_job_has_is_refused(jobs):
    lease = jobs.acquire(jobs.create(Kind.cycle, by="ann").id)
    with pytest.raises(TypeError, match="polisy"):
        jobs.update(lease, polisy="policy-v1")


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_is_asked_to_stop(jobs):
    queued, running = jobs.create(Kind.cycle, by="ann"), jobs.create(Kind.cycle, by="ann")
    lease = jobs.acquire(running.id)
    done = jobs.cancel(queued.id, "not now")
    assert (done.state, done.reason) == (State.cancelled, "not now")
    assert done.finished is not None
    assert jobs.acquire(queued.id) is None
    assert jobs.cancel(running.id, "stop").state == State.running
    assert jobs.cancel_requested(running.id)
    jobs.update(lease, state=State.cancelled)
    with pytest.raises(Conflict, match="cancelled already"):
        jobs.cancel(running.id, "again")


def test_pages_turn_from_the_newest_to_the_oldest(jobs):
    ids = [jobs.create(Kind.reward, by="ann").id for _ in range(5)]
    seen, after = [], None
    for _ in range(3):
        page, more = jobs.page(limit=2, after=after)
        seen += [job.id for job in page]
        after = seen[-1]
    assert seen == ids[::-1]
    assert not more
    with pytest.raises(BadRequest):
        jobs.page(after="job-none")


def test_active_jobs_are_the_queued_and_running_ones(jobs):
    one, two, three = (jobs.create(Kind.reward, by="ann") for _ in range(3))
    jobs.cancel(two.id, "no")
    jobs.acquire(three.id)
    assert [job.id for job in jobs.active()] == [one.id, three.id]
