import json
import logging
import re
import time

import pytest

from serving.dispatch import Dispatcher, producer
from serving.jobs import Jobs, Kind
from serving.registry import Registry
from workers.cadence import Cadence
from workers.settings import WorkerSettings


@pytest.fixture
def settings(valkey, tmp_path) -> WorkerSettings:
    return WorkerSettings(home=tmp_path, redis_url=valkey.url, broker_url=valkey.broker_url, update_every=10)


@pytest.fixture
def cadence(redis, settings) -> Cadence:
    return Cadence(redis, settings, Dispatcher(producer(settings.broker_url)))


def test_nothing_is_due_with_too_few_labels(redis, cadence):
    redis.set("tw:labels", 9)
    assert cadence.start_if_due() is None


def test_enough_new_labels_start_a_cycle_and_announce_it(redis, cadence, valkey):
    redis.set("tw:labels", 10)
    job = cadence.start_if_due()
    assert job is not None
    assert (job.kind, job.by) == (Kind.cycle, "beat")
    redis.select(1)
    try:
        assert redis.llen("train") == 1
    finally:
        redis.select(0)


def test_one_job_at_a_time_and_no_repeat_without_new_labels(redis, cadence):
    redis.set("tw:labels", 10)
    job = cadence.start_if_due()
    assert cadence.start_if_due() is None
    redis.hset(f"tw:job:{job.id}", "state", '"failed"')
    assert cadence.start_if_due() is None
    redis.set("tw:labels", 20)
    assert cadence.start_if_due() is not None


def test_labels_that_were_learnt_from_do_not_count(redis, cadence):
    redis.set("tw:labels", 105)
    redis.hset("tw:learning", "labels", 100)
    assert cadence.start_if_due() is None


def test_paused_learning_starts_nothing(redis, cadence, tmp_path):
    redis.set("tw:labels", 100)
    registry = Registry(redis, tmp_path)
    registry.pause_learning(True, "ann", "holidays")
    assert cadence.start_if_due() is None
    registry.pause_learning(False, "ann", None)
    assert cadence.start_if_due() is not None


def test_schedule_makes_an_update_due_with_few_labels(redis, settings):
    scheduled = settings.model_copy(update={"update_schedule": 60.0})
    cadence = Cadence(redis, scheduled, Dispatcher(producer(settings.broker_url)))
    redis.set("tw:labels", 3)
    assert cadence.start_if_due() is None, "the clock starts when this installation is first looked at"
    redis.set("tw:cadence:since", time.time() - 61)
    assert cadence.start_if_due() is not None


def test_schedule_waits_after_a_cycle_that_came_to_nothing(redis, settings):
    scheduled = settings.model_copy(update={"update_schedule": 60.0})
    cadence = Cadence(redis, scheduled, Dispatcher(producer(settings.broker_url)))
    redis.set("tw:labels", 3)
    redis.set("tw:cadence:since", time.time() - 61)
    job = cadence.start_if_due()
    redis.hset(f"tw:job:{job.id}", "state", '"failed"')
    redis.set("tw:labels", 4)
    assert cadence.start_if_due() is None, "one more label is no reason before the schedule's time is up"
    redis.set("tw:cadence:since", time.time() - 61)
    assert cadence.start_if_due() is not None


def test_job_that_nobody_is_at_is_announced_again(redis, cadence):
    jobs = Jobs(redis)
    job = jobs.create(Kind.cycle, by="test")
    lease = jobs.acquire(job.id)
    assert cadence.rescue() == [], "its worker is at it"
    jobs.release(lease)
    assert cadence.rescue() == [job.id]
    assert cadence.rescue() == [], "not at every look"


@pytest.mark.parametrize(
    ("state", "waited", "told"), [("queued", 200, True), ("running", 200, True), ("queued", 60, False)]
)
def test_a_job_that_waits_long_while_nobody_is_at_any_is_warned_of(
    redis, cadence, caplog, state, waited, told
):
    """A train worker can stop consuming without a word (celery#10205): the age of what waits shows it."""
    job = Jobs(redis).create(Kind.cycle, by="test")
    since = "created" if state == "queued" else "started"
    redis.hset(f"tw:job:{job.id}", mapping={"state": json.dumps(state), since: time.time() - waited})
    with caplog.at_level(logging.WARNING, "workers.cadence"):
        assert cadence.rescue() == [job.id]
    found = [re.sub(r"\d{3} s", "… s", message) for message in caplog.messages]
    assert found == [f"{job.id} is {state} for … s and nobody is at it: is the train worker up?"] * told


def test_a_job_that_waits_behind_another_is_not_warned_of(redis, cadence, caplog):
    jobs = Jobs(redis)
    jobs.acquire(jobs.create(Kind.cycle, by="test").id)
    behind = jobs.create(Kind.reward, by="test")
    redis.hset(f"tw:job:{behind.id}", "created", time.time() - 3600)
    assert cadence.rescue() == []
    assert caplog.messages == []
