"""What a job does: which stages, on what, and when it is over before the end.

`cycle` = the reward job, then the policy job, on one snapshot. The cursor moves last of all, and only past
labels that a published reward model has learnt from: those of a job that failed, was cancelled, or came to no
better reward model are new to the next job again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.jobs import Kind, State
from serving.registry import Registry
from workers.runner import Finished, Run
from workers.settings import WorkerSettings


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, and why it published no more than it did."""

    state: State
    reason: str | None = None


class NotEnough(Exception):
    """Too little feedback; the message says how much there is and how much is needed."""


@dataclass(frozen=True, slots=True)
class Kitchen:
    """What a recipe works with."""

    run: Run
    settings: WorkerSettings
    registry: Registry
    facts: dict[str, Any]

    def artifact(self, path: str | None) -> str | None:
        return None if path is None else str(self.settings.home / path)


def cook(run: Run, settings: WorkerSettings, registry: Registry) -> Outcome:
    """Run the recipe of the job's kind from wherever it is."""
    aliases, learning = registry.aliases(), registry.learning()
    facts = run.facts(
        {
            "champion": aliases.champion,
            "champion_path": registry.policy(aliases.champion).path,
            "reward": aliases.reward,
            "reward_path": registry.reward(aliases.reward).path if aliases.reward else None,
            "cursor": learning.cursor,
        }
    )
    kitchen = Kitchen(run, settings, registry, facts)
    try:
        return RECIPES[run.job.kind](kitchen)
    except NotEnough as error:
        return Outcome(State.skipped, str(error))


def _reward_job(kitchen: Kitchen) -> Outcome:
    kitchen.run.expected = 3
    snapshot = _snapshot(kitchen)
    version, _, why_not = _reward(kitchen, snapshot)
    _advance(kitchen, snapshot, version)
    return Outcome(State.done, why_not)


def _policy_job(kitchen: Kitchen) -> Outcome:
    kitchen.run.expected = 3 + 3 * kitchen.settings.policy_rounds
    _need_reward(kitchen.facts["reward"])
    snapshot = _snapshot(kitchen)
    live = kitchen.artifact(kitchen.facts["reward_path"])
    return Outcome(State.done, _policy(kitchen, snapshot, live, None))


def _cycle_job(kitchen: Kitchen) -> Outcome:
    kitchen.run.expected = 5 + 3 * kitchen.settings.policy_rounds
    snapshot = _snapshot(kitchen)
    _need_prompts(kitchen, snapshot)
    version, directory, why_not = _reward(kitchen, snapshot)
    if directory is None:
        return Outcome(State.done, f"No policy update without a reward model: {why_not}")
    reasons = [why_not, _policy(kitchen, snapshot, directory, version)]
    _advance(kitchen, snapshot, version)
    return Outcome(State.done, ". ".join(reason for reason in reasons if reason) or None)


RECIPES: dict[Kind, Callable[[Kitchen], Outcome]] = {
    Kind.reward: _reward_job,
    Kind.policy: _policy_job,
    Kind.cycle: _cycle_job,
}


def _snapshot(kitchen: Kitchen) -> Finished:
    settings = kitchen.settings
    return kitchen.run.stage(
        "snapshot",
        "snapshot",
        {
            "cursor": kitchen.facts["cursor"],
            "replay": settings.replay,
            "holdout": settings.holdout,
            "prompts": settings.prompt_pool,
            "seed": settings.seed,
        },
    )


def _reward(kitchen: Kitchen, snapshot: Finished) -> tuple[str | None, str | None, str | None]:
    """The version that was published, the reward model to use now, and why none was published."""
    settings, have = kitchen.settings, snapshot.metrics["train"]
    if have < settings.min_labels:
        raise NotEnough(
            f"There are {have} labels to train on; a reward model needs at least {settings.min_labels} "
            "(THUMBWHEEL_MIN_LABELS). Rate more answers."
        )
    live = kitchen.artifact(kitchen.facts["reward_path"])
    trained = kitchen.run.stage(
        "train_reward",
        "train_reward",
        {
            "base_model": settings.model,
            "init": live,
            "train": snapshot.path("train.parquet"),
            "holdout": snapshot.path("holdout.parquet"),
            "seed": settings.seed,
            **settings.prefixed("reward"),
        },
    )
    if not trained.metrics["accepted"]:
        return None, live, "The new reward model is not better: " + _sentences(trained.metrics["reasons"])
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
    return published.metrics["version"], trained.path("reward"), None


def _advance(kitchen: Kitchen, snapshot: Finished, version: str | None) -> None:
    """Past what `version` was trained on, if one was published."""
    if version is not None:
        cursor, labels = snapshot.metrics["cursor"], snapshot.metrics["labels_given"]
        kitchen.registry.advance_cursor(cursor, labels, kitchen.run.lease)


def _policy(kitchen: Kitchen, snapshot: Finished, reward: str | None, version: str | None) -> str | None:
    """Update the policy and publish it; why not more came of it, if it did not."""
    _need_prompts(kitchen, snapshot)
    name, adapter = _rounds(kitchen, snapshot, reward)
    evaluated = _evaluate(kitchen, snapshot, reward, name, adapter)
    if not evaluated.metrics["accepted"]:
        return "The gate rejected the candidate: " + _sentences(evaluated.metrics["reasons"])
    published = kitchen.run.stage(
        "publish",
        "publish",
        {
            "job": kitchen.run.job.id,
            "token": kitchen.run.lease.token,
            "adapter": adapter,
            "probe": str(Path(adapter).parent / "probe.json"),
            "parent": kitchen.facts["champion"],
            "reward": version or kitchen.facts["reward"],
            "evaluation": evaluated.metrics,
        },
    )
    kitchen.run.published(policy=published.metrics["version"])
    reason: str | None = published.metrics["reason"]
    return reason


def _rounds(kitchen: Kitchen, snapshot: Finished, reward: str | None) -> tuple[str, str]:
    """Sample, score, optimise, again and again. The candidate's name on the engines, and its adapter."""
    settings, run = kitchen.settings, kitchen.run
    name, adapter = kitchen.facts["champion"], kitchen.artifact(kitchen.facts["champion_path"])
    for number in range(1, settings.policy_rounds + 1):
        sampled = run.stage(
            f"sample-{number}",
            "sample",
            {
                "engines": list(settings.engines),
                "model": name,
                "adapter": adapter,
                "prompts": snapshot.path("prompts.parquet"),
                "count": settings.policy_prompts,
                "k": settings.policy_k,
                "max_tokens": settings.max_tokens,
                "seed": _seed(kitchen, number),
            },
        )
        scored = run.stage(
            f"score-{number}",
            "score",
            {
                "base_model": settings.model,
                "reward": reward,
                "samples": sampled.path("samples.parquet"),
                "uncertainty": settings.uncertainty,
            },
        )
        optimised = run.stage(
            f"optimise-{number}",
            "optimise",
            {
                "base_model": settings.model,
                "init": adapter,
                "method": run.job.params.get("method", settings.method),
                "scores": scored.path("scores.parquet"),
                "seed": _seed(kitchen, number),
                **settings.prefixed("optimise"),
            },
        )
        name, adapter = f"{run.job.id}-r{number}", optimised.path("adapter")
    assert adapter is not None
    return name, adapter


def _evaluate(kitchen: Kitchen, snapshot: Finished, reward: str | None, name: str, adapter: str) -> Finished:
    settings = kitchen.settings
    champion = kitchen.facts["champion"]
    return kitchen.run.stage(
        "evaluate",
        "evaluate",
        {
            "engines": list(settings.engines),
            "base_model": settings.model,
            "candidate": {"name": name, "adapter": adapter},
            "champion": {"name": champion, "adapter": kitchen.artifact(kitchen.facts["champion_path"])},
            "prompts": snapshot.path("prompts.parquet"),
            "reward": reward,
            "max_tokens": settings.max_tokens,
            "min_prompts": settings.min_holdout_prompts,
            "seed": _seed(kitchen, 0),
            **settings.prefixed("evaluate"),
        },
    )


def _need_prompts(kitchen: Kitchen, snapshot: Finished) -> None:
    settings, metrics = kitchen.settings, snapshot.metrics
    have, held_out = metrics["prompts"], metrics["holdout_prompts"]
    if have < settings.min_prompts or held_out < settings.min_holdout_prompts:
        raise NotEnough(
            f"There are {have} distinct prompts to learn from and {held_out} held out to measure on; an "
            f"update needs at least {settings.min_prompts} and {settings.min_holdout_prompts}. Chat more."
        )


def _need_reward(version: str | None) -> None:
    if version is None:
        raise NotEnough("There is no reward model yet. Start a job of the kind 'cycle' or 'reward' first.")


def _seed(kitchen: Kitchen, number: int) -> int:
    """Another seed for each job and round, the same when a job is taken up again."""
    return (kitchen.settings.seed + int(kitchen.run.job.created) * 31 + number) % 2**20


def _sentences(reasons: list[str]) -> str:
    return "; ".join(reasons)
