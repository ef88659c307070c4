import json
import os
from pathlib import Path

import pytest
from redis import Redis

from serving.jobs import Jobs, Kind
from serving.registry import Registry, Version
from workers import history


@pytest.fixture
def registry(redis: Redis, tmp_path: Path) -> Registry:
    registry = Registry(redis, tmp_path)
    registry.ensure_base()
    jobs = Jobs(redis)
    lease = jobs.acquire(jobs.create(Kind.policy, by="test").id)
    assert lease is not None
    measured = {"kl_base": 0.1, "rewards": {"members": {"gain": 0.5}, "judge": {"gain": None}}}
    registry.add_policy(Version("policy-v1", "p/1", 1.0, parent="policy-v0", metrics=measured), lease)
    registry.add_policy(Version("policy-v2", "p/2", 2.0, parent="policy-v0"), lease)
    registry.add_policy(Version("policy-v3", "p/3", 3.0, parent="policy-v1", metrics={"kl_base": 0.2}), lease)
    return registry


def test_the_lineage_goes_from_the_base_to_the_version_by_its_parents(registry):
    assert history.lineage(registry, "policy-v3") == [
        {"version": "policy-v0", "kl": 0.0, "members": None, "judge": None},
        {"version": "policy-v1", "kl": 0.1, "members": 0.5, "judge": None},
        {"version": "policy-v3", "kl": 0.2, "members": None, "judge": None},
    ]
    assert [row["version"] for row in history.lineage(registry, "policy-v0")] == ["policy-v0"]


def stage(job: Path, name: str, metrics: dict[str, float], curve: bool = False) -> None:
    (job / name).mkdir()
    (job / name / "metrics.json").write_text(json.dumps(metrics))
    if curve:
        (job / name / "curve.json").write_text("[]")


def test_rounds_are_those_that_ended_in_their_order(tmp_path):
    for number in range(1, 11):
        stage(tmp_path, f"{3 * number:02d}-score-{number}", {"reward_mean": 0.1 * number, "reward_std": 1.0})
        if number < 10:
            stage(
                tmp_path,
                f"{3 * number + 1:02d}-optimise-{number}",
                {"kl_base_before": 0.01 * number},
                number != 2,
            )
    found = history.rounds(tmp_path)
    assert [row["kl"] for row in found] == [0.01 * number for number in range(1, 10)]
    assert found[0] == {"kl": 0.01, "reward": 0.1, "std": 1.0}
    names = [Path(path).parent.name for path in history.curves(tmp_path)]
    assert names == [f"{3 * number + 1:02d}-optimise-{number}" for number in range(1, 10) if number != 2]


def test_a_job_without_rounds_has_none(tmp_path):
    assert history.rounds(tmp_path) == history.curves(tmp_path) == []


def test_earlier_samples_are_the_familys_newest_first(registry, tmp_path):
    jobs = tmp_path / "jobs"
    for number, (champion, done) in enumerate(
        [("policy-v0", True), ("policy-v2", True), ("policy-v1", True), ("policy-v3", False)]
    ):
        sampled = jobs / f"job-{number}" / "04-sample-1"
        sampled.mkdir(parents=True)
        facts = sampled.parent / "facts.json"
        facts.write_text(json.dumps({"champion": champion}))
        os.utime(facts, (number, number))
        if done:
            (sampled / "DONE").touch()
    (jobs / "job-now").mkdir()
    (jobs / "job-now" / "facts.json").write_text(json.dumps({"champion": "policy-v3"}))
    found = history.earlier_samples(registry, "policy-v3", jobs / "job-now")
    assert found == [str(jobs / f"job-{n}" / "04-sample-1" / "samples.parquet") for n in (2, 0)]
    assert history.earlier_samples(registry, "policy-v0", jobs / "job-now") == found[1:]


@pytest.fixture
def job(tmp_path):
    """`job(name, …)`: an earlier job. `judged`: whether the gate said of its candidate that it was undecided,
    None where it said nothing; `facts`: what the job began from."""
    count = iter(range(9))

    def make(name: str, judged: bool | None = None, champion: str = "policy-v1", **facts: object) -> Path:
        job = tmp_path / "jobs" / name
        adapter, folder = job / "06-optimise-1" / "adapter", job / "07-evaluate"
        adapter.mkdir(parents=True)
        (job / "facts.json").write_text(json.dumps(facts))
        os.utime(job / "facts.json", (number := next(count), number))
        if judged is not None:
            folder.mkdir()
            (folder / "DONE").touch()
            candidate = {"name": f"{name}-r1", "adapter": f"/the/home/before/it/moved{adapter}"}
            told = {"candidate": candidate, "champion": {"name": champion, "adapter": None}}
            (folder / "stage.json").write_text(json.dumps(told))
            (folder / "metrics.json").write_text(json.dumps({"undecided": judged}))
        return adapter

    return make


def test_the_last_candidate_is_gone_on_from_where_the_gate_could_not_decide(job, tmp_path):
    now = tmp_path / "jobs" / "job-now"
    assert history.undecided("policy-v1", now) is None
    adapter = job("job-1", judged=True)
    expected = {"name": "job-1-r1", "path": "jobs/job-1/06-optimise-1/adapter"}
    assert history.undecided("policy-v1", now) == expected
    assert tmp_path / expected["path"] == adapter
    job("job-2")  # a reward job, or one that was cancelled
    assert history.undecided("policy-v1", now) == expected
    assert history.undecided("policy-v2", now) is None, "another version answers"
    adapter.rmdir()
    assert history.undecided("policy-v1", now) is None, "it is not there any more"


def test_a_candidate_that_was_decided_on_is_left(job, tmp_path):
    now = tmp_path / "jobs" / "job-now"
    job("job-1", judged=True)
    job("job-2", judged=False)
    assert history.undecided("policy-v1", now) is None
    job("job-3", judged=True)
    assert history.undecided("policy-v1", now) == {
        "name": "job-3-r1",
        "path": "jobs/job-3/06-optimise-1/adapter",
    }


def test_a_candidate_that_jobs_come_no_further_from_is_left(job, tmp_path):
    now = tmp_path / "jobs" / "job-now"
    job("job-1", judged=True)
    on = {"undecided": {"name": "job-1-r1", "path": "…"}}
    (job("job-2", **on).parents[1] / "04-sample-1").mkdir()
    for number in range(3, 6):
        job(f"job-{number}", **on)  # skipped, for want of labels
    assert history.undecided("policy-v1", now) is not None
    (job("job-6", **on).parents[1] / "04-sample-1").mkdir()
    assert history.undecided("policy-v1", now) is None
