"""How many members, and how careful a reward: which of them orders replies as people would? Torch.

    python -m tests.bench.rewards --out OUT [--scorer length sentiment] [--seeds 0 1 2] [--labels 128 512]
    python -m tests.bench.rewards --report OUT

Labels are drawn from a gold score as the learning bench's raters draw them, half thumbs and half pairs of the
base's replies, which are those of `tests.bench.choices` and kept in OUT. The stage that trains reward models
learns from them, four members and the judge at once. Measured is on eight replies to each of 84 other
prompts:

    accuracy     share of the pairs to one prompt, of unequal gold, that the reward orders as gold does, for
                 the mean of the first M members less λ times their standard deviation
    correlation  Pearson's r of reward and gold among the replies to one prompt, mean over prompts: by it goes
                 what a policy gains a step from following the reward

Figures are kept in OUT, and what is there is not run again.
"""

import argparse
import json
import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, pstdev, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from deploy.demo_prompts import EXAMINED
from deploy.processes import worker
from deploy.settings import DeploySettings
from tests.bench.choices import HELD, PROMPTS, base_samples, first_of_each
from tests.bench.gold import scorer
from tests.bench.own_engine import run_program
from tests.bench.raters import Ballot, Reply, Taste, ballots, people
from workers.labels import Label, Sample, by_prompt, write_labels
from workers.reward_model import JUDGE, member_names
from workers.scoring import score_samples

MEMBERS = (1, 2, 4)
CAUTION = (0.0, 0.5, 1.0)  # λ
SPREAD, TEMPERATURE, RATERS = 0.5, 0.5, 60  # as in tests.bench.trial.Plan

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """One reward model of one scorer; `seconds` of the stage that trained all its members."""

    scorer: str
    labels: int
    seed: int
    members: int
    caution: float
    accuracy: float
    correlation: float
    judge: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("choices-bench"))
    add("--model", help="base model, a folder; default: the service's")
    add("--scorer", nargs="+", default=["length", "sentiment"])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--labels", type=int, nargs="+", default=[128, 512])
    add("--report", type=Path, help="only print what lies in this folder")
    args = parser.parse_args()
    console = Console(soft_wrap=True)
    if args.report is None:
        settings = DeploySettings(**({"model": args.model} if args.model else {}))
        out: Path = args.out.resolve()
        out.mkdir(parents=True, exist_ok=True)
        samples = base_samples(settings, out)
        for name in args.scorer:
            for labels in args.labels:
                for seed in args.seeds:
                    run(settings, samples, name, labels, seed, out)
                    console.print(f"{name}: {labels} labels, seed {seed}")
    console.print(table_of(read(args.report or args.out)))


def run(
    settings: DeploySettings, samples: Sequence[Sample], name: str, count: int, seed: int, out: Path
) -> None:
    """Train a reward model and measure it, unless that is done."""
    folder = out / f"reward-{name}-{count}-seed{seed}"
    path = folder.with_suffix(".json")
    if path.exists():
        return
    score = scorer(name)
    gold = np.array([score(sample.reply) for sample in samples])
    learnt = first_of_each(samples, range(PROMPTS), HELD)
    chance = random.Random(f"{name} {seed}")
    taste = Taste(score, fmean(gold[learnt].tolist()), TEMPERATURE * pstdev(gold[learnt].tolist()))
    crowd = people(RATERS, taste, 0.0, SPREAD, seed)
    asked = [samples[row] for row in learnt]
    prompts = sorted({str(sample.messages[-1]["content"]) for sample in asked})
    labels = drawn(asked, ballots(crowd, prompts, count, 0.5, chance), chance)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
    folder.mkdir()
    write_labels(folder / "train.parquet", labels)
    write_labels(folder / "holdout.parquet", [])
    config = settings.prefixed("reward") | {
        "base_model": settings.model,
        "init": None,
        "train": folder / "train.parquet",
        "holdout": folder / "holdout.parquet",
        "members": max(MEMBERS),
        "seed": seed,
    }
    metrics = run_program(
        "workers.stages.train_reward", folder / "stage", config, worker("train", settings).environment
    )
    held = first_of_each(samples, range(PROMPTS, PROMPTS + len(EXAMINED)), HELD)
    names = [*member_names(max(MEMBERS)), JUDGE]
    rewards = (
        score_samples(settings.model, folder / "stage" / "reward", names, [samples[row] for row in held])
        .numpy()
        .astype(np.float64)
    )
    measured = Measured([samples[row] for row in held], gold[held])
    judge, _ = measured(rewards[:, -1])
    found = [
        Found(
            name,
            count,
            seed,
            members,
            caution,
            *measured(careful(rewards[:, :members], caution)),
            judge,
            sum(metrics["seconds"].values()),
        )
        for members in MEMBERS
        for caution in (CAUTION if members > 1 else CAUTION[:1])
    ]
    path.write_text(json.dumps([asdict(row) for row in found]))


def drawn(samples: Sequence[Sample], votes: Iterable[Ballot], chance: random.Random) -> list[Label]:
    """What these votes would say of replies to their prompts: thumbs, corrections and blind pairs, each vote
    in a conversation of its own."""
    groups = {group[0].messages[-1]["content"]: group for group in by_prompt(samples, samples).values()}
    labels = []
    for number, ballot in enumerate(votes):
        group, mind = groups[ballot.prompt], ballot.mind
        sides = ballot.dice.sample(group, min(len(group), max(2, mind.looks)))
        seen = [_seen(side) for side in sides]
        told = {
            "messages": sides[0].messages,
            "rater": ballot.rater,
            "conversation": f"conv-{chance.random()}",
            "time": float(number),
        }
        if ballot.blind:
            a, b = sides[:2]
            winner = mind.choose(seen[0], seen[1], ballot.dice)
            if winner == "both_bad":
                labels += [_thumb(side, False, told) for side in (a, b)]
            else:
                labels.append(
                    _better(a.reply, b, told, {"a": 1.0, "b": 0.0}.get(winner, 0.5), a.finish_reason)
                )
            continue
        shown = mind.pick(seen[: mind.looks])
        thumb = mind.rate(seen[shown], ballot.dice)
        labels.append(_thumb(sides[shown], thumb.rating == "up", told))
        if thumb.correction:
            labels.append(_better(thumb.correction, sides[shown], told, 1.0, "stop"))
    return labels


def _seen(sample: Sample) -> Reply:
    return Reply(sample.reply, sample.finish_reason == "stop")


def _thumb(sample: Sample, up: bool, told: dict[str, Any]) -> Label:
    return Label("thumb", a=sample.reply, a_finish=sample.finish_reason, b=None, target=float(up), **told)


def _better(a: str, b: Sample, told: dict[str, Any], target: float, finish: str) -> Label:
    finishes = {"a_finish": finish, "b_finish": b.finish_reason}
    return Label("comparison", a=a, b=b.reply, target=target, **finishes, **told)


def careful(rewards: Floats, caution: float) -> Floats:
    """mean - λ·std over members, (n,) of (n, members)."""
    found: Floats = rewards.mean(1) - caution * rewards.std(1)
    return found


class Measured:
    """How a reward of the samples fits their gold."""

    def __init__(self, samples: Sequence[Sample], gold: Floats) -> None:
        self._groups = list(by_prompt(samples, list(range(len(samples)))).values())
        self._gold = gold

    def __call__(self, reward: Floats) -> tuple[float, float]:
        """Accuracy and correlation."""
        gold = self._gold
        pairs = [
            (reward[a] - reward[b]) * (gold[a] - gold[b])
            for rows in self._groups
            for a, b in combinations(rows, 2)
            if gold[a] != gold[b]
        ]
        return fmean(float(product > 0) for product in pairs), correlation(self._groups, reward, gold)


def correlation(groups: Iterable[Sequence[int]], reward: Floats, gold: Floats) -> float:
    """Pearson's r within each group of rows, mean over those in which both vary."""
    return fmean(
        float(np.corrcoef(reward[rows], gold[rows])[0, 1])
        for rows in map(list, groups)
        if gold[rows].std() > 0 and reward[rows].std() > 0
    )


def read(out: Path) -> list[Found]:
    return [
        Found(**row) for path in sorted(out.glob("reward-*.json")) for row in json.loads(path.read_text())
    ]


def table_of(found: Sequence[Found]) -> Table:
    """M and λ a row; for each scorer and number of labels the means over seeds, ± their standard error."""
    tasks = sorted({(row.scorer, row.labels) for row in found})
    table = Table("members", "λ")
    for name, labels in tasks:
        table.add_column(f"{name}, {labels} labels: accuracy")
        table.add_column("correlation")
    for members, caution in sorted({(row.members, row.caution) for row in found}):
        cells = []
        for task in tasks:
            rows = [
                row
                for row in found
                if (row.scorer, row.labels) == task and (row.members, row.caution) == (members, caution)
            ]
            cells += [_mean([row.accuracy for row in rows]), _mean([row.correlation for row in rows])]
        table.add_row(str(members), f"{caution:g}", *cells)
    alone = [row for row in found if row.members == 1]
    judges = [_mean([row.judge for row in alone if (row.scorer, row.labels) == task]) for task in tasks]
    table.add_row("judge", "", *(cell for judge in judges for cell in (judge, "")))
    return table


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    error = f" ± {stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{error}"


if __name__ == "__main__":
    main()
