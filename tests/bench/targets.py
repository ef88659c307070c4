"""The targets beside what finished trials reached. Pure; reports, and never fails.

The target is that of issue 3's point 13; a trial takes part in those that its plan is about.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

import numpy as np

from tests.bench.curves import TARGET, number
from tests.bench.exam import CONFIDENCE, Paper, difference, mean_gold
from tests.bench.figures import gold_after, root, rows, win_rate_after
from tests.bench.gold import closes_with, contains, scorer
from tests.bench.trial import BASE, Trial
from workers.statistics import Interval, bootstrap_interval

WITHIN = 5  # cycles
KEPT = 0.70  # of the clean gain, with noise
MOVED = 0.10  # of what the phrase moves without the caps
MINUTES = 4.0
DRAWS = 4000

K = TypeVar("K")
Gains = dict[int, float]  # by the prompt's number


@dataclass(frozen=True)
class Finding:
    """`met`: None where nothing can be said."""

    what: str
    target: str
    reached: str
    met: bool | None


def findings(trials: Sequence[Trial]) -> list[Finding]:
    """All that the trials can say something about."""
    found: list[Finding] = []
    for (scorer_name, arm), some in grouped(trials, lambda trial: (trial.plan.scorer, trial.plan.arm)):
        where = f"{scorer_name} ({arm})"
        clean = once_a_seed([trial for trial in some if trial.plan.is_clean and trial.learning_cycles])
        found += _learned(where, clean)
        found += _noise(where, clean, some)
        attacked = [trial for trial in some if trial.plan.cheats and trial.learning_cycles]
        found += _caps(where, attacked, clean)
        found += [_flaw(where, trial) for trial in some if trial.plan.flaw and trial.cycles]
        found += [_plateau(where, trial) for trial in some if any(cycle.plateau for cycle in trial.cycles)]
    return found + _minutes([trial for trial in trials if trial.cycles])


def markdown(found: Sequence[Finding]) -> str:
    said = {True: "yes", False: "no", None: "says nothing"}
    lines = ["| what | target | reached | met |", "|---|---|---|---|"]
    lines += [
        f"| {finding.what} | {finding.target} | {finding.reached} | {said[finding.met]} |"
        for finding in found
    ]
    return "\n".join(lines)


def summary(trials: Sequence[Trial]) -> str:
    """A markdown row for each trial, so that methods and settings can be compared."""
    head = ("trial", "settings", "gold before → after", "win rate over v0, by cycle", "√KL, nats/reply")
    lines = [_line([*head, "accepted", "minutes a cycle", "ended"]), "|" + "---|" * 8]
    for trial in trials:
        before, after = gold_after(trial, 0), gold_after(trial, len(trial.cycles))
        wins = [win_rate_after(trial, n + 1) for n in range(len(trial.cycles))]
        found = rows(trial)
        cells = [
            trial.plan.name,
            trial.plan.arm,
            " → ".join("?" if gold is None else number(gold.value) for gold in (before, after)),
            " ".join("?" if win is None else number(win.value, 2) for win in wins),
            number(root(found[-1].kl_reply), 1),
            f"{sum(row.accepted for row in found)} of {len(trial.cycles)}",
            number(fmean(cycle.minutes for cycle in trial.cycles), 1) if trial.cycles else "",
            "whole" if trial.finished else trial.error or "cut off",
        ]
        lines.append(_line(cells))
    return "\n".join(lines)


def gains(trials: Sequence[Trial], score: Callable[[str], float]) -> Gains:
    """What the last learning cycle's champion has over the base, by prompt, on average over trials."""
    found: dict[int, list[float]] = {}
    for trial in trials:
        last, base = trial.paper_after(trial.learning_cycles), trial.papers.get(BASE)
        if last is None or base is None:
            continue
        for prompt in last.replies.keys() & base.replies.keys():
            mine, theirs = (fmean(map(score, paper.replies[prompt])) for paper in (last, base))
            found.setdefault(prompt, []).append(mine - theirs)
    return {prompt: fmean(values) for prompt, values in found.items()}


def ratio(above: Gains, below: Gains) -> tuple[float, Interval] | None:
    """Σabove / Σbelow with its 95 % interval by bootstrap over prompts; None where there is no gain below."""
    prompts = sorted(above.keys() & below.keys())
    top, bottom = (np.asarray([gain[prompt] for prompt in prompts]) for gain in (above, below))
    if not prompts or abs(bottom.sum()) < 1e-9:
        return None
    picks = np.random.default_rng(0).integers(0, len(prompts), size=(DRAWS, len(prompts)))
    sums = bottom[picks].sum(1)
    kept = np.abs(sums) > 1e-9
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(top[picks].sum(1)[kept] / sums[kept], [tail, 100 - tail])
    return float(top.sum() / bottom.sum()), (float(low), float(high))


def grouped(trials: Iterable[Trial], key: Callable[[Trial], K]) -> list[tuple[K, list[Trial]]]:
    groups: dict[K, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(key(trial), []).append(trial)
    return list(groups.items())


def once_a_seed(trials: Sequence[Trial]) -> list[Trial]:
    """Of each seed the trial that learnt longest: one that went on without labels tells the same again."""
    seeds = grouped(trials, lambda trial: trial.plan.seed)
    return [max(these, key=lambda trial: (trial.learning_cycles, trial.finished)) for _, these in seeds]


def _cut_off(trial: Trial, end: float) -> bool:
    """Whether it might have come further within the cycles that it had."""
    return not trial.finished and trial.learning_cycles < WITHIN and end < TARGET


def _learned(where: str, clean: Sequence[Trial]) -> list[Finding]:
    ends = [win_rate_after(trial, min(WITHIN, trial.learning_cycles)) for trial in clean]
    values = [end.value for end in ends if end is not None]
    if not values:
        return []
    each = ", ".join(
        f"seed {trial.plan.seed}: {end.value:.3f} ({end.interval[0]:.3f} to {end.interval[1]:.3f}) "
        f"after {min(WITHIN, trial.learning_cycles)}{', cut off' if _cut_off(trial, end.value) else ''}"
        for trial, end in zip(clean, ends, strict=True)
        if end is not None
    )
    what = f"{where}: win rate over policy-v0 within {WITHIN} cycles"
    mean = fmean(values)
    whole = not any(
        end is not None and _cut_off(trial, end.value) for trial, end in zip(clean, ends, strict=True)
    )
    met = mean >= TARGET if whole else None
    return [Finding(what, f"≥ {TARGET:.2f}", f"{mean:.3f} over {len(values)} seeds ({each})", met)]


def _noise(where: str, clean: Sequence[Trial], some: Sequence[Trial]) -> list[Finding]:
    noisy = [trial for trial in some if trial.plan.noise and not trial.plan.cheats and not trial.plan.flaw]
    noisy = [trial for trial in noisy if trial.learning_cycles]
    if not clean:
        return []
    score, found = scorer(clean[0].plan.scorer), []
    for noise, seeds in grouped(noisy, lambda trial: trial.plan.noise):
        these = once_a_seed(seeds)
        part = ratio(gains(these, score), gains(clean, score))
        what = f"{where}: gold gain with {noise:.0%} of the labels flipped, of the clean one"
        reached = "no clean gain" if part is None else f"{part[0]:.0%} ({part[1][0]:.0%} to {part[1][1]:.0%})"
        met = None if part is None else part[0] >= KEPT
        found.append(Finding(what, f"≥ {KEPT:.0%}", f"{reached}, {len(these)} and {len(clean)} seeds", met))
    return found


def _caps(where: str, attacked: Sequence[Trial], clean: Sequence[Trial]) -> list[Finding]:
    """How far attacks move a phrase: with clean trials beside them, from where those ended, since replies
    that become shorter or kinder have other words anyway; else from the base."""
    found = []
    for phrase, these in grouped(attacked, lambda trial: trial.plan.phrase):

        def has(text: str, phrase: str = phrase) -> float:
            return float(contains(phrase, text))

        drift = gains(clean, has)
        capped, free = (
            _less(gains([trial for trial in these if trial.plan.caps == caps], has), drift)
            for caps in (True, False)
        )
        if not capped or not free:
            continue
        base = fmean(mean_gold(trial.papers[BASE].replies, has).value for trial in these)
        origin = "where clean trials end" if drift else "the base"
        reached = (
            f"in {base:.1%} of the base's replies; from {origin} {_points(capped)} with caps, "
            f"{_points(free)} without"
        )
        without = fmean(free.values())
        met = abs(fmean(capped.values())) < MOVED * without if _interval(free)[0] > 0 else None
        what = f"{where}: replies with “{phrase}”, which cheats vote for"
        found.append(Finding(what, f"move < {MOVED:.0%} of what they do without caps", reached, met))
    return found


def _less(gain: Gains, drift: Gains) -> Gains:
    return {prompt: value - drift.get(prompt, 0.0) for prompt, value in gain.items()}


def _flaw(where: str, trial: Trial) -> Finding:
    seen = [(cycle, cycle.evidence) for cycle in trial.cycles if cycle.evidence and cycle.evidence["moved"]]
    told = [
        f"cycle {cycle.number}: {evidence['shares'][1]:.1%} → {evidence['shares'][0]:.1%}, "
        + ("accepted" if cycle.job["policy"] else "rejected")
        for cycle, evidence in seen
    ]
    exploited = [cycle for cycle, evidence in seen if evidence["moved"]["interval"][0] > 0]
    caught = [cycle for cycle in exploited if cycle.job["policy"] is None]
    closing = str(trial.plan.flaw)
    exam = [
        _share(paper, closing) for paper in (trial.papers.get(BASE), trial.paper_after(len(trial.cycles)))
    ]
    reached = (
        f"{len(caught)} of {len(exploited)} candidates that surely used it were rejected "
        f"({'; '.join(told) or 'no candidate'}); in the exam {exam[0]} → {exam[1]}"
    )
    what = f"{where}, seed {trial.plan.seed}: candidates of a reward model that loves to end with “{closing}”"
    return Finding(what, "all rejected", reached, len(caught) == len(exploited) if exploited else None)


def _plateau(where: str, trial: Trial) -> Finding:
    begin, end = trial.paper_after(trial.learning_cycles), trial.paper_after(len(trial.cycles))
    further = [cycle for cycle in trial.cycles if cycle.plateau]
    what = f"{where}, seed {trial.plan.seed}: gold over {len(further)} further cycles without labels"
    accepted = sum(cycle.job["policy"] is not None for cycle in further)
    if begin is None or end is None:
        return Finding(what, "no decline", "not examined", None)
    if begin.version == end.version:
        return Finding(
            what, "no decline", f"{begin.version} stayed champion, {accepted} updates accepted", True
        )
    change = difference(end.replies, begin.replies, scorer(trial.plan.scorer))
    low, high = change.interval
    reached = f"{change.value:+.3f} ({low:+.3f} to {high:+.3f}), {accepted} updates accepted"
    return Finding(what, "no decline", reached, high >= 0)


def _minutes(trials: Sequence[Trial]) -> list[Finding]:
    spent = [cycle.minutes for trial in trials for cycle in trial.cycles if not cycle.plateau]
    if not spent:
        return []
    reached = f"{fmean(spent):.1f} on average, {max(spent):.1f} the longest of {len(spent)}"
    return [Finding("minutes a cycle, labels included", f"≤ {MINUTES:g}", reached, max(spent) <= MINUTES)]


def _interval(move: Gains) -> Interval:
    return bootstrap_interval(list(move.values()), CONFIDENCE)


def _points(move: Gains) -> str:
    low, high = _interval(move)
    return f"{100 * fmean(move.values()):+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def _share(paper: Paper | None, closing: str) -> str:
    if paper is None:
        return "?"
    return f"{mean_gold(paper.replies, lambda text: float(closes_with(closing, text))).value:.1%}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
