"""When the cursor moves: at the end of a job, whatever was decided, and at no other time.

Stages that are to succeed lie there finished, as an earlier attempt leaves them; the next one fails, as the
package of programs does not have it.
"""

import json
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from serving.jobs import Jobs, Kind, State
from serving.methods import Method
from serving.registry import Registry, Version
from workers.recipes import Outcome, cook
from workers.runner import Cancelled, Run, StageFailed
from workers.settings import WorkerSettings
from workers.stages import ai_feedback, evaluate, optimise, sample, score, snapshot, train_reward

PROGRAMS = "tests.workers.programs"
CURSOR = "1700000000000-5"
FINISHED: dict[str, dict[str, Any]] = {
    "01-snapshot": {
        "cursor": CURSOR,
        "labels_given": 70,
        "train": 64,
        "prompts": 50,
        "holdout_prompts": 10,
        "policy": {"choices": 0, "up": 9, "down": 0},
    },
    "02-train_reward": {"accepted": True, "reasons": []},
    "03-publish_reward": {"version": "reward-v1"},
    "04-sample-1": {},
    "05-score-1": {},
    "06-optimise-1": {"held": None},
    "07-evaluate": {"accepted": True, "reasons": []},
    "08-publish": {"version": "policy-v1", "reason": None},
}
WITH_JUDGE: dict[str, dict[str, Any]] = {
    "01-snapshot": FINISHED["01-snapshot"],
    "02-sample-1": {},
    "03-ai_feedback": {"labels": 12, "skipped": None},
    "04-train_reward": FINISHED["02-train_reward"],
    "05-publish_reward": FINISHED["03-publish_reward"],
    "06-score-1": {},
    "07-optimise-1": {"held": None},
    "08-sample-2": {},
}
BY_STAGE = {name.partition("-")[2]: metrics for name, metrics in {**FINISHED, **WITH_JUDGE}.items()}
REJECTED = {"accepted": False, "reasons": ["it is not better"], "undecided": False}
UNDECIDED = REJECTED | {"undecided": True}


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
        self.settings: dict[str, Any] = {}

    def finish(self, *stages: str, **instead: dict[str, Any]) -> None:
        for name in stages:
            folder = self._home / "jobs" / self.job.id / name
            folder.mkdir(parents=True, exist_ok=True)
            stage = name.partition("-")[2]
            metrics = instead.get(stage, BY_STAGE[stage])
            (folder / "metrics.json").write_text(json.dumps(metrics))
            (folder / "DONE").touch()

    def cook(self) -> Outcome:
        """An attempt at the job."""
        settings = WorkerSettings(home=self._home, **self.settings)
        run = Run(self.job, self._lease, self._jobs, self._home, threading.Event(), PROGRAMS)
        with closing(run):
            return cook(run, settings, self._registry)

    def given(self, stage: str) -> dict[str, Any]:
        """What the recipe gave a stage to work on."""
        path = self._home / "jobs" / self.job.id / stage / "stage.json"
        found: dict[str, Any] = json.loads(path.read_text())
        return found

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


@pytest.mark.slow
def test_what_the_gate_could_not_decide_on_the_next_job_goes_on_from(begun, jobs, registry):
    first = begun(Kind.cycle)
    with pytest.raises(StageFailed, match="snapshot"):
        first.cook()
    first.finish(*list(FINISHED)[:6])
    with pytest.raises(StageFailed, match="evaluate"):
        first.cook()
    adapter = Path(first.given("07-evaluate")["candidate"]["adapter"])
    adapter.mkdir()
    first.finish("07-evaluate", evaluate=UNDECIDED)
    assert str(first.cook().reason).endswith("While policy-v0 answers, the next update goes on from it")

    jobs.release(first._lease)
    between = begun(Kind.reward)
    between.settings = JUDGE
    between.finish("01-snapshot")
    with pytest.raises(StageFailed, match="train_reward"):
        between.cook()
    assert between.given("02-sample-1")["model"] == "policy-v0", "it is asked about who answers"
    jobs.release(between._lease)
    second = begun(Kind.cycle)
    second.finish(*list(FINISHED)[:3])
    with pytest.raises(StageFailed, match="sample-1"):
        second.cook()
    sampled = sample.Config.model_validate(second.given("04-sample-1"))
    assert (sampled.model, sampled.adapter) == (f"{first.job.id}-r1", adapter)
    registry.add_policy(Version("policy-v1", "p/1", 1.0), second._lease)
    registry.promote("policy-v1", who="test", why="another champion does not change what a job began with")
    second.finish("04-sample-1", "05-score-1")
    with pytest.raises(StageFailed, match="optimise-1"):
        second.cook()
    assert optimise.Config.model_validate(second.given("06-optimise-1")).init == adapter
    second.finish("06-optimise-1")
    with pytest.raises(StageFailed, match="evaluate"):
        second.cook()
    judged = second.given("07-evaluate")
    assert judged["champion"] == {"name": "policy-v0", "adapter": None}
    assert judged["rounds"] == [], "they did not begin with the champion, beside whom they are drawn"


def test_labels_that_made_no_better_reward_model_stay_new(cycle):
    cycle.finish("01-snapshot", "02-train_reward", train_reward=REJECTED)
    outcome = cycle.cook()
    assert outcome.state is State.done
    assert "No policy update without a reward model" in str(outcome.reason)
    assert not cycle.moved()


def test_a_better_judge_alone_is_a_version_and_the_labels_stay_new(cycle):
    judge = {"judge_accepted": True, "judge_gain": {"new": 0.6, "old": 0.7, "labels": 20}}
    names = list(FINISHED)
    cycle.finish(*names[:4], train_reward=REJECTED | judge)
    with pytest.raises(StageFailed, match="score-1"):
        cycle.cook()
    assert cycle.given("05-score-1")["reward"].endswith("02-train_reward/reward")
    cycle.finish(*names[4:], evaluate=REJECTED)
    assert cycle.cook().reason == (
        "The new reward model is not better: it is not better; its judge is, and judges from now on: log "
        "loss 0.600 against 0.700 on 20 unseen labels. The gate rejected the candidate: it is not better"
    )
    assert not cycle.moved(), "the members have not learnt them"


def test_a_reward_job_moves_it_at_its_end(begun):
    job = begun(Kind.reward)
    job.finish("01-snapshot", "02-train_reward")
    with pytest.raises(StageFailed):
        job.cook()
    assert not job.moved()
    job.finish("03-publish_reward")
    assert job.cook() == Outcome(State.done)
    assert job.moved()


JUDGE = {
    "ai_constitution": "rules.toml",
    "ai_judge_url": "http://judge/v1",
    "ai_judge_model": "some-judge",
    "ai_judge_key": "sesame",
}


@pytest.mark.slow
@pytest.mark.parametrize(("labels", "extra"), [(12, True), (0, False)])
def test_a_judge_is_asked_about_the_first_rounds_replies_and_the_reward_model_learns_it(cycle, labels, extra):
    """A recipe writes stage.json before a stage runs, and so before it fails, as there is no such program."""
    cycle.settings = {**JUDGE, "policy_rounds": 2, "score_reward": "warm"}
    for name in WITH_JUDGE:
        with pytest.raises(StageFailed, match=name.partition("-")[2]):
            cycle.cook()
        cycle.finish(name, ai_feedback={"labels": labels, "skipped": None})
    with pytest.raises(StageFailed, match="score-2"):
        cycle.cook()
    assert cycle.given("02-sample-1")["model"] == "policy-v0"
    judged = cycle.given("03-ai_feedback")
    assert judged["samples"].endswith("02-sample-1/samples.parquet")
    assert "sesame" not in json.dumps(judged)
    assert "//judge/v1" not in json.dumps(judged)
    assert ai_feedback.Config.model_validate(judged).policy == "policy-v0"
    trained = cycle.given("04-train_reward")
    assert trained.get("extra", "").endswith("03-ai_feedback/labels.parquet") == extra
    assert ("extra" in trained) == extra
    first, second = cycle.given("06-score-1"), cycle.given("09-score-2")
    assert first["samples"] == judged["samples"]
    assert first["rules"].endswith("03-ai_feedback/rules.parquet")
    assert second["rules"] is None  # those are another policy's replies
    assert first["names"] == ["warm"]
    assert first["reward"].endswith("reward")


def test_the_trainer_loads_while_the_engines_sample(cycle, monkeypatch):
    told = []
    monkeypatch.setattr(Run, "stand_by", lambda _, *programs: told.extend(programs))
    run_stage = Run.stage
    monkeypatch.setattr(
        Run, "stage", lambda run, name, *more: told.append(name) or run_stage(run, name, *more)
    )
    cycle.finish(*list(FINISHED)[:6])
    with pytest.raises(StageFailed, match="evaluate"):
        cycle.cook()
    begin, last = told.index("sample-1"), told.index("optimise-1")
    assert {"score", "optimise"} <= set(told[:begin])
    assert "evaluate" in told[begin:last]


@pytest.mark.parametrize(
    ("kind", "loaded"),
    [(Kind.cycle, ["train_reward"]), (Kind.reward, ["train_reward"]), (Kind.policy, ["score", "optimise"])],
)
def test_what_comes_after_an_ai_judge_loads_while_engines_sample(begun, registry, monkeypatch, kind, loaded):
    job, told = begun(kind), []
    registry.add_reward(Version("reward-v1", "r/1", 1.0), job._lease)
    job.settings = JUDGE
    monkeypatch.setattr(Run, "stand_by", lambda _, *programs: told.extend(programs))
    job.finish("01-snapshot")
    with pytest.raises(StageFailed, match="train_reward" if kind is Kind.reward else "sample"):
        job.cook()  # a reward job goes on without engines
    assert told == loaded


@pytest.mark.parametrize(
    ("method", "given", "k", "count"),
    [
        (Method.grpo, {}, 8, 32),
        (Method.rloo, {}, 8, 32),
        (Method.online_dpo, {}, 4, 64),
        (Method.best_of_n, {}, 4, 64),
        (Method.grpo, {"policy_k": 2}, 2, 128),
        (Method.best_of_n, {"policy_prompts": 5}, 4, 5),
    ],
)
def test_replies_to_a_prompt_are_the_methods_own_unless_it_is_said(cycle, method, given, k, count):
    cycle.settings = {"method": method, **given}
    cycle.finish("01-snapshot", "02-train_reward", "03-publish_reward")
    with pytest.raises(StageFailed, match="sample"):
        cycle.cook()
    sampled = cycle.given("04-sample-1")
    assert (sampled["k"], sampled["count"]) == (k, count)


def test_a_version_says_how_its_champion_did_under_each_rule(cycle):
    cycle.settings = JUDGE
    rules = {"helpful": {"judged": 8, "mean": 0.25, "correlation": 0.5}}
    cycle.finish(*list(WITH_JUDGE)[:7], **{"score-1": {"rules": rules}})
    cycle.finish("08-evaluate", evaluate=FINISHED["07-evaluate"])
    with pytest.raises(StageFailed, match="publish"):
        cycle.cook()
    assert cycle.given("09-publish")["evaluation"]["rules"] == rules


def test_without_a_constitution_there_is_no_judge(cycle):
    cycle.finish("01-snapshot")
    with pytest.raises(StageFailed, match="train_reward"):
        cycle.cook()
    assert "extra" not in cycle.given("02-train_reward")


def test_a_reward_job_asks_the_judge_too(begun):
    job = begun(Kind.reward)
    job.settings = JUDGE
    job.finish("01-snapshot", "02-sample-1")
    with pytest.raises(StageFailed, match="ai_feedback"):
        job.cook()


def test_a_reward_job_learns_from_people_while_no_engine_answers(begun, jobs):
    job = begun(Kind.reward)
    job.settings = JUDGE
    job.finish("01-snapshot")
    with pytest.raises(StageFailed, match="train_reward"):
        job.cook()
    assert "extra" not in job.given("04-train_reward")
    _, sampled, judged, _ = jobs.get(job.job.id).stages
    assert (sampled["state"], judged["state"]) == ("failed", "skipped")
    assert "no replies to judge: sample-1" in judged["message"]
    # Engines that are back by the next attempt give no stage another number.
    job.finish("02-sample-1", "03-ai_feedback", "04-train_reward", "05-publish_reward")
    assert job.cook() == Outcome(State.done)


@pytest.mark.parametrize(("before", "after"), [({}, JUDGE), (JUDGE, {})])
def test_a_judge_that_comes_or_goes_between_attempts_changes_no_stage(cycle, before, after):
    """Else the reward model would be trained, and published, a second time under another number."""
    cycle.settings = before
    names = list(WITH_JUDGE if before else FINISHED)
    cycle.finish(*names[:5])
    with pytest.raises(StageFailed, match=names[5].partition("-")[2]):
        cycle.cook()
    cycle.settings = after
    with pytest.raises(StageFailed, match=names[5].partition("-")[2]):
        cycle.cook()


def test_a_judge_that_was_to_be_asked_is_asked_though_the_constitution_is_set_no_more(cycle):
    """Its address is read by the stage, which ends well without one."""
    cycle.settings = JUDGE
    cycle.finish("01-snapshot", "02-sample-1")
    for cycle.settings in (JUDGE, {}):
        with pytest.raises(StageFailed, match="ai_feedback"):
            cycle.cook()
        config = ai_feedback.Config.model_validate(cycle.given("03-ai_feedback"))
        assert (config.constitution.name, config.model) == ("rules.toml", "some-judge")


def test_a_job_has_the_rounds_that_it_began_with(cycle):
    with pytest.raises(StageFailed, match="snapshot"):
        cycle.cook()
    cycle.settings = {"policy_rounds": 2}
    cycle.finish(*list(FINISHED))
    assert cycle.cook() == Outcome(State.done)


def test_too_few_labels_are_noticed_before_anything_is_sampled(begun):
    job = begun(Kind.reward)
    job.settings = JUDGE
    job.finish("01-snapshot", snapshot={**FINISHED["01-snapshot"], "train": 3})
    assert job.cook().state is State.skipped


def test_every_score_config_is_one_that_the_stage_knows(cycle, tmp_path):
    cycle.finish(*list(FINISHED)[:4])
    with pytest.raises(StageFailed, match="score-1"):
        cycle.cook()
    given = score.Config.model_validate(cycle.given("05-score-1"))
    assert given.names is None
    snapshot = tmp_path / "jobs" / cycle.job.id / "01-snapshot"
    assert (given.prompts, given.holdout) == (snapshot / "prompts.parquet", snapshot / "holdout.parquet")
    assert given.repetition_weight == 0.5
    assert given.so_far


def test_a_round_is_held_to_a_little_less_than_the_gate_allows(cycle):
    cycle.settings = {"evaluate_max_nll_rise": 0.05, "optimise_targets": "v_proj, o_proj"}
    cycle.finish(*list(FINISHED)[:5])
    with pytest.raises(StageFailed, match="optimise-1"):
        cycle.cook()
    given = optimise.Config.model_validate(cycle.given("06-optimise-1"))
    assert given.max_nll_rise == pytest.approx(0.045)
    assert given.targets == ("v_proj", "o_proj")
    assert given.sft_weight == 0.1, "what people rated well is learnt too"
    assert given.labels is not None
    assert given.labels.name == "train.parquet"


def test_evaluate_is_told_what_it_needs_to_judge_by(cycle, registry, tmp_path):
    """The judge's own record, people's labels, the past for the plots; and it knows all of these keys."""
    cycle.finish(*list(FINISHED)[:6], train_reward={"accepted": True, "reasons": [], "judge": {"pairs": 3}})
    with pytest.raises(StageFailed, match="evaluate"):
        cycle.cook()
    job = tmp_path / "jobs" / cycle.job.id
    config = evaluate.Config.model_validate_json((job / "07-evaluate" / "stage.json").read_bytes())
    assert config.judge == {"pairs": 3}
    assert config.labels == (job / "01-snapshot" / "train.parquet", job / "01-snapshot" / "holdout.parquet")
    assert [row["version"] for row in config.lineage] == ["policy-v0"]
    assert config.base is None
    assert config.rounds == ({"kl": None, "reward": None, "std": None},)
    assert (config.max_nll_rise, config.max_kl_champion, config.k) == (0.02, 0.3, 3)


def test_a_live_judge_is_believed_by_what_it_is_worth_today(cycle, registry):
    """Not by its figures of when it became a version: the holdout has grown since."""
    registry.add_reward(Version("reward-v1", "r/1", 1.0, metrics={"judge": {"pairs": 3}}), cycle._lease)
    today = REJECTED | {"judge": {"pairs": 99}, "previous_judge": {"pairs": 30}}
    names = ("01-snapshot", "02-train_reward", "03-sample-1", "04-score-1", "05-optimise-1")
    cycle.finish(*names, train_reward=today)
    with pytest.raises(StageFailed, match="evaluate"):
        cycle.cook()
    assert cycle.given("06-evaluate")["judge"] == {"pairs": 30}


def test_a_policy_job_knows_the_judge_by_its_versions_figures(begun, registry):
    job = begun(Kind.policy)
    registry.add_reward(Version("reward-v1", "r/1", 1.0, metrics={"judge": {"pairs": 3}}), job._lease)
    job.finish("01-snapshot", "02-sample-1", "03-score-1", "04-optimise-1")
    with pytest.raises(StageFailed, match="evaluate"):
        job.cook()
    assert job.given("05-evaluate")["judge"] == {"pairs": 3}


def test_evaluate_is_told_what_the_champion_handed_down_of_the_base(cycle, registry, tmp_path):
    base = {name: 0.5 for name in ("words", "empty", "identical", "trigrams", "cut")}
    base |= {"max_tokens": 80, "probes": {"hi": [1, 4]}}
    registry.add_policy(Version("policy-v1", "p/1", 1.0, metrics={"base": base}), cycle._lease)
    registry.promote("policy-v1", who="test", why="test")
    cycle.finish(*list(FINISHED)[:6])
    with pytest.raises(StageFailed, match="evaluate"):
        cycle.cook()
    config = evaluate.Config.model_validate(cycle.given("07-evaluate"))
    assert config.base is not None
    assert config.base.probes == {"hi": (1, 4)}


def test_the_reward_model_is_trained_with_the_settings_and_told_who_answers_now(cycle):
    cycle.settings = {"rater_cap": 0.1, "reward_confidence": 0.7}
    with pytest.raises(StageFailed, match="snapshot"):
        cycle.cook()
    taken = snapshot.Config.model_validate(cycle.given("01-snapshot"))
    assert (taken.rater_cap, taken.pair_share) == (0.1, 0.5)
    cycle.finish("01-snapshot")
    with pytest.raises(StageFailed, match="train_reward"):
        cycle.cook()
    trained = train_reward.Config.model_validate(cycle.given("02-train_reward"))
    assert (trained.policy, trained.confidence, trained.members) == ("policy-v0", 0.7, 2)


def test_a_policy_that_cannot_move_within_its_bounds_stays_and_the_cursor_moves(cycle):
    cycle.finish(*list(FINISHED)[:6], **{"optimise-1": {"held": "it left the bound"}})
    outcome = cycle.cook()
    assert (outcome.state, outcome.reason) == (State.done, "The policy stays as it is: it left the bound")
    assert cycle.moved()


@pytest.mark.parametrize(("method", "said"), [("dpo", "choices"), ("kto", "9 up and 0 down")])
def test_a_method_without_its_kind_of_label_is_skipped_before_anything_is_published(cycle, method, said):
    cycle.settings = {"method": method}
    cycle.finish("01-snapshot")
    outcome = cycle.cook()
    assert outcome.state is State.skipped
    assert said in (outcome.reason or "")
    assert not cycle.moved()
