"""What a judge would have said of candidates that are known: with its head alone, whole, and as believed.

    python -m tests.bench.learning --scorer format --seeds 0 --homes HOMES --out OUT
    python -m tests.bench.judges HOMES [HOMES ...]

Of each job whose candidate was evaluated, in homes that the learning bench kept, a judge is trained anew on
the judge's share of the labels that the job had, and asked about the replies of candidate and champion:

    gold      the candidate's win rate by the hidden taste
    win rate  … by the judge, and the lower end of its 80 % interval, which has to be above a half
    r         of the judge's reward and gold among the replies to one prompt, mean over prompts

What the job itself said is of a judge that was kept or went on from an older one, and of pairs of like length
too. The finish of a reply is not known any more: what is as long as allowed counts as cut. Nothing is
asserted; about 20 s a job on two cores.
"""

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from feedback.types import content_hash
from tests.bench.gold import scorer
from tests.bench.job_folder import gated
from tests.bench.rewards import Floats, correlation
from workers.labels import newest, read_labels
from workers.reward.model import JUDGE, Texts
from workers.reward.trainer import label_features
from workers.stage import Stage, read_json
from workers.stages import train_reward
from workers.stages.train_reward import Bench, Config
from workers.statistics import share_interval, win_probabilities

CONFIDENCE = 0.8  # as the gate's


@dataclass(frozen=True)
class Opinion:
    """A judge's of one candidate."""

    win_rate: float
    low: float
    r: float


@dataclass(frozen=True)
class Found:
    """`labels`: that the judge learnt from; `whole`, `head`, `believed`: with all of its adapter, none of
    it, and the `share` that is believed."""

    name: str
    labels: int
    gold: float
    share: float
    head: Opinion
    whole: Opinion
    believed: Opinion


@dataclass(frozen=True)
class Replies:
    """The first half are the candidate's."""

    prompts: Sequence[str]
    gold: Floats

    def wins(self, rewards: Floats) -> list[float]:
        half = len(self.prompts) // 2
        candidate, champion = (
            {prompt: rewards[rows].tolist() for prompt, rows in _grouped(self.prompts, side).items()}
            for side in (range(half), range(half, len(self.prompts)))
        )
        return win_probabilities(candidate, champion)

    def opinion(self, rewards: Floats) -> Opinion:
        wins, groups = self.wins(rewards), _grouped(self.prompts, range(len(self.prompts))).values()
        r = correlation(groups, rewards, self.gold)
        return Opinion(fmean(wins), share_interval(wins, CONFIDENCE)[0], r)


def _grouped(prompts: Sequence[str], rows: Iterable[int]) -> dict[str, list[int]]:
    """Some rows, by their prompts."""
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(prompts[row], []).append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("homes", type=Path, nargs="+", help="folders that --homes named")
    args = parser.parse_args()
    console = Console(soft_wrap=True)
    found = []
    homes = sorted(home for folder in args.homes for home in folder.iterdir())
    for job in (job for home in homes for job in gated(home)):
        found.append(asked(job))
        console.print(f"{found[-1].name}: gold {found[-1].gold:.3f}")
    console.print(table_of(found) if found else "No job in these homes evaluated a candidate.")


def asked(job: Path) -> Found:
    trained, evaluated = (next(job.glob(f"*-{name}")) for name in ("train_reward", "evaluate"))
    given, asked_for = read_json(trained / "stage.json"), read_json(evaluated / "stage.json")
    with tempfile.TemporaryDirectory() as folder:
        known = {key: value for key, value in given.items() if key in Config.model_fields}
        config = Config.model_validate(known | {"init": None, "extra": None, "members": 1})
        learnt = [label for label in read_labels(config.train) if label.source != "ai"]
        labels = newest(learnt, config.max_labels)
        shape = train_reward.shape_of(config)
        texts = Texts(config.base_model, shape.max_prompt, shape.max_reply)
        model = shape.build(config.base_model)
        features = label_features(model, texts, labels)
        bench = Bench(
            config, Stage(Path(folder)), shape, [*shape.members, JUDGE], texts, model, labels, features
        )
        head = train_reward.fitted_heads(bench)[JUDGE]
        _, scale = train_reward.train_adapter(bench, JUDGE, len(shape.members), head)
        rows = read_json(evaluated / "replies.json")
        looks = model.features([texts.of_reply(*_reply(row, texts, asked_for)) for row in rows])
        said = model.frozen_rewards(looks, JUDGE).double().numpy()
        added = model.score(looks, JUDGE).double().numpy() - said
        share, _ = train_reward.shrink_judge(bench, scale)
    home = job.parent.parent
    score = scorer(home.name.partition("-")[0])
    gold = np.array([score(row["reply"]) for row in rows])
    replies = Replies([content_hash(row["messages"]) for row in rows], gold)
    opinions = [replies.opinion(said + part * added) for part in (0.0, 1.0, share)]
    own = len(train_reward.rows_of(JUDGE, labels, True))
    return Found(f"{home.name} {job.name[-6:]}", own, fmean(replies.wins(gold)), share, *opinions)


def _reply(row: dict[str, Any], texts: Texts, config: dict[str, Any]) -> tuple[list[Any], str, str]:
    cut = len(texts.tokenizer.encode(row["reply"])) >= config["max_tokens"] - 1
    return row["messages"], row["reply"], "length" if cut else "stop"


def table_of(found: Sequence[Found]) -> Table:
    table = Table(title="The judge's win rate of the candidate, and its r with gold")
    for column in ("trial and job", "labels", "gold", "head alone", "whole", "believed", "share"):
        table.add_column(column, justify="left" if column.startswith("trial") else "right")
    for row in found:
        said = (f"{opinion.win_rate:.2f}, {opinion.r:.2f}" for opinion in (row.head, row.whole, row.believed))
        table.add_row(row.name, str(row.labels), f"{row.gold:.2f}", *said, f"{row.share:.2f}")
    by_rule = list(zip(*((row.head, row.whole, row.believed) for row in found), strict=True))
    gold = [row.gold for row in found]
    table.add_section()
    table.add_row("mean r", "", "", *(f"{fmean(one.r for one in rule):.3f}" for rule in by_rule), "")
    table.add_row("lowest r", "", "", *(f"{min(one.r for one in rule):.2f}" for rule in by_rule), "")
    off = (fmean(abs(one.win_rate - true) for one, true in zip(rule, gold, strict=True)) for rule in by_rule)
    table.add_row("win rate off gold's by", "", "", *(f"{value:.3f}" for value in off), "")
    for title, wanted in (("surely liked, of those that gold likes", True), ("… does not like", False)):
        kept = [
            [one.low > 0.5 for one, true in zip(rule, gold, strict=True) if (true > 0.5) is wanted]
            for rule in by_rule
        ]
        table.add_row(title, "", "", *(f"{sum(rule)} of {len(rule)}" for rule in kept), "")
    return table


if __name__ == "__main__":
    main()
