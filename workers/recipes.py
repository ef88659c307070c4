"""What a job does: which stages, on what, and when it is over before the end.

`cycle` = the reward job, then the policy job, on one snapshot. The cursor moves last of all, and only past
labels of which a published reward model has learnt, all or as many as a snapshot draws: those of a job that
failed, was cancelled, or came to no better reward model are new to the next job again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from serving.jobs import Kind, State
from serving.methods import Method
from serving.registry import Registry
from workers import history
from workers.runner import Finished, Run
from workers.settings import WorkerSettings
from workers.steps import Kitchen, Rewarded, ask_judge, snapshot_feedback, update_policy, update_reward


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, and why it published no more than it did."""

    state: State
    reason: str | None = None


class NotEnough(Exception):
    """Too little feedback; the message says how much there is and how much is needed."""


def cook(run: Run, settings: WorkerSettings, registry: Registry) -> Outcome:
    """Run the recipe of the job's kind from wherever it is."""
    aliases, learning = registry.aliases(), registry.learning()
    reward_only = run.job.kind is Kind.reward  # asks a judge, if anyone, about the version that answers
    facts = run.facts(
        {
            "champion": aliases.champion,
            "champion_path": registry.policy(aliases.champion).path,
            "undecided": None if reward_only else history.undecided(aliases.champion, run.directory),
            "reward": aliases.reward,
            "reward_path": registry.reward(aliases.reward).path if aliases.reward else None,
            "cursor": learning.cursor,
            # Other stages would have other numbers, and what is finished would be done again.
            "constitution": str(settings.ai_constitution) if settings.ai_constitution else None,
            "judge": settings.ai_judge_model,
            "policy_rounds": settings.policy_rounds,
        }
    )
    kitchen = Kitchen(run, settings, registry, facts)
    try:
        return RECIPES[run.job.kind](kitchen)
    except NotEnough as error:
        return Outcome(State.skipped, str(error))


def _reward_job(kitchen: Kitchen) -> Outcome:
    kitchen.run.expected = 3 + 2 * kitchen.with_ai
    snapshot = snapshot_feedback(kitchen)
    _need_labels(kitchen, snapshot)
    rewarded = update_reward(kitchen, snapshot, ask_judge(kitchen, snapshot))
    _advance(kitchen, snapshot, rewarded)
    return Outcome(State.done, rewarded.why_not)


def _policy_job(kitchen: Kitchen) -> Outcome:
    kitchen.run.expected = 3 + kitchen.with_ai + 3 * kitchen.policy_rounds
    _need_reward(kitchen.facts["reward"])
    snapshot = snapshot_feedback(kitchen)
    _need_prompts(kitchen, snapshot)
    _need_for_method(kitchen, snapshot)
    live = kitchen.artifact(kitchen.facts["reward_path"])
    rewarded = Rewarded(None, live, False)
    return Outcome(State.done, update_policy(kitchen, snapshot, rewarded, ask_judge(kitchen, snapshot)))


def _cycle_job(kitchen: Kitchen) -> Outcome:
    kitchen.run.expected = 5 + kitchen.with_ai + 3 * kitchen.policy_rounds
    snapshot = snapshot_feedback(kitchen)
    _need_prompts(kitchen, snapshot)
    _need_labels(kitchen, snapshot)
    _need_for_method(kitchen, snapshot)
    ai = ask_judge(kitchen, snapshot)
    rewarded = update_reward(kitchen, snapshot, ai)
    if rewarded.directory is None:
        return Outcome(State.done, f"No policy update without a reward model: {rewarded.why_not}")
    updated = update_policy(kitchen, snapshot, rewarded, ai)
    reasons = [rewarded.why_not, updated]
    _advance(kitchen, snapshot, rewarded)
    return Outcome(State.done, ". ".join(reason for reason in reasons if reason) or None)


RECIPES: dict[Kind, Callable[[Kitchen], Outcome]] = {
    Kind.reward: _reward_job,
    Kind.policy: _policy_job,
    Kind.cycle: _cycle_job,
}


def _advance(kitchen: Kitchen, snapshot: Finished, rewarded: Rewarded) -> None:
    """Past what the members of a published version learnt from."""
    if rewarded.learnt:
        cursor, labels = snapshot.metrics["cursor"], snapshot.metrics["labels_given"]
        kitchen.registry.advance_cursor(cursor, labels, kitchen.run.lease)


def _need_prompts(kitchen: Kitchen, snapshot: Finished) -> None:
    settings, metrics = kitchen.settings, snapshot.metrics
    have, held_out = metrics["prompts"], metrics["holdout_prompts"]
    if have < settings.min_prompts or held_out < settings.min_holdout_prompts:
        raise NotEnough(
            f"There are {have} distinct prompts to learn from and {held_out} held out to measure on; an "
            f"update needs at least {settings.min_prompts} and {settings.min_holdout_prompts}. Chat more."
        )


def _need_labels(kitchen: Kitchen, snapshot: Finished) -> None:
    settings, have = kitchen.settings, snapshot.metrics["train"]
    if have < settings.min_labels:
        raise NotEnough(
            f"There are {have} labels to train on; a reward model needs at least {settings.min_labels} "
            "(THUMBWHEEL_MIN_LABELS). Rate more answers."
        )


def _need_for_method(kitchen: Kitchen, snapshot: Finished) -> None:
    """`dpo` learns from comparisons alone, `kto` from thumbs; a third of the conversations is the judge's."""
    method, have = kitchen.method, snapshot.metrics["policy"]
    if method is Method.dpo and not have["choices"]:
        raise NotEnough("dpo learns from people's choices between two answers, and there is none yet.")
    if method is Method.kto and not (have["up"] and have["down"]):
        raise NotEnough(
            f"kto learns from thumbs up and down; there are {have['up']} up and {have['down']} down so far."
        )


def _need_reward(version: str | None) -> None:
    if version is None:
        raise NotEnough("There is no reward model yet. Start a job of the kind 'cycle' or 'reward' first.")
