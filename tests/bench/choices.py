"""Which method, and which settings of it, turn scored replies into the most of what they are scored for? One
update from the base for each choice, all on the same replies, measured without sampling again. Torch.

    python -m tests.bench.choices --out OUT [--scorer length sentiment] [--only NAME …] [--noise 0.5]
    python -m tests.bench.choices --out OUT --scorer length --reward OUT/reward-…/stage/reward
    python -m tests.bench.choices --report OUT

`dpo`, `kto` and the share of SFT learn from the labels that a reward model of `--reward` learnt from. Without
one, nobody has rated anything: the former are left out, and so is the share.

The base's replies are sampled once and kept in OUT; a choice learns from 256, as many to each prompt as
THUMBWHEEL_POLICY_K says (2, 4 or 8) or its method has by default, if it does not say otherwise; their reward
is the gold score and noise of `--noise` of its standard deviations, or what a reward model says that was
trained by tests.bench.rewards. Measured is on eight replies to each of 84 other prompts, by the gold score:

    gain     Σ_t A_t·(log π - log π_0)_t, mean over replies, in standard deviations of gold: the first-order
             gain of π over the base (the policy gradient theorem, Sutton et al. 1999). A_t is the whole gold
             score less a baseline V(s_t), which takes noise away and whatever V is no bias comes in. It is
             that of workers.policy.credit, fitted to all of the replies' gold scores, cross-fitted
    KL       of the base to π, nats a token, by k3
    aim      gain / √Σ_t (log π - log π_0)_t²: what of the way it went was in the direction of gold, at best
             1. A gain costs KL by the inverse of its square, so twice the aim is a quarter of the KL

A change of the mean of log π on what the base writes, -KL a token, is taken off first. The standard error is
that over replies. Beside them stands by how much less likely the gate's reference texts became. Where rewards
are gold and noise, nobody can tell what a reply on its way is worth: there credit goes by the base's states
and by style alone. Figures are kept in OUT by choice, and what is there is not run again: take another folder
for another model, noise or the service's other defaults.
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import AutoTokenizer

from deploy.demo.prompts import EXAMINED, RATED
from deploy.processes import worker
from deploy.settings import DeploySettings
from serving.engine import Engine, new_session
from serving.methods import Method
from tests.bench.gold import scorer
from tests.bench.own_engine import run_program, running_engine
from workers.labels import Prompt, Sample, Score, read_samples, write_samples, write_scores
from workers.methods.config import PACES
from workers.packing import Reply
from workers.policy.credit import fit_values, gae
from workers.policy.model import load_policy, read_base, reply_logprobs
from workers.policy.objectives import kl_k3
from workers.reward.style import looks
from workers.sampling import Sampling, sample_replies
from workers.steps import SPARED

LEARNT = 256  # replies
KS = (2, 4, 8)  # of these to a prompt
HELD = 8  # replies to a prompt that is measured on
PROMPTS = LEARNT // min(KS)
WHOLE = 1.0  # λ at which nothing hangs on how good the values are
BUDGET = 2048
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ON_LABELS = {"dpo", "kto"}
# A choice goes as far as its steps do, unless it is `bounded` and taken on as the service has it.
UNBOUNDED = {"max_kl_step": 9.0, "max_kl_base": 9.0, "max_nll_rise": 9.0, "reach": 0.0}

CHOICES: dict[str, dict[str, Any]] = {
    "grpo": {"method": "grpo"},
    "grpo, one advantage a reply": {"method": "grpo", "credit_decay": 1.0},
    "grpo, credit by states alone": {"method": "grpo", "credit_scores": False},
    "grpo, λ 0.95": {"method": "grpo", "credit_decay": 0.95},
    "grpo, λ 0.4": {"method": "grpo", "credit_decay": 0.4},
    "grpo, K 2": {"method": "grpo", "k": 2},
    "grpo, K 4": {"method": "grpo", "k": 4},
    "grpo, 128 replies": {"method": "grpo", "replies": 128},
    "grpo, 128 replies, batches of 16": {"method": "grpo", "replies": 128, "batch": 16},
    "rloo": {"method": "rloo"},
    "online_dpo": {"method": "online_dpo", "people": 0},
    "online_dpo, no chosen weight": {"method": "online_dpo", "people": 0, "chosen_weight": 0.0},
    "best_of_n": {"method": "best_of_n"},
    "dpo": {"method": "dpo"},
    "kto": {"method": "kto"},
    "grpo, bounded and taken on": {"method": "grpo", "bounded": True},
    "grpo, learning rate 2e-3": {"method": "grpo", "learning_rate": 2e-3},
    "grpo, learning rate 5e-4, 2 epochs": {"method": "grpo", "learning_rate": 5e-4, "epochs": 2},
    "grpo, plain 0": {"method": "grpo", "plain_weight": 0.0},
    "grpo, plain 2": {"method": "grpo", "plain_weight": 2.0},
    "grpo, plain 8": {"method": "grpo", "plain_weight": 8.0},
    "grpo, plain 2, learning rate 2e-3": {"method": "grpo", "plain_weight": 2.0, "learning_rate": 2e-3},
    "grpo, plain 1": {"method": "grpo", "plain_weight": 1.0},
    "grpo, no SFT": {"method": "grpo", "sft_weight": 0.0},
    "grpo, SFT 0.5": {"method": "grpo", "sft_weight": 0.5},
    "grpo, texts not restored": {"method": "grpo", "restores": 0},
    "grpo, plain 2, texts not restored": {"method": "grpo", "plain_weight": 2.0, "restores": 0},
    "grpo, β 0": {"method": "grpo", "beta": 0.0},
    "grpo, β 0.1": {"method": "grpo", "beta": 0.1},
    "grpo, ε 0.2": {"method": "grpo", "epsilon": 0.2},
    "grpo, rank 4": {"method": "grpo", "rank": 4},
    "grpo, upper quarter": {"method": "grpo", "top_layers": 0.25, "learning_rate": 2e-3},
    "grpo, all layers": {"method": "grpo", "top_layers": 1.0, "learning_rate": 5e-4},
    "grpo, all of attention": {"method": "grpo", "targets": ATTENTION, "learning_rate": 5e-4},
    "grpo, all of attention, all layers": {
        "method": "grpo",
        "targets": ATTENTION,
        "top_layers": 1.0,
        "learning_rate": 2.5e-4,
    },
}


@dataclass(frozen=True)
class Found:
    """What one choice came to; `k`: replies to a prompt; `seconds`: of the stage, its start included;
    `nll_rise`: how much less likely the gate's reference texts became, as a share."""

    choice: str
    scorer: str
    k: int
    seconds: float
    kl: float
    gain: float
    error: float
    aim: float
    nll_rise: float


@dataclass(frozen=True)
class Measure:
    """The replies that are measured on, what the base makes of them, and each token's credit for gold."""

    replies: list[Reply]
    base: list[Tensor]
    credit: list[Tensor]

    def __call__(self, model: Any) -> tuple[float, float, float, float]:
        """KL, gain with its standard error, and aim of the policy."""
        kl, way = self.way(model)
        return kl, *self.along(way)

    def way(self, model: Any) -> tuple[float, list[Tensor]]:
        """KL, and by how much more likely the policy makes each token than the base, their mean taken off."""
        prompts, tokens = [row.prompt for row in self.replies], [row.tokens for row in self.replies]
        mine = reply_logprobs(model, prompts, tokens, BUDGET)
        moved = [now - before for now, before in zip(mine, self.base, strict=True)]
        kl = float(kl_k3(torch.cat(moved)))
        return kl, [part + kl for part in moved]

    def along(self, way: Sequence[Tensor]) -> tuple[float, float, float]:
        """Gain with its standard error, and aim."""
        gains = torch.tensor([float(a @ b) for a, b in zip(self.credit, way, strict=True)])
        length = float(torch.stack([part.square().sum() for part in way]).mean().sqrt())
        gain = float(gains.mean())
        return gain, float(gains.std()) / len(gains) ** 0.5, gain / max(length, 1e-9)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--scorer", nargs="+", default=["length", "sentiment"])
    parser.add_argument("--only", nargs="+", choices=list(CHOICES), default=list(CHOICES), metavar="NAME")
    parser.add_argument("--noise", type=float, default=0.5)
    parser.add_argument("--reward", type=Path, help="a reward model's folder, to score instead")
    args = parser.parse_args()
    console = Console(soft_wrap=True)
    if args.report is None:
        run(args, console)
    console.print(table_of(read(args.report or args.out)))


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What the benches on these replies have in common."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, default=Path("choices-bench"))
    parser.add_argument("--model", help="base model, a folder; default: the service's")
    parser.add_argument("--report", type=Path, metavar="OUT", help="only print what lies in this folder")
    return parser


def opened(args: argparse.Namespace) -> tuple[DeploySettings, Path]:
    """The service's settings, with another model if one was given, and the folder, which is made."""
    out: Path = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    return DeploySettings(**({"model": args.model} if args.model else {})), out


def run(args: argparse.Namespace, console: Console) -> None:
    settings, out = opened(args)
    samples = base_samples(settings, out)
    model = load_policy(settings.model, None, 4, ATTENTION)
    seen = read_base(model, [Reply(row.prompt_token_ids, row.token_ids) for row in samples], BUDGET)
    del model
    for name in args.scorer:
        score = scorer(name)
        gold = torch.tensor([score(row.reply) for row in samples])
        gold = (gold - gold.mean()) / gold.std()
        measure = measure_by(settings, samples, seen, gold)
        label = name if args.reward is None else f"{name} by {args.reward.parents[1].name}"
        noisy = rewarded(gold, args.noise)
        scores: dict[tuple[int, int], Path] = {}
        for choice in args.only:
            k = CHOICES[choice].get("k") or replies_to_a_prompt(settings, CHOICES[choice]["method"])
            slug = re.sub(r"[^\w.]+", "-", choice)
            path = out / f"choice-{label}-{slug}-k{k}.json"
            on_labels = CHOICES[choice]["method"] in ON_LABELS or CHOICES[choice].get("sft_weight", 0) > 0
            if path.exists() or (on_labels and args.reward is None):
                continue
            folder = out / path.stem
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
            environment = worker("train", settings).environment
            config = settings.prefixed("optimise") | {
                "base_model": settings.model,
                "init": None,
                "max_nll_rise": SPARED * settings.evaluate_max_nll_rise,
                **CHOICES[choice],
            }
            if not config.pop("bounded", False):
                config |= UNBOUNDED
            config.pop("k", None)
            count = config.pop("replies", LEARNT)
            of = k, count
            if of not in scores:
                rows = first_of_each(samples, range(count // k), k)
                there = out / f"{label}-{k}{'' if count == LEARNT else f'-{count}'}"
                scores[of] = (
                    with_rewards(samples, rows, noisy, there)
                    if args.reward is None
                    else scored(settings, [samples[row] for row in rows], args.reward.resolve(), there)
                )
            config["scores"] = scores[of]
            if args.reward is None:
                config["sft_weight"] = 0.0  # nobody has rated anything
            else:
                config["labels"] = args.reward.resolve().parents[1] / "train.parquet"
            began = time.monotonic()
            metrics = run_program("workers.stages.optimise", folder, config, environment)
            seconds = time.monotonic() - began
            found = measure(load_policy(settings.model, folder / "adapter", 4, ATTENTION))
            path.write_text(json.dumps(asdict(Found(choice, label, k, seconds, *found, metrics["nll_rise"]))))
            console.print(f"{label}: {choice}: gain {found[1]:.2f} at KL {found[0]:.3f}, aim {found[3]:.3f}")


def replies_to_a_prompt(settings: DeploySettings, method: str) -> int:
    """K of a method, as the service would have it. SystemExit where the base was not sampled so often."""
    k = settings.policy_k or PACES[Method(method)].k
    if k not in KS:
        raise SystemExit(f"THUMBWHEEL_POLICY_K is {k}: here it may be {', '.join(map(str, KS))}")
    return k


def base_samples(settings: DeploySettings, out: Path) -> list[Sample]:
    """The base's replies to the demo's prompts: first those to learn from, then those to measure on. All K
    learn from the first prompts, and the smaller it is the more of them."""
    path = out / "samples.parquet"
    if not path.exists():
        (out / "engine").mkdir(exist_ok=True)
        with running_engine(settings, out / "engine") as (url, _):
            write_samples(path, asyncio.run(_sampled(url)))
    return read_samples(path)


async def _sampled(url: str) -> list[Sample]:
    texts = [*random.Random(0).sample(RATED, PROMPTS), *EXAMINED]
    prompts = [Prompt([{"role": "user", "content": text}], text, False) for text in texts]
    async with new_session() as session:
        engine = Engine(url, session)
        return [
            replace(sample, prompt_id=first + sample.prompt_id)
            for first, last, k in _counts()
            for sample in await sample_replies(
                [engine], "policy-v0", prompts[first:last], Sampling(k=k, max_tokens=80, concurrency=12 * k)
            )
        ]


def _counts() -> Iterator[tuple[int, int, int]]:
    """From prompt to prompt, how many replies to each."""
    first = 0
    for k in sorted(KS, reverse=True):
        yield first, LEARNT // k, k
        first = LEARNT // k
    yield PROMPTS, PROMPTS + len(EXAMINED), HELD


def rewarded(gold: Tensor, noise: float) -> list[float]:
    chance = torch.Generator().manual_seed(0)
    found: list[float] = (gold + noise * torch.randn(len(gold), generator=chance)).tolist()
    return found


def with_rewards(
    samples: Sequence[Sample], rows: Sequence[int], rewards: Sequence[float], stem: Path
) -> Path:
    """What a choice learns from: these rows with their rewards."""
    path = stem.with_name(f"{stem.name}.parquet")
    scores = [Score(rewards[row], 0.0, [rewards[row]]) for row in rows]
    write_scores(path, [samples[row] for row in rows], scores)
    return path


def scored(settings: DeploySettings, samples: Sequence[Sample], reward: Path, folder: Path) -> Path:
    """Samples with what a reward model makes of them, by the stage that scores."""
    path = folder / "scores.parquet"
    if not path.exists():
        shutil.rmtree(folder, ignore_errors=True)
        given = folder.with_name(f"{folder.name}.parquet")
        write_samples(given, samples)
        config = settings.prefixed("score") | {
            "base_model": settings.model,
            "reward": reward,
            "samples": given,
            "uncertainty": settings.uncertainty,
            "so_far": True,
        }
        run_program("workers.stages.score", folder, config, worker("train", settings).environment)
    return path


def measure_by(
    settings: DeploySettings, samples: Sequence[Sample], seen: Sequence[tuple[Tensor, Tensor]], gold: Tensor
) -> Measure:
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    style = [torch.tensor(looks(tokenizer.decode, row.token_ids)) for row in samples]
    prompts = [str(row.prompt_id) for row in samples]
    values, _ = fit_values([states for _, states in seen], style, gold, prompts, 0)
    rows = first_of_each(samples, range(PROMPTS, PROMPTS + len(EXAMINED)), HELD)
    return Measure(
        [Reply(samples[row].prompt_token_ids, samples[row].token_ids) for row in rows],
        [seen[row][0] for row in rows],
        [gae(values[row], float(gold[row]), WHOLE) for row in rows],
    )


def first_of_each(samples: Sequence[Sample], prompts: range, count: int) -> list[int]:
    """Rows of the first `count` replies to each of the prompts with these numbers."""
    found: dict[int, list[int]] = {}
    for row, sample in enumerate(samples):
        if sample.prompt_id in prompts:
            found.setdefault(sample.prompt_id, []).append(row)
    return [row for rows in found.values() for row in rows[:count]]


def read(out: Path) -> list[Found]:
    return [Found(**json.loads(path.read_text())) for path in sorted(out.glob("choice-*-k[0-9]*.json"))]


def table_of(found: Sequence[Found]) -> Table:
    """A choice and K a row, in the order of CHOICES; for each scorer its figures."""
    scorers = sorted({row.scorer for row in found})
    table = Table("choice", "K", "seconds")
    for name in scorers:
        for figure in ("gain", "KL", "aim", "plain text"):
            table.add_column(f"{name}: {figure}")
    known = {(row.choice, row.k) for row in found if row.choice in CHOICES}
    for choice, k in sorted(known, key=lambda each: (list(CHOICES).index(each[0]), each[1])):
        rows = {row.scorer: row for row in found if (row.choice, row.k) == (choice, k)}
        seconds = sum(row.seconds for row in rows.values()) / len(rows)
        cells = [cell for name in scorers for cell in _cells(rows.get(name))]
        table.add_row(choice, str(k), f"{seconds:.0f}", *cells)
    return table


def _cells(row: Found | None) -> tuple[str, str, str, str]:
    if row is None:
        return "", "", "", ""
    return f"{row.gain:.2f} ± {row.error:.2f}", f"{row.kl:.3f}", f"{row.aim:.3f}", f"{row.nll_rise:+.1%}"


if __name__ == "__main__":
    main()
