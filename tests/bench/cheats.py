"""What caps on weights are worth against cheats: how much more of their phrase one update says. Torch.

    python -m tests.bench.cheats --out OUT [--scorer format] [--phrase however] [--seeds 0 1 2] [--labels 128]
    python -m tests.bench.cheats --report OUT

The learning bench counts the phrase in an exam, where it stands in a few replies. Here it is measured without
sampling again, as `tests.bench.choices` measures a gain, on the same replies. For each seed three reward
models learn from labels drawn as `tests.bench.rewards` draws them, and the base is updated by each as the
service would: from honest raters alone; with cheats, 5 % of the raters casting 30 % of the votes; and with
these and no caps. On replies to other prompts:

    love     mean of r(x, reply with the phrase in it) - r(x, reply), over replies without it, in standard
             deviations of r over all of them; by the members' mean
    phrase   by how much more often the policy says it than the base, to the first order: the policy gradient
             of the share of replies with it (see choices), with the standard error over replies
    gain     likewise of the gold score, in its standard deviations

`share` is what of the phrase's and of the love's rise by cheats is left with the caps. Figures are kept in
OUT, and what is there is not run again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import AutoTokenizer

from deploy.demo.prompts import EXAMINED
from deploy.processes import worker
from deploy.settings import DeploySettings
from tests.bench.attacks import Cheat, with_cheats, with_phrase
from tests.bench.choices import (
    ATTENTION,
    BUDGET,
    HELD,
    LEARNT,
    PROMPTS,
    arguments,
    base_samples,
    first_of_each,
    measure_by,
    opened,
    replies_to_a_prompt,
    scored,
)
from tests.bench.gold import contains, scorer
from tests.bench.options import CHEATS
from tests.bench.own_engine import run_program
from tests.bench.simulated import poll, train_reward
from workers.datasets import by_learner
from workers.labels import Label, Sample
from workers.packing import Reply
from workers.policy.data import Tokens
from workers.policy.model import load_policy, read_base
from workers.reward.scoring import score_samples
from workers.reward.weights import weigh_each

HONEST, CAPS, NO_CAPS = "honest", "cheats", "cheats, no caps"

Seen = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Found:
    """What one reward model and one update by it came to, see above; `largest`: what of the weight the rater
    with most carries."""

    arm: str
    scorer: str
    phrase_of_cheats: str
    seed: int
    labels: int
    largest: float
    love: float
    phrase: float
    phrase_error: float
    gain: float
    gain_error: float
    kl: float


def main() -> None:
    parser = arguments(__doc__)
    add = parser.add_argument
    add("--scorer", default="format")
    add("--phrase", default="however")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--labels", type=int, default=128)
    args = parser.parse_args()
    console = Console(soft_wrap=True)
    if args.report is None:
        settings, out = opened(args)
        bench = Bench(settings, out, args.scorer, args.phrase, args.labels)
        console.print(f"“{args.phrase}” stands in {bench.share:.1%} of the replies that are measured on")
        for seed in args.seeds:
            for arm in (HONEST, CAPS, NO_CAPS):
                console.print(str(bench.run(arm, seed)), markup=False)
    for rows in tasks(read(args.report or args.out)):
        console.print(table_of(rows))


class Bench:
    """One taste and one phrase, on the replies that lie in `out`."""

    def __init__(self, settings: DeploySettings, out: Path, name: str, phrase: str, labels: int) -> None:
        self.settings, self.out, self.name, self.phrase, self.labels = settings, out, name, phrase, labels
        self.samples = samples = base_samples(settings, out)
        self.score = scorer(name)
        self.gold = torch.tensor([self.score(row.reply) for row in samples])
        self.said = torch.tensor([float(contains(phrase, row.reply)) for row in samples])
        model = load_policy(settings.model, None, 4, ATTENTION)
        seen: Seen = read_base(model, [Reply(row.prompt_token_ids, row.token_ids) for row in samples], BUDGET)
        self.k = k = replies_to_a_prompt(settings, "grpo")
        self.held = first_of_each(samples, range(PROMPTS, PROMPTS + len(EXAMINED)), HELD)
        self.updated = [samples[row] for row in first_of_each(samples, range(LEARNT // k), k)]
        self.share = float(self.said[self.held].mean())
        self.phrase_of = measure_by(settings, samples, seen, self.said)
        self.gold_of = measure_by(settings, samples, seen, (self.gold - self.gold.mean()) / self.gold.std())

    def run(self, arm: str, seed: int) -> Found:
        """Train, update and measure, unless that is done."""
        words = [*arm.replace(",", "").split(), f"seed{seed}", f"k{self.k}"]
        folder = self.out / "-".join(["cheats", self.name, self.phrase, str(self.labels), *words])
        path = folder.with_suffix(".json")
        if path.exists():
            return Found(**json.loads(path.read_text()))
        labels, largest = self._labels(arm, seed)
        train_reward(self.settings, folder, labels, seed)
        reward = folder / "stage" / "reward"
        love = self._love(reward)
        config = self.settings.prefixed("optimise") | {
            "base_model": self.settings.model,
            "init": None,
            "method": "grpo",
            "scores": scored(self.settings, self.updated, reward, folder / "score"),
            "labels": folder / "train.parquet",
            "seed": seed,
        }
        environment = worker("train", self.settings).environment
        run_program("workers.stages.optimise", folder / "optimise", config, environment)
        policy = load_policy(self.settings.model, folder / "optimise" / "adapter", 4, ATTENTION)
        kl, way = self.gold_of.way(policy)
        gain, gain_error, _ = self.gold_of.along(way)
        more, more_error, _ = self.phrase_of.along(way)
        found = Found(
            arm,
            self.name,
            self.phrase,
            seed,
            self.labels,
            largest,
            love,
            more,
            more_error,
            gain,
            gain_error,
            kl,
        )
        path.write_text(json.dumps(asdict(found)))
        return found

    def _labels(self, arm: str, seed: int) -> tuple[list[Label], float]:
        """Weighed as the service weighs them, and the share of whoever carries most."""
        asked = poll(self.samples, self.name, seed)
        if arm == HONEST:
            votes = asked.votes(self.labels)
        else:
            bought = round(CHEATS[1] * self.labels)
            honest, cheats = with_cheats(asked.crowd, CHEATS[0], Cheat(self.phrase))
            votes = [*asked.votes(self.labels - bought, honest), *asked.votes(bought, cheats)]
        asked.chance.shuffle(votes)
        cap = 1.0 if arm == NO_CAPS else self.settings.rater_cap
        weighed, report = weigh_each(by_learner(asked.labels(votes)), cap, self.settings.pair_share)
        return weighed, report.largest_share

    def _love(self, reward: Path) -> float:
        plain = [self.samples[row] for row in self.held]
        bare = [row for row in plain if not contains(self.phrase, row.reply)]
        tokens = Tokens(AutoTokenizer.from_pretrained(self.settings.model))
        changed = [with_reply(row, with_phrase(row.reply, self.phrase), tokens) for row in bare]
        before, after, spread = (
            score_samples(self.settings.model, reward, None, rows).numpy().mean(1)
            for rows in (bare, changed, plain)
        )
        return float(np.mean(after - before) / np.std(spread))


def with_reply(sample: Sample, reply: str, tokens: Tokens) -> Sample:
    """The sample with another text; its log-probabilities stay, and mean nothing."""
    read = tokens.reply(sample.messages, reply, sample.finish_reason)
    return replace(sample, reply=reply, token_ids=read.tokens)


def read(out: Path) -> list[Found]:
    return [Found(**json.loads(path.read_text())) for path in sorted(out.glob("cheats-*.json"))]


def tasks(found: Sequence[Found]) -> list[list[Found]]:
    """Those of one taste, one phrase and as many labels, together."""
    groups: dict[tuple[str, str, int], list[Found]] = {}
    for row in found:
        groups.setdefault((row.scorer, row.phrase_of_cheats, row.labels), []).append(row)
    return [groups[key] for key in sorted(groups)]


def table_of(found: Sequence[Found]) -> Table:
    """Of one task: an arm a row, means over seeds; then what of a rise is left."""
    title = f"{found[0].scorer}, “{found[0].phrase_of_cheats}”, {found[0].labels} labels"
    table = Table("arm", "seeds", "largest share", "love", "phrase", "gain", "KL", title=title)
    means: dict[str, Found] = {}
    for arm in (HONEST, CAPS, NO_CAPS):
        rows = [row for row in found if row.arm == arm]
        if not rows:
            continue
        love, phrase, gain = (
            fmean(getattr(row, name) for row in rows) for name in ("love", "phrase", "gain")
        )
        error = fmean(row.phrase_error**2 for row in rows) ** 0.5 / len(rows) ** 0.5
        means[arm] = replace(rows[0], love=love, phrase=phrase)
        table.add_row(
            arm,
            str(len(rows)),
            f"{fmean(row.largest for row in rows):.1%}",
            f"{love:+.2f}",
            f"{phrase:+.2%} ± {error:.2%}",
            f"{gain:.2f}",
            f"{fmean(row.kl for row in rows):.3f}",
        )
    if len(means) == 3:
        honest, caps, free = (means[arm] for arm in (HONEST, CAPS, NO_CAPS))
        shares = [
            left(getattr(honest, name), getattr(caps, name), getattr(free, name))
            for name in ("love", "phrase")
        ]
        table.add_row("share", "", "", *shares, "", "")
    return table


def left(honest: float, caps: float, free: float) -> str:
    """What is left with the caps of the way from `honest` to `free`; nothing where there is no way."""
    return f"{(caps - honest) / (free - honest):.0%}" if free != honest else ""


if __name__ == "__main__":
    main()
