"""The parts of a recipe: each stage with what it is given. The candidate's way from samples to the gate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.jobs import Kind
from serving.methods import Method
from serving.registry import Registry
from workers import history
from workers.methods.config import PACES
from workers.runner import Finished, Run, StageFailed
from workers.settings import WorkerSettings

CREDITED = (Method.grpo, Method.rloo)  # by token
REPLIES = 256  # of a round, where nothing else is said
SPARED = 0.9  # of the gate's bound on plain text: engine and trainer do not round alike


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What a recipe works with."""

    run: Run
    settings: WorkerSettings
    registry: Registry
    facts: dict[str, Any]

    @property
    def with_ai(self) -> bool:
        return self.facts["constitution"] is not None

    @property
    def policy_rounds(self) -> int:
        return int(self.facts["policy_rounds"])

    @property
    def method(self) -> Method:
        return Method(self.run.job.params.get("method", self.settings.method))

    @property
    def start(self) -> tuple[str, str | None]:
        """What the first round goes on from, its name on the engines and its adapter: the champion, or the
        last job's candidate where the gate could not decide on it."""
        undecided = self.facts["undecided"]
        if undecided is not None:
            return undecided["name"], self.artifact(undecided["path"])
        return self.facts["champion"], self.artifact(self.facts["champion_path"])

    @property
    def earlier(self) -> list[str]:
        """What was sampled in earlier jobs that began with the champion or one of its ancestors."""
        return history.earlier_samples(self.registry, self.facts["champion"], self.run.directory)

    def artifact(self, path: str | None) -> str | None:
        return None if path is None else str(self.settings.home / path)


@dataclass(frozen=True, slots=True)
class AiFeedback:
    """`sampled`: the first round's replies; `judged`: what a judge said of them."""

    sampled: Finished
    judged: Finished

    @property
    def extra(self) -> dict[str, str]:
        """What training the reward model is given beside people's labels."""
        return {"extra": self.judged.path("labels.parquet")} if self.judged.metrics["labels"] else {}


class Held(Exception):
    """The first round left the policy where it was; the message says why."""


def snapshot_feedback(kitchen: Kitchen) -> Finished:
    settings = kitchen.settings
    return kitchen.run.stage(
        "snapshot",
        "snapshot",
        {
            "cursor": kitchen.facts["cursor"],
            "replay": settings.replay,
            "holdout": settings.holdout,
            "prompts": settings.prompt_pool,
            "rater_cap": settings.rater_cap,
            "pair_share": settings.pair_share,
            "max_labels": settings.reward_max_labels,
            "seed": _seed(kitchen, 0),
        },
    )


def ask_judge(kitchen: Kitchen, snapshot: Finished) -> AiFeedback | None:
    """The first round's replies, to prompts that are not held out, and a judge's verdicts on them; None
    unless there was a constitution when the job began.

    A job that only learns from people needs the engines for nothing else, and goes on without them.
    """
    settings, (name, adapter) = kitchen.settings, kitchen.start
    if not kitchen.with_ai or not snapshot.metrics["prompts"]:
        return None
    kind = kitchen.run.job.kind
    kitchen.run.stand_by(*(("score", "optimise") if kind is Kind.policy else ("train_reward",)))
    try:
        sampled = _sample(kitchen, snapshot, 1, name, adapter)
    except StageFailed as error:
        if kind is not Kind.reward:
            raise
        kitchen.run.skip("ai_feedback", f"There are no replies to judge: {error}")
        return None
    judged = kitchen.run.stage(
        "ai_feedback",
        "ai_feedback",
        {
            "samples": sampled.path("samples.parquet"),
            "prompts": snapshot.path("prompts.parquet"),
            "policy": name,
            "constitution": kitchen.facts["constitution"],
            "model": kitchen.facts["judge"],
            "pairs": settings.ai_pairs,
            "weight": settings.ai_weight,
            "concurrency": settings.ai_concurrency,
            "seed": _seed(kitchen, 1),
        },
    )
    return AiFeedback(sampled, judged)


@dataclass(frozen=True, slots=True)
class Rewarded:
    """A reward model. `version`: the one that was published, `directory`: the reward model to use now.
    `learnt`: its members know the snapshot's labels. `why_not`: why no members were published. `judge`: what
    the judge is worth on today's holdout, as in a version's metrics; None where only those are known.
    """

    version: str | None
    directory: str | None
    learnt: bool
    why_not: str | None = None
    judge: dict[str, Any] | None = None


def update_reward(kitchen: Kitchen, snapshot: Finished, ai: AiFeedback | None) -> Rewarded:
    """A new version of members and a judge, or of either beside what the live version has of the other."""
    settings = kitchen.settings
    live = kitchen.artifact(kitchen.facts["reward_path"])
    trained = kitchen.run.stage(
        "train_reward",
        "train_reward",
        {
            "base_model": settings.model,
            "init": live,
            "train": snapshot.path("train.parquet"),
            "holdout": snapshot.path("holdout.parquet"),
            "policy": kitchen.facts["champion"],
            "seed": settings.seed,
            **(ai.extra if ai else {}),
            **settings.prefixed("reward"),
        },
    )
    learnt, why_not = trained.metrics["accepted"], None
    if not learnt:
        why_not = "The new reward model is not better: " + _sentences(trained.metrics["reasons"])
        if not trained.metrics.get("judge_accepted"):
            return Rewarded(None, live, False, why_not, trained.metrics.get("previous_judge"))
        gain = trained.metrics["judge_gain"]
        why_not += (
            f"; its judge is, and judges from now on: log loss {gain['new']:.3f} against {gain['old']:.3f} "
            f"on {gain['labels']} unseen labels"
        )
    published = kitchen.run.stage(
        "publish_reward",
        "publish_reward",
        {
            "job": kitchen.run.job.id,
            "token": kitchen.run.lease.token,
            "trained": str(trained.directory),
            "parent": kitchen.facts["reward"],
        },
    )
    kitchen.run.published(reward=published.metrics["version"])
    return Rewarded(
        published.metrics["version"], trained.path("reward"), learnt, why_not, trained.metrics.get("judge")
    )


def update_policy(
    kitchen: Kitchen, snapshot: Finished, rewarded: Rewarded, ai: AiFeedback | None
) -> str | None:
    """Update the policy and publish it; why not more came of it, if it did not."""
    try:
        name, adapter, rules = _rounds(kitchen, snapshot, rewarded.directory, ai)
    except Held as why:
        return f"The policy stays as it is: {why}"
    evaluated = _evaluate(kitchen, snapshot, rewarded, name, adapter)
    if not evaluated.metrics["accepted"]:
        why_not = "The gate rejected the candidate: " + _sentences(evaluated.metrics["reasons"])
        if evaluated.metrics.get("undecided"):
            why_not += f". While {kitchen.facts['champion']} answers, the next update goes on from it"
        return why_not
    published = kitchen.run.stage(
        "publish",
        "publish",
        {
            "job": kitchen.run.job.id,
            "token": kitchen.run.lease.token,
            "adapter": adapter,
            "probe": str(Path(adapter).parent / "probe.json"),
            "parent": kitchen.facts["champion"],
            "reward": rewarded.version or kitchen.facts["reward"],
            "evaluation": evaluated.metrics | ({"rules": rules} if rules else {}),
            "plots": evaluated.path("plots"),
        },
    )
    kitchen.run.published(policy=published.metrics["version"])
    reason: str | None = published.metrics["reason"]
    return reason


def _rounds(
    kitchen: Kitchen, snapshot: Finished, reward: str | None, ai: AiFeedback | None
) -> tuple[str, str, dict[str, Any] | None]:
    """Sample, score, optimise, again and again. The candidate's name on the engines, its adapter, and what
    the first round's replies were worth under each rule, beside their preference score, if a judge was
    asked."""
    settings, run = kitchen.settings, kitchen.run
    name, adapter = kitchen.start
    rules = None
    for number in range(1, kitchen.policy_rounds + 1):
        first = ai if number == 1 else None
        run.stand_by("score", "optimise")
        sampled = first.sampled if first else _sample(kitchen, snapshot, number, name, adapter)
        scored = _score(kitchen, snapshot, number, reward, sampled, first)
        rules = rules or scored.metrics.get("rules")
        if number == kitchen.policy_rounds:
            run.stand_by("evaluate")
        optimised = run.stage(
            f"optimise-{number}",
            "optimise",
            {
                "base_model": settings.model,
                "init": adapter,
                "method": kitchen.method,
                "scores": scored.path("scores.parquet"),
                "labels": snapshot.path("train.parquet"),
                "max_nll_rise": SPARED * settings.evaluate_max_nll_rise,
                "seed": _seed(kitchen, number),
                **settings.prefixed("optimise"),
            },
        )
        if optimised.metrics["held"] and number == 1:
            raise Held(optimised.metrics["held"])
        name, adapter = f"{run.job.id}-r{number}", optimised.path("adapter")
    assert adapter is not None
    return name, adapter, rules


def _sample(kitchen: Kitchen, snapshot: Finished, number: int, name: str, adapter: str | None) -> Finished:
    settings = kitchen.settings
    k = settings.policy_k or PACES[kitchen.method].k
    return kitchen.run.stage(
        f"sample-{number}",
        "sample",
        {
            "engines": list(settings.engines),
            "model": name,
            "adapter": adapter,
            "prompts": snapshot.path("prompts.parquet"),
            "count": settings.policy_prompts or max(1, REPLIES // k),
            "k": k,
            "max_tokens": settings.max_tokens,
            "seed": _seed(kitchen, number),
        },
    )


def _score(
    kitchen: Kitchen,
    snapshot: Finished,
    number: int,
    reward: str | None,
    sampled: Finished,
    ai: AiFeedback | None,
) -> Finished:
    """`ai`: what was said of these very samples."""
    settings, given = kitchen.settings, kitchen.settings.prefixed("score")
    return kitchen.run.stage(
        f"score-{number}",
        "score",
        {
            **given,
            "base_model": settings.model,
            "reward": reward,
            "names": ["warm"] if given["reward"] == "warm" else None,
            "samples": sampled.path("samples.parquet"),
            "earlier": kitchen.earlier if number == 1 else [],
            "replay": settings.policy_replay,
            "prompts": snapshot.path("prompts.parquet"),
            "holdout": snapshot.path("holdout.parquet"),
            "uncertainty": settings.uncertainty,
            "so_far": kitchen.method in CREDITED and settings.optimise_credit_decay < 1,
            "rules": ai.judged.path("rules.parquet") if ai else None,
        },
    )


def _evaluate(kitchen: Kitchen, snapshot: Finished, rewarded: Rewarded, name: str, adapter: str) -> Finished:
    settings, job = kitchen.settings, kitchen.run.directory
    champion = kitchen.facts["champion"]
    version = kitchen.registry.rewards().get(rewarded.version or kitchen.facts["reward"])
    judge = rewarded.judge or (version.metrics.get("judge") if version else None)
    return kitchen.run.stage(
        "evaluate",
        "evaluate",
        {
            "engines": list(settings.engines),
            "base_model": settings.model,
            "candidate": {"name": name, "adapter": adapter},
            "champion": {"name": champion, "adapter": kitchen.artifact(kitchen.facts["champion_path"])},
            "prompts": snapshot.path("prompts.parquet"),
            "reward": rewarded.directory,
            "judge": judge or {},
            "base": kitchen.registry.policy(champion).metrics.get("base"),
            "labels": [snapshot.path("train.parquet"), snapshot.path("holdout.parquet")],
            "lineage": history.lineage(kitchen.registry, champion),
            # They are drawn beside the champion, which then was not where they began.
            "rounds": [] if kitchen.facts["undecided"] else history.rounds(job),
            "curves": history.curves(job),
            "max_tokens": settings.max_tokens,
            "min_prompts": settings.min_holdout_prompts,
            "seed": _seed(kitchen, 0),
            **settings.prefixed("evaluate"),
        },
    )


def _seed(kitchen: Kitchen, number: int) -> int:
    """Another seed for each job and round, the same when a job is taken up again."""
    return (kitchen.settings.seed + int(kitchen.run.job.created) * 31 + number) % 2**20


def _sentences(reasons: list[str]) -> str:
    return "; ".join(reasons)
