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

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from deploy.demo.prompts import EXAMINED
from deploy.settings import DeploySettings
from tests.bench.choices import HELD, PROMPTS, arguments, base_samples, first_of_each, opened
from tests.bench.gold import scorer
from tests.bench.simulated import poll, train_reward
from workers.labels import Sample, by_prompt
from workers.reward.model import JUDGE, member_names
from workers.reward.scoring import score_samples

MEMBERS = (1, 2, 4)
CAUTION = (0.0, 0.5, 1.0)  # λ

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
    parser = arguments(__doc__)
    add = parser.add_argument
    add("--scorer", nargs="+", default=["length", "sentiment"])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--labels", type=int, nargs="+", default=[128, 512])
    args = parser.parse_args()
    console = Console(soft_wrap=True)
    if args.report is None:
        settings, out = opened(args)
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
    asked = poll(samples, name, seed)
    metrics = train_reward(settings, folder, asked.labels(asked.votes(count)), seed, members=max(MEMBERS))
    measured_on = [
        samples[row] for row in first_of_each(samples, range(PROMPTS, PROMPTS + len(EXAMINED)), HELD)
    ]
    names = [*member_names(max(MEMBERS)), JUDGE]
    rewards = (
        score_samples(settings.model, folder / "stage" / "reward", names, measured_on)
        .numpy()
        .astype(np.float64)
    )
    score = scorer(name)
    measured = Measured(measured_on, np.array([score(sample.reply) for sample in measured_on]))
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
