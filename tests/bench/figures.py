"""From a trial's record to the figures of each cycle. Pure."""

import math
from dataclasses import dataclass
from typing import Any

from tests.bench.exam import Estimate, Paper, matched_win_rate, mean_gold, win_rate
from tests.bench.gold import contains, scorer
from tests.bench.trial import BASE, Cycle, Trial
from workers.statistics import Interval


@dataclass(frozen=True)
class Row:
    """After one cycle. `gold`, `win_rate`, `matched`, `kl_token` and `phrase` are of whoever answers then,
    `kl_token` in nats, `kl_reply` over whole replies; `members`, `judge` and `gold_there` are win rates of
    the cycle's candidate over the champion before, on the gate's replies, at `candidate_kl` nats a token.
    `fate`: accepted, rejected, or how the job ended without a candidate; `verdict` says why."""

    cycle: int
    plateau: bool
    champion: str
    gold: Estimate | None
    win_rate: Estimate | None
    matched: Estimate | None
    phrase: Estimate | None
    kl_token: float | None
    kl_reply: float | None
    members: float | None
    judge: float | None
    judge_interval: Interval | None
    gold_there: float | None
    candidate_kl: float | None
    fate: str
    verdict: str
    accepted: bool
    labels: int
    minutes: float
    seconds: dict[str, float]


def rows(trial: Trial) -> list[Row]:
    """One a cycle, and before them one of the base."""
    base = trial.papers.get(BASE)
    return [_base_row(trial, base), *(_row(trial, cycle, base) for cycle in trial.cycles)]


def gold_after(trial: Trial, cycle: int) -> Estimate | None:
    paper = trial.paper_after(cycle)
    return None if paper is None else mean_gold(paper.replies, scorer(trial.plan.scorer))


def win_rate_after(trial: Trial, cycle: int) -> Estimate | None:
    base, paper = trial.papers.get(BASE), trial.paper_after(cycle)
    if base is None or paper is None:
        return None
    return win_rate(paper.replies, base.replies, scorer(trial.plan.scorer))


def root(value: float | None) -> float | None:
    """Its square root; a KL that was sampled may come out a little below 0."""
    return None if value is None else math.sqrt(max(0.0, value))


def verdict_of(job: dict[str, Any], accepted: bool) -> str:
    """What became of the candidate, in a few words."""
    if accepted:
        return f"accepted: {job['policy']}" + (f" ({job['reason']})" if job["reason"] else "")
    if job["state"] != "done":
        return f"{job['state']}: {job['reason']}"
    return str(job["reason"] or "rejected")


def _base_row(trial: Trial, base: Paper | None) -> Row:
    return Row(
        cycle=0,
        plateau=False,
        champion=BASE,
        gold=gold_after(trial, 0),
        win_rate=None,
        matched=None,
        phrase=_phrase(trial, base),
        kl_token=0.0,
        kl_reply=0.0,
        members=None,
        judge=None,
        judge_interval=None,
        gold_there=None,
        candidate_kl=None,
        fate="",
        verdict="",
        accepted=False,
        labels=0,
        minutes=0.0,
        seconds={},
    )


def _row(trial: Trial, cycle: Cycle, base: Paper | None) -> Row:
    paper = trial.papers.get(cycle.champion)
    score = scorer(trial.plan.scorer)
    metrics: dict[str, Any] = cycle.evidence["metrics"] if cycle.evidence else {}
    interval = metrics.get("win_rate_interval")
    accepted = cycle.job["policy"] is not None
    return Row(
        cycle=cycle.number,
        plateau=cycle.plateau,
        champion=cycle.champion,
        gold=gold_after(trial, cycle.number),
        win_rate=win_rate_after(trial, cycle.number),
        matched=matched_win_rate(paper.replies, base.replies, score) if paper and base else None,
        phrase=_phrase(trial, paper),
        kl_token=paper.kl_base if paper else None,
        kl_reply=paper.kl_reply if paper else None,
        members=metrics.get("members_win_rate"),
        judge=metrics.get("win_rate"),
        judge_interval=(interval[0], interval[1]) if interval else None,
        gold_there=cycle.evidence["gold"]["value"] if cycle.evidence else None,
        candidate_kl=metrics.get("kl_base"),
        fate="accepted" if accepted else "rejected" if cycle.evidence else cycle.job["state"],
        verdict=verdict_of(cycle.job, accepted),
        accepted=accepted,
        labels=len(cycle.votes),
        minutes=cycle.minutes,
        seconds={stage["name"]: stage["seconds"] for stage in cycle.job["stages"]},
    )


def _phrase(trial: Trial, paper: Paper | None) -> Estimate | None:
    if paper is None or trial.plan.cheats is None:
        return None
    return mean_gold(paper.replies, lambda text: float(contains(trial.plan.phrase, text)))
