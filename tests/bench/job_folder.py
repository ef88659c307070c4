"""What the gate saw of a candidate, read from the job's folder: `evaluate`'s metrics and replies.

The gold score of the very replies that the judge compared tells whether the gate was right.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.exam import Estimate, difference, mean_gold, win_rate
from tests.bench.gold import Scorer, closes_with, contains

Side = dict[int, list[str]]


@dataclass(frozen=True)
class Evidence:
    """`gold`: the candidate's win rate over the champion by the gold score. The others, where asked for: the
    shares of the replies of (candidate, champion), and by how much they differ."""

    metrics: dict[str, Any]
    gold: Estimate
    shares: tuple[float, float] | None = None
    moved: Estimate | None = None


def read_evidence(
    home: Path, job_id: str, score: Scorer, closing: str | None = None, phrase: str | None = None
) -> Evidence | None:
    """None where the job came to no evaluation, or its folder is not on this machine."""
    folder = next((home / "jobs" / job_id).glob("*-evaluate"), None)
    if folder is None or not (folder / "DONE").exists():
        return None
    metrics = json.loads((folder / "metrics.json").read_text())
    candidate, champion = sides(json.loads((folder / "replies.json").read_text()))
    gold = win_rate(candidate, champion, score)
    if closing is None and phrase is None:
        return Evidence(metrics, gold)

    def sought(text: str) -> float:
        return float(closes_with(closing, text) if closing is not None else contains(str(phrase), text))

    shares = tuple(mean_gold(side, sought).value for side in (candidate, champion))
    return Evidence(metrics, gold, (shares[0], shares[1]), difference(candidate, champion, sought))


def sides(rows: Sequence[dict[str, Any]]) -> tuple[Side, Side]:
    """The candidate's replies and the champion's, by prompt. They come prompt by prompt, all of the
    candidate's first: where the first prompt comes back, the champion's begin."""
    prompts = [json.dumps(row["messages"], sort_keys=True) for row in rows]
    back = [n for n in range(1, len(rows)) if prompts[n] == prompts[0] != prompts[n - 1]]
    border = back[0] if back else len(rows) // 2
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    found: tuple[Side, Side] = ({}, {})
    for n, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
        found[n >= border].setdefault(numbers[prompt], []).append(row["reply"])
    return found


def gated(home: Path) -> Iterator[Path]:
    """Folders of a home's jobs that trained a reward model and came to the gate, oldest first."""
    for evaluated in sorted(home.glob("jobs/*/*-evaluate/DONE"), key=lambda path: path.stat().st_mtime):
        job = evaluated.parent.parent
        if list(job.glob("*-train_reward/DONE")):
            yield job


def stage_metrics(home: Path, job_id: str) -> dict[str, dict[str, Any]]:
    """Each finished stage's metrics.json, by the stage's folder."""
    return {
        path.parent.name: json.loads(path.read_text())
        for path in sorted((home / "jobs" / job_id).glob("*/metrics.json"))
        if (path.parent / "DONE").exists()
    }
