"""When the cursor moves: at the end of a job, whatever was decided, and at no other time.

Stages that are to succeed lie there finished, as an earlier attempt leaves them; the next one fails, as the
package of programs does not have it.
"""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from serving.jobs import Jobs, Kind, State
from serving.registry import Registry
from workers.recipes import Outcome, cook
from workers.runner import Cancelled, Run, StageFailed
from workers.settings import WorkerSettings

PROGRAMS = "tests.workers.programs"
CURSOR = "1700000000000-5"
FINISHED: dict[str, dict[str, Any]] = {
    "01-snapshot": {"cursor": CURSOR, "labels_given": 70, "train": 64, "prompts": 50, "holdout_prompts": 10},
    "02-train_reward": {"accepted": True, "reasons": []},
    "03-publish_reward": {"version": "reward-v1"},
    "04-sample-1": {},
    "05-score-1": {},
    "06-optimise-1": {},
    "07-evaluate": {"accepted": True, "reasons": []},
    "08-publish": {"version": "policy-v1", "reason": None},
}
REJECTED = {"accepted": False, "reasons": ["it is not better"]}


@pytest.fixture
def jobs(redis: Redis) -> Jobs:
    return Jobs(redis)


@pytest.fixture
def registry(redis: Redis, tmp_path: Path) -> Registry:
    registry = Registry(redis, tmp_path)
    registry.ensure_base()
    return registry


class Case:
    """A job, and which of its stages are finished."""

    def __init__(self, kind: Kind, jobs: Jobs, registry: Registry, home: Path) -> None:
        self.job = jobs.create(kind, by="test")
        lease = jobs.acquire(self.job.id)
        assert lease is not None
        self._lease, self._jobs, self._registry, self._home = lease, jobs, registry, home

    def finish(self, *stages: str, **instead: dict[str, Any]) -> None:
        for name in stages:
            folder = self._home / "jobs" / self.job.id / name
            folder.mkdir(parents=True, exist_ok=True)
            metrics = instead.get(name.partition("-")[2], FINISHED[name])
            (folder / "metrics.json").write_text(json.dumps(metrics))
            (folder / "DONE").touch()

    def cook(self) -> Outcome:
        """An attempt at the job."""
        settings = WorkerSettings(home=self._home)
        run = Run(self.job, self._lease, self._jobs, self._home, threading.Event(), PROGRAMS)
        return cook(run, settings, self._registry)

    def moved(self) -> bool:
        learning = self._registry.learning()
        assert (learning.cursor, learning.labels) in [("0-0", 0), (CURSOR, 70)]
        return learning.cursor == CURSOR


@pytest.fixture
def begun(jobs: Jobs, registry: Registry, tmp_path: Path) -> Callable[[Kind], Case]:
    return lambda kind: Case(kind, jobs, registry, tmp_path)


@pytest.fixture
def cycle(begun: Callable[[Kind], Case]) -> Case:
    return begun(Kind.cycle)


@pytest.mark.parametrize("done", [2, 3, 6, 7])
def test_a_cycle_that_fails_moves_nothing_until_it_is_taken_up_again(cycle, jobs, done):
    names = list(FINISHED)
    cycle.finish(*names[:done])
    with pytest.raises(StageFailed, match=names[done].partition("-")[2]):
        cycle.cook()
    assert not cycle.moved()
    assert jobs.get(cycle.job.id).reward == ("reward-v1" if done > 2 else None)
    cycle.finish(*names[done:])
    for _ in range(2):
        assert cycle.cook() == Outcome(State.done)
        assert cycle.moved()


def test_a_cycle_that_is_cancelled_after_its_reward_model_moves_nothing(cycle, jobs):
    cycle.finish("01-snapshot", "02-train_reward", "03-publish_reward")
    jobs.cancel(cycle.job.id, "enough")
    with pytest.raises(Cancelled):
        cycle.cook()
    assert not cycle.moved()


def test_a_candidate_that_the_gate_rejects_is_a_decision_too(cycle):
    cycle.finish(*list(FINISHED)[:7], evaluate=REJECTED)
    assert cycle.cook().reason == "The gate rejected the candidate: it is not better"
    assert cycle.moved()


def test_labels_that_made_no_better_reward_model_stay_new(cycle):
    cycle.finish("01-snapshot", "02-train_reward", train_reward=REJECTED)
    outcome = cycle.cook()
    assert outcome.state is State.done
    assert "No policy update without a reward model" in str(outcome.reason)
    assert not cycle.moved()


def test_a_reward_job_moves_it_at_its_end(begun):
    job = begun(Kind.reward)
    job.finish("01-snapshot", "02-train_reward")
    with pytest.raises(StageFailed):
        job.cook()
    assert not job.moved()
    job.finish("03-publish_reward")
    assert job.cook() == Outcome(State.done)
    assert job.moved()
