"""What stages left, over HTTP: a log's end, figures and plots, and what is said where it is not there."""

from pathlib import Path

import pytest

from serving.jobfolders import MOST_BYTES
from serving.jobs import Kind
from tests.conftest import Gateway


@pytest.fixture
def client(steady: Gateway):
    with steady.client() as client:
        yield client


@pytest.fixture
def job(steady: Gateway) -> str:
    """A job that a worker has begun."""
    job = steady.jobs.create(Kind.reward, by="test")
    lease = steady.jobs.acquire(job.id)
    assert lease is not None
    steady.jobs.update(lease, state="done")
    steady.jobs.release(lease)
    return job.id


def write(steady: Gateway, job: str, stage: str, text: str | bytes) -> Path:
    folder = steady.home / "jobs" / job / stage
    folder.mkdir(parents=True)
    path = folder / "log.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def tail(client, job: str, **query: int | str) -> dict:
    answer = client.get(f"/v1/jobs/{job}/log", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_newest_stage_is_told_to_its_last_line(client, steady, job):
    write(steady, job, "02-train_reward", "old\n")
    write(steady, job, "10-score-1", "one\ntwo\nthree\n")
    (steady.home / "jobs" / job / "11-publish").mkdir()
    (steady.home / "jobs" / job / "facts.json").write_text("{}")
    told = {"object": "job.log", "id": job, "stage": "10-score-1"}
    assert tail(client, job) == told | {"lines": ["one", "two", "three"], "more": False}
    short = tail(client, job, lines=2)
    assert (short["lines"], short["more"]) == (["two", "three"], True)


def with_stages(steady: Gateway, *names: str) -> str:
    """A job of which these stages are done, and whose logs are still to be written."""
    job = steady.jobs.create(Kind.reward, by="test")
    lease = steady.jobs.acquire(job.id)
    assert lease is not None
    stages = [{"name": name, "state": "done", "seconds": 1.0, "message": None} for name in names]
    steady.jobs.update(lease, state="done", stages=stages)
    steady.jobs.release(lease)
    return job.id


def test_any_stage_is_told_by_its_name_or_its_folders(client, steady):
    job = with_stages(steady, "snapshot", "score-1", "score", "skipped")
    write(steady, job, "01-snapshot", "read\n")
    write(steady, job, "02-score-1", "one\ntwo\n")
    write(steady, job, "03-score", "")
    told = {"object": "job.log", "id": job, "stage": "02-score-1"}
    for stage in ("score-1", "02-score-1"):
        assert tail(client, job, stage=stage) == told | {"lines": ["one", "two"], "more": False}
    assert tail(client, job, stage="score-1", lines=1)["lines"] == ["two"]
    empty, without = tail(client, job, stage="score"), tail(client, job, stage="skipped")
    assert (empty["stage"], empty["lines"]) == ("03-score", [])
    assert (without["stage"], without["lines"]) == (None, [])


def test_no_path_is_made_of_a_stage_that_is_asked_for(client, steady):
    job = with_stages(steady, "snapshot", "score")
    write(steady, job, "01-snapshot", "fine\n")
    write(steady, job, "05-hidden", "not among the job's stages\n")
    (steady.home / "jobs" / job / "02-score").mkdir()
    (steady.home / "jobs" / job / "02-score" / "log.txt").symlink_to(steady.home / "keys" / "operator")
    assert tail(client, job, stage="score")["lines"] == []
    for stage in ("hidden", "05-hidden", "", "..", "../../keys", "/etc", "01-snapshot/..", "snapshot\0", "*"):
        answer = client.get(f"/v1/jobs/{job}/log", params={"stage": stage})
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "stage"), (stage, answer.text)
        assert "It has snapshot, score." in answer.json()["error"]["message"]
    assert client.get(f"/v1/jobs/{job}/log", params={"stage": "x" * 101}).status_code == 400


def test_a_progress_bar_is_what_a_terminal_shows_of_it(client, steady, job):
    write(steady, job, "01-snapshot", "begin\r\n 1%\r 50%\r\x1b[1m100%\x1b[0m\nlast")
    assert tail(client, job)["lines"] == ["begin", "100%", "last"]


def test_no_more_is_read_than_its_end(client, steady, job):
    write(steady, job, "01-snapshot", b"x" * 99 + b"\xff\n" + b"y" * (MOST_BYTES - 20) + b"\n" + b"last\n")
    found = tail(client, job)
    assert (found["lines"][-1], found["more"]) == ("last", True)
    assert not found["lines"][0].startswith("x")
    assert sum(map(len, found["lines"])) < MOST_BYTES


def test_before_a_stage_has_begun_there_is_none(client, steady, job):
    queued = steady.jobs.create(Kind.reward, by="test")
    assert (tail(client, queued.id)["stage"], tail(client, queued.id)["lines"]) == (None, [])
    steady.jobs.cancel(queued.id, "a test")
    assert tail(client, queued.id)["lines"] == []
    (steady.home / "jobs" / job).mkdir(parents=True)
    assert (tail(client, job)["stage"], tail(client, job)["lines"]) == (None, [])


def test_where_the_worker_has_another_home_it_says_so(client, job):
    answer = client.get(f"/v1/jobs/{job}/log")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "stage_not_found")
    assert "does not share THUMBWHEEL_HOME" in answer.json()["error"]["message"]


def test_nothing_but_logs_of_jobs_is_read(client, steady, job):
    secret = steady.home / "keys" / "operator"
    own = write(steady, job, "01-snapshot", "fine\n")
    (own.parent.parent / "02-score").mkdir()
    (own.parent.parent / "02-score" / "log.txt").symlink_to(secret)
    (own.parent.parent / "03-x..y").mkdir()
    assert tail(client, job)["lines"] == ["fine"]
    for name in ("job-none", "..", "..%2Fkeys", "%2e%2e%2fkeys", f"{job}%2F..", f"{job}%00"):
        answer = client.get(f"/v1/jobs/{name}/log")
        assert answer.status_code == 404, (name, answer.text)
    for lines in (0, -1, 2001, "all"):
        assert client.get(f"/v1/jobs/{job}/log", params={"lines": lines}).status_code == 400


def measured(steady: Gateway, job: str, stage: str, metrics: str, plots: str = "plots") -> Path:
    """A stage's folder with what it measured and drew."""
    folder = steady.home / "jobs" / job / stage
    (folder / plots).mkdir(parents=True)
    (folder / "metrics.json").write_text(metrics)
    (folder / plots / "training.png").write_bytes(b"\x89PNG")
    (folder / plots / "training.json").write_text('{"loss": [0.5]}')
    (folder / "DONE").touch()
    return folder


def test_what_a_stage_measured_and_drew_is_told(client, steady):
    job = with_stages(steady, "train_reward", "evaluate", "publish")
    measured(steady, job, "02-evaluate", '{"accepted": false, "win_rate": 0.51}')
    measured(steady, job, "01-train_reward", '{"ece": 0.1}', plots="reward/plots")
    told = {"object": "job.stage", "id": job, "plots": ["training.png"]}
    for stage, folder, metrics in (
        ("evaluate", "02-evaluate", {"accepted": False, "win_rate": 0.51}),
        ("02-evaluate", "02-evaluate", {"accepted": False, "win_rate": 0.51}),
        ("train_reward", "01-train_reward", {"ece": 0.1}),
    ):
        path = f"/v1/jobs/{job}/stages/{stage}"
        assert client.get(path).json() == told | {"stage": folder, "metrics": metrics}
        picture = client.get(f"{path}/plots/training.png")
        assert (picture.content, picture.headers["content-type"]) == (b"\x89PNG", "image/png")
        assert client.get(f"{path}/plots/training.json").json() == {"loss": [0.5]}
    nothing = client.get(f"/v1/jobs/{job}/stages/publish").json()
    assert nothing == told | {"stage": None, "metrics": {}, "plots": []}
    lacking = client.get(f"/v1/jobs/{job}/stages/evaluate/plots/reward.png")
    assert (lacking.status_code, lacking.json()["error"]["code"]) == (404, "plot_not_found")


def test_a_stage_that_is_not_done_has_measured_nothing(client, steady):
    job = with_stages(steady, "evaluate")
    (measured(steady, job, "01-evaluate", '{"win_rate": 0.51}') / "DONE").unlink()
    assert client.get(f"/v1/jobs/{job}/stages/evaluate").json()["metrics"] == {}


def test_nothing_but_what_stages_left_is_read(client, steady):
    secret = steady.home / "keys" / "operator"
    job = with_stages(steady, "evaluate", "publish")
    folder = measured(steady, job, "01-evaluate", "{}")
    (folder / "plots" / "reward.png").symlink_to(secret)
    other = measured(steady, job, "02-publish", "{}")
    (other / "metrics.json").unlink()
    (other / "metrics.json").symlink_to(secret)
    assert client.get(f"/v1/jobs/{job}/stages/publish").json()["metrics"] == {}
    assert client.get(f"/v1/jobs/{job}/stages/evaluate/plots/reward.png").status_code == 404
    for path in ("hidden", "%2e%2e%2fkeys", "evaluate%2F..", "*", f"evaluate%00/{secret.name}"):
        assert client.get(f"/v1/jobs/{job}/stages/{path}").status_code == 404, path
    for name in ("../../facts.json", "%2e%2e%2fmetrics.json", "metrics.json", "training.txt"):
        assert client.get(f"/v1/jobs/{job}/stages/evaluate/plots/{name}").status_code in (400, 404), name
    assert client.get("/v1/jobs/job-none/stages/evaluate").status_code == 404
