"""How many members, and how careful a reward: which of them orders replies as people would? Torch.

    python -m tests.bench.rewards --out OUT [--scorer length sentiment] [--seeds 0 1 2] [--labels 128 512]
                                  [--members 1 2 4] [--depths 0.27 0.43]
    python -m tests.bench.rewards --report OUT

Labels are drawn from a gold score as the learning bench's raters draw them, half thumbs and half pairs of the
base's replies, which are those of `tests.bench.choices` and kept in OUT. The stage that trains reward models
learns from them, all members and the judge at once, on that share of the base's layers. Measured is on eight
replies to each of 84 other prompts:

    accuracy     share of the pairs to one prompt, of unequal gold, that the reward orders as gold does, for
                 the mean of the first M members less λ times their standard deviation
    correlation  Pearson's r of reward and gold among the replies to one prompt, mean over prompts: by it goes
                 what a policy gains a step from following the reward

Figures are kept in OUT, and what is there is not run again.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
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
from workers.stages.train_reward import Config

CAUTION = (0.0, 0.5, 1.0)  # λ

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """One reward model of one scorer; `depth`: the share of the base's layers that it reads; `judge`,
    `judge_r`: accuracy and correlation of the judge; `seconds` of the stage that trained all its members."""

    scorer: str
    labels: int
    seed: int
    depth: float
    members: int
    caution: float
    accuracy: float
    correlation: float
    judge: float
    judge_r: float
    seconds: float


def main() -> None:
    parser = arguments(__doc__)
    add = parser.add_argument
    add("--scorer", nargs="+", default=["length", "sentiment"])
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--labels", type=int, nargs="+", default=[128, 512])
    add("--members", type=int, nargs="+", default=[1, 2, 4])
    add("--depths", type=float, nargs="+", default=[Config.model_fields["depth"].default])
    args = parser.parse_args()
    console = Console(soft_wrap=True)
    if args.report is None:
        settings, out = opened(args)
        samples = base_samples(settings, out)
        for name, labels, seed, depth in product(args.scorer, args.labels, args.seeds, args.depths):
            run(settings, samples, name, labels, seed, depth, args.members, out)
            console.print(f"{name}: {labels} labels, seed {seed}, depth {depth:g}")
    console.print(table_of(read(args.report or args.out)))


def run(
    settings: DeploySettings,
    samples: Sequence[Sample],
    name: str,
    count: int,
    seed: int,
    depth: float,
    sizes: Sequence[int],
    out: Path,
) -> None:
    """Train a reward model of as many members as the largest of `sizes`, and measure it, unless that is
    done."""
    most = max(sizes)
    folder = out / f"reward-{name}-{count}-seed{seed}-depth{depth:g}"
    path = folder.with_name(f"{folder.name}.json")
    if path.exists():
        return
    asked = poll(samples, name, seed)
    labels = asked.labels(asked.votes(count))
    metrics = train_reward(settings, folder, labels, seed, members=most, depth=depth)
    measured_on = [
        samples[row] for row in first_of_each(samples, range(PROMPTS, PROMPTS + len(EXAMINED)), HELD)
    ]
    names = [*member_names(most), JUDGE]
    rewards = (
        score_samples(settings.model, folder / "stage" / "reward", names, measured_on)
        .numpy()
        .astype(np.float64)
    )
    score = scorer(name)
    measured = Measured(measured_on, np.array([score(sample.reply) for sample in measured_on]))
    judge = measured(rewards[:, -1])
    found = [
        Found(
            name,
            count,
            seed,
            depth,
            members,
            caution,
            *measured(careful(rewards[:, :members], caution)),
            *judge,
            sum(metrics["seconds"].values()),
        )
        for members in sorted(sizes)
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
    """Depth, M and λ a row; for each scorer and number of labels the means over seeds, ± their standard
    error."""
    tasks = sorted({(row.scorer, row.labels) for row in found})
    table = Table("depth", "members", "λ")
    for name, labels in tasks:
        table.add_column(f"{name}, {labels} labels: accuracy")
        table.add_column("correlation")
    kinds = sorted({(row.depth, row.members, row.caution) for row in found})
    for depth, members, caution in kinds:
        cells = []
        for task in tasks:
            rows = [
                row
                for row in found
                if (row.scorer, row.labels) == task
                and (row.depth, row.members, row.caution) == (depth, members, caution)
            ]
            cells += [
                mean_and_error([row.accuracy for row in rows]),
                mean_and_error([row.correlation for row in rows]),
            ]
        table.add_row(f"{depth:g}", str(members), f"{caution:g}", *cells)
    for depth in sorted({row.depth for row in found}):
        cells = []
        for task in tasks:
            each = {
                row.seed: row for row in found if (row.scorer, row.labels) == task and row.depth == depth
            }.values()
            cells += [
                mean_and_error([row.judge for row in each]),
                mean_and_error([row.judge_r for row in each]),
            ]
        table.add_row(f"{depth:g}", "judge", "", *cells)
    return table


def mean_and_error(values: Sequence[float]) -> str:
    if not values:
        return ""
    error = f" ± {stdev(values) / len(values) ** 0.5:.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{error}"


if __name__ == "__main__":
    main()
