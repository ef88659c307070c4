import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from serving.dispatch import Dispatcher, producer
from serving.errors import LeaseLost
from serving.jobs import Jobs, Kind
from serving.registry import Registry
from tests.servers import eventually
from workers.jobs import MAX_ATTEMPTS, Worker
from workers.runner import Cancelled, Interrupted, Run, StageFailed
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
PROGRAMS = "tests.workers.programs"


@pytest.fixture(autouse=True)
def _programs_are_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def jobs(redis: Redis) -> Jobs:
    return Jobs(redis, lease_seconds=2.0)


@pytest.fixture
def stopping() -> threading.Event:
    return threading.Event()


@pytest.fixture
def run(jobs, tmp_path, stopping) -> Iterator[Run]:
    job = jobs.create(Kind.cycle, by="test")
    lease = jobs.acquire(job.id)
    assert lease is not None
    with closing(Run(job, lease, jobs, tmp_path, stopping, PROGRAMS)) as run:
        yield run


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def in_background(work) -> tuple[threading.Thread, list]:
    raised: list = []

    def body():
        try:
            work()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, raised


def test_stage_gives_metrics_and_reports_progress(run, jobs):
    run.expected = 2
    thread, raised = in_background(lambda: run.stage("wait", "steps", {"seconds": 1.5}))
    job = eventually(lambda: (j := jobs.get(run.job.id)).message and j)
    assert (job.stage, job.message, job.progress) == ("wait", "half of it", 0.25)
    thread.join()
    assert not raised
    job = jobs.get(run.job.id)
    assert job.progress == 0.5
    assert [stage["state"] for stage in job.stages] == ["done"]


def test_finished_stage_is_not_run_again(run, jobs, tmp_path, stopping):
    first = run.stage("wait", "steps", {"seconds": 0.0})
    again = Run(run.job, run.lease, jobs, tmp_path, stopping, PROGRAMS)
    second = again.stage("wait", "steps", {"seconds": 0.0})
    assert second.metrics == first.metrics == {"answer": 42}
    assert (second.directory / "runs").read_text() == "x"


def test_unfinished_stage_is_run_again(run, jobs, tmp_path, stopping):
    first = run.stage("wait", "steps", {"seconds": 0.0})
    (first.directory / "DONE").unlink()
    again = Run(run.job, run.lease, jobs, tmp_path, stopping, PROGRAMS)
    assert (again.stage("wait", "steps", {"seconds": 0.0}).directory / "runs").read_text() == "xx"


def test_a_program_that_stood_by_runs_the_stage_and_logs_into_its_folder(run):
    run.stand_by("steps")
    loaded = next(iter(run._standing_by.values())).pid
    finished = run.stage("wait", "steps", {"seconds": 0.0})
    assert finished.metrics == {"answer": 42}
    assert int((finished.directory / "pid").read_text()) == loaded
    run.stand_by("broken")
    with pytest.raises(StageFailed, match=r"the moon is in the wrong phase.*log: .*/02-fail/log.txt"):
        run.stage("fail", "broken", {})


def test_a_program_that_cannot_even_load_says_why_when_it_is_run(run):
    run.stand_by("missing")
    with pytest.raises(StageFailed, match=r"No module named tests\.workers\.programs\.missing"):
        run.stage("gone", "missing", {})


def test_a_program_that_was_killed_as_it_stood_by_is_started_again(run):
    run.stand_by("steps")
    loaded = next(iter(run._standing_by.values()))
    loaded.kill()
    loaded.wait()
    assert run.stage("wait", "steps", {"seconds": 0.0}).metrics == {"answer": 42}


def test_what_stood_by_in_vain_is_stopped(run):
    run.stand_by("steps")
    loaded = next(iter(run._standing_by.values())).pid
    run.close()
    assert not alive(loaded)


def test_failing_stage_says_why(run):
    with pytest.raises(StageFailed, match="the moon is in the wrong phase"):
        run.stage("fail", "broken", {})


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, r"^wait was killed by SIGKILL; is there enough memory\? \(log: jobs/"),
        (signal.SIGSEGV, r"^wait was killed by SIGSEGV \(log: jobs/"),
    ],
)
def test_killed_stage_names_the_signal(run, number, message):
    thread, raised = in_background(lambda: run.stage("wait", "steps", {"seconds": 60}))
    pid = int(eventually(lambda: (p := next(run.directory.glob("*/pid"), None)) and p.read_text()))
    os.kill(pid, number)
    thread.join(5)
    with pytest.raises(StageFailed, match=message):
        raise raised[0]


def test_a_job_that_kills_its_worker_each_time_is_given_up(valkey, jobs, redis, tmp_path):
    job = jobs.create(Kind.cycle, by="test")
    for _ in range(MAX_ATTEMPTS):
        jobs.release(jobs.acquire(job.id))
    worker = Worker(redis, WorkerSettings(home=tmp_path), Dispatcher(producer(valkey.broker_url)))
    worker.run(job.id)
    failed = jobs.get(job.id)
    assert (failed.state, failed.attempts) == ("failed", MAX_ATTEMPTS + 1)
    assert failed.reason.startswith("given up: none of 5 attempts came to an end")
    assert failed.finished is not None
    assert jobs.acquire(job.id) is None


def test_a_worker_that_is_stopped_in_order_does_not_count_as_an_attempt(valkey, jobs, redis, tmp_path):
    Registry(redis, tmp_path).ensure_base()
    job = jobs.create(Kind.cycle, by="test")
    worker = Worker(redis, WorkerSettings(home=tmp_path), Dispatcher(producer(valkey.broker_url)))
    worker.stopping.set()
    worker.run(job.id)
    assert (jobs.get(job.id).state, jobs.get(job.id).attempts) == ("running", 0)
    assert jobs.acquire(job.id) is not None
    assert jobs.get(job.id).attempts == 1


def test_unknown_setting_of_a_stage_is_refused(run):
    with pytest.raises(StageFailed, match="secondz"):
        run.stage("wait", "steps", {"secondz": 1})


def test_the_clock_of_a_running_stage_runs(run, jobs):
    thread, raised = in_background(lambda: run.stage("wait", "steps", {"seconds": 60}))
    first = eventually(lambda: (stages := jobs.get(run.job.id).stages) and stages[0]["seconds"])
    assert eventually(lambda: jobs.get(run.job.id).stages[0]["seconds"] > first + 2.0, seconds=8)
    jobs.cancel(run.job.id, "enough")
    thread.join(10)
    assert [type(error) for error in raised] == [Cancelled]


def test_cancel_stops_the_stage_within_seconds(run, jobs):
    thread, raised = in_background(lambda: run.stage("wait", "steps", {"seconds": 60}))
    pid = int(eventually(lambda: next(run.directory.glob("*/pid"), None)).read_text())
    jobs.cancel(run.job.id, "enough")
    thread.join(5)
    assert isinstance(raised[0], Cancelled)
    assert not alive(pid)


def test_stopping_worker_leaves_the_job_to_be_taken_up_again(run, jobs, stopping):
    thread, raised = in_background(lambda: run.stage("wait", "steps", {"seconds": 60}))
    pid = int(eventually(lambda: next(run.directory.glob("*/pid"), None)).read_text())
    stopping.set()
    thread.join(5)
    assert isinstance(raised[0], Interrupted)
    assert not alive(pid)
    assert jobs.get(run.job.id).state == "running"


@pytest.mark.slow
def test_lease_is_renewed_while_a_stage_runs(run, jobs):
    run.stage("wait", "steps", {"seconds": 4})
    jobs.renew(run.lease)


def test_lost_lease_stops_the_stage(run, redis):
    thread, raised = in_background(lambda: run.stage("wait", "steps", {"seconds": 60}))
    pid = int(eventually(lambda: next(run.directory.glob("*/pid"), None)).read_text())
    redis.set("tw:lease", run.lease.token + 1)
    thread.join(5)
    assert isinstance(raised[0], LeaseLost)
    assert not alive(pid)


def test_killed_worker_leaves_no_stage_running(valkey, tmp_path):
    script = textwrap.dedent(
        f"""
        import threading
        from pathlib import Path
        from feedback.redis import connect
        from serving.jobs import Jobs, Kind
        from workers.runner import Run
        jobs = Jobs(connect({valkey.url!r}))
        job = jobs.create(Kind.cycle, by="test")
        run = Run(job, jobs.acquire(job.id), jobs, Path({str(tmp_path)!r}), threading.Event(), {PROGRAMS!r})
        run.stage("wait", "steps", {{"seconds": 60}})
        """
    )
    worker = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)})
    pid = int(eventually(lambda: next(tmp_path.glob("jobs/*/*/pid"), None)).read_text())
    worker.kill()
    worker.wait()
    eventually(lambda: not alive(pid))


def test_facts_stay_those_of_the_first_attempt(run):
    assert run.facts({"champion": "policy-v1"}) == {"champion": "policy-v1"}
    assert run.facts({"champion": "policy-v2"}) == {"champion": "policy-v1"}
