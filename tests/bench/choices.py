"""Which method, and which settings of it, turn scored replies into the most of what they are scored for? One
update from the base for each choice, all on the same replies, measured without sampling again. Torch.

    python -m tests.bench.choices --out OUT [--scorer length sentiment] [--only NAME …] [--noise 0.5]
    python -m tests.bench.choices --report OUT

The base's replies are sampled once, eight to each prompt, and kept in OUT; a choice learns from four to each
of 64 prompts, whose reward is the gold score and noise of `--noise` of its standard deviations, as a young
reward model's would be. Measured is on the replies to a hundred other prompts, by the gold score alone:

    gain     Σ_t A_t·(log π - log π_0)_t, mean over replies, in standard deviations of gold: the first-order
             gain of π over the base (the policy gradient theorem, Sutton et al. 1999). A_t is the whole gold
             score less a baseline V(s_t), which takes noise away and whatever V is no bias comes in. It is
             that of workers.credit, fitted to all of the replies' gold scores, cross-fitted
    KL       of the base to π, nats a token, by k3
    aim      gain / √Σ_t (log π - log π_0)_t²: what of the way it went was in the direction of gold, at best
             1. A gain costs KL by the inverse of its square, so twice the aim is a quarter of the KL

A change of the mean of log π on what the base writes, -KL a token, is taken off first. The standard error is
that over replies. Figures are kept in OUT by choice, and what is there is not run again: take another folder
for another model or noise.
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import AutoTokenizer

from deploy.demo_prompts import RATED
from deploy.processes import worker
from deploy.settings import DeploySettings
from serving.engine import Engine, new_session
from tests.bench.gold import scorer
from tests.bench.own_engine import run_program, running_engine
from workers.credit import fit_values, gae, looks
from workers.labels import Prompt, Sample, Score, read_samples, write_samples, write_scores
from workers.packing import Reply
from workers.policy_model import load_policy, read_base, reply_logprobs
from workers.policy_objectives import kl_k3
from workers.sampling import Sampling, sample_replies

REPLIES, LEARNT, HELD = 8, 4, 8  # to a prompt: sampled, learnt from, measured on
PROMPTS, MEASURED = 64, 100
WHOLE = 1.0  # λ at which nothing hangs on how good the values are
BUDGET = 2048
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")

CHOICES: dict[str, dict[str, Any]] = {
    "grpo": {"method": "grpo"},
    "grpo, one advantage a reply": {"method": "grpo", "credit_decay": 1.0},
    "grpo, λ 0.95": {"method": "grpo", "credit_decay": 0.95},
    "grpo, λ 0.4": {"method": "grpo", "credit_decay": 0.4},
    "rloo": {"method": "rloo"},
    "online_dpo": {"method": "online_dpo", "people": 0},
    "online_dpo, no chosen weight": {"method": "online_dpo", "people": 0, "chosen_weight": 0.0},
    "best_of_n": {"method": "best_of_n"},
    "grpo, learning rate 5e-4": {"method": "grpo", "learning_rate": 5e-4},
    "grpo, learning rate 1e-4, 2 epochs": {"method": "grpo", "learning_rate": 1e-4, "epochs": 2},
    "grpo, β 0.1": {"method": "grpo", "beta": 0.1},
    "grpo, ε 0.2": {"method": "grpo", "epsilon": 0.2},
    "grpo, rank 4": {"method": "grpo", "rank": 4},
    "grpo, v_proj and o_proj": {"method": "grpo", "targets": ["v_proj", "o_proj"]},
    "grpo, upper half": {"method": "grpo", "top_layers": 0.5},
}


@dataclass(frozen=True)
class Found:
    """What one choice came to; `seconds`: of the stage, its start included."""

    choice: str
    scorer: str
    seconds: float
    kl: float
    gain: float
    error: float
    aim: float


@dataclass(frozen=True)
class Measure:
    """The replies that are measured on, what the base makes of them, and each token's credit for gold."""

    replies: list[Reply]
    base: list[Tensor]
    credit: list[Tensor]

    def __call__(self, model: Any) -> tuple[float, float, float, float]:
        """KL, gain with its standard error, and aim of the policy."""
        prompts, tokens = [row.prompt for row in self.replies], [row.tokens for row in self.replies]
        mine = reply_logprobs(model, prompts, tokens, BUDGET)
        moved = [now - before for now, before in zip(mine, self.base, strict=True)]
        kl = float(kl_k3(torch.cat(moved)))
        way = [part + kl for part in moved]
        gains = torch.tensor([float(a @ b) for a, b in zip(self.credit, way, strict=True)])
        length = float(torch.stack([part.square().sum() for part in way]).mean().sqrt())
        gain = float(gains.mean())
        return kl, gain, float(gains.std()) / len(gains) ** 0.5, gain / max(length, 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, default=Path("choices-bench"))
    parser.add_argument("--model", help="base model, a folder; default: the service's")
    parser.add_argument("--scorer", nargs="+", default=["length", "sentiment"])
    parser.add_argument("--only", nargs="+", choices=list(CHOICES), default=list(CHOICES), metavar="NAME")
    parser.add_argument("--noise", type=float, default=0.5)
    parser.add_argument("--report", type=Path, help="only print what lies in this folder")
    args = parser.parse_args()
    console = Console(soft_wrap=True)
    if args.report is None:
        run(args, console)
    console.print(table_of(read(args.report or args.out)))


def run(args: argparse.Namespace, console: Console) -> None:
    settings = DeploySettings(**({"model": args.model} if args.model else {}))
    out: Path = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    samples = base_samples(settings, out)
    model = load_policy(settings.model, None, 4, TARGETS)
    seen = read_base(model, [Reply(row.prompt_token_ids, row.token_ids) for row in samples], BUDGET)
    del model
    for name in args.scorer:
        score = scorer(name)
        gold = torch.tensor([score(row.reply) for row in samples])
        gold = (gold - gold.mean()) / gold.std()
        measure = measure_by(settings, samples, seen, gold)
        scores = rewarded(samples, gold, args.noise, out / f"{name}.parquet")
        for choice in args.only:
            path = out / f"{name}-{re.sub(r'[^a-zβελ0-9.]+', '-', choice)}.json"
            if path.exists():
                continue
            folder = out / path.stem
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was cut off
            environment = worker("train", settings).environment
            config = settings.prefixed("optimise") | {
                "base_model": settings.model,
                "init": None,
                "scores": scores,
                "max_kl_step": 9.0,
                "max_kl_base": 9.0,
                "max_nll_rise": 9.0,
                **CHOICES[choice],
            }
            began = time.monotonic()
            run_program("workers.stages.optimise", folder, config, environment)
            seconds = time.monotonic() - began
            found = measure(load_policy(settings.model, folder / "adapter", 4, TARGETS))
            path.write_text(json.dumps(asdict(Found(choice, name, seconds, *found))))
            console.print(f"{name}: {choice}: gain {found[1]:.2f} at KL {found[0]:.3f}, aim {found[3]:.3f}")


def base_samples(settings: DeploySettings, out: Path) -> list[Sample]:
    """Eight replies of the base to each of the demo's prompts, in a random order of prompts."""
    path = out / "samples.parquet"
    if not path.exists():
        (out / "engine").mkdir(exist_ok=True)
        with running_engine(settings, out / "engine") as (url, _):
            write_samples(path, asyncio.run(_sampled(url)))
    return read_samples(path)


async def _sampled(url: str) -> list[Sample]:
    texts = random.Random(0).sample(RATED, PROMPTS + MEASURED)
    prompts = [Prompt([{"role": "user", "content": text}], text, False) for text in texts]
    async with new_session() as session:
        engine = Engine(url, session)
        return await sample_replies(
            [engine], "policy-v0", prompts, Sampling(k=REPLIES, max_tokens=80, concurrency=12)
        )


def rewarded(samples: Sequence[Sample], gold: Tensor, noise: float, path: Path) -> Path:
    """What the choices learn from: replies to the first prompts, with noisy rewards."""
    chance = torch.Generator().manual_seed(0)
    rewards = (gold + noise * torch.randn(len(gold), generator=chance)).tolist()
    rows = first_of_each(samples, range(PROMPTS), LEARNT)
    scores = [Score(rewards[row], 0.0, [rewards[row]]) for row in rows]
    write_scores(path, [samples[row] for row in rows], scores)
    return path


def measure_by(
    settings: DeploySettings, samples: Sequence[Sample], seen: Sequence[tuple[Tensor, Tensor]], gold: Tensor
) -> Measure:
    tokenizer = AutoTokenizer.from_pretrained(settings.model)
    style = [looks(tokenizer, row.token_ids) for row in samples]
    prompts = [str(row.prompt_id) for row in samples]
    values, _ = fit_values([states for _, states in seen], style, gold, prompts, 0)
    rows = first_of_each(samples, range(PROMPTS, PROMPTS + MEASURED), HELD)
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
    return [Found(**json.loads(path.read_text())) for path in sorted(out.glob("*-*.json"))]


def table_of(found: Sequence[Found]) -> Table:
    """A choice a row, in the order of CHOICES; for each scorer its figures."""
    scorers = sorted({row.scorer for row in found})
    table = Table("choice", "seconds")
    for name in scorers:
        for figure in ("gain", "KL", "aim"):
            table.add_column(f"{name}: {figure}")
    for choice in CHOICES:
        rows = {row.scorer: row for row in found if row.choice == choice}
        if rows:
            seconds = sum(row.seconds for row in rows.values()) / len(rows)
            cells = [cell for name in scorers for cell in _cells(rows.get(name))]
            table.add_row(choice, f"{seconds:.0f}", *cells)
    return table


def _cells(row: Found | None) -> tuple[str, str, str]:
    if row is None:
        return "", "", ""
    return f"{row.gain:.2f} ± {row.error:.2f}", f"{row.kl:.3f}", f"{row.aim:.3f}"


if __name__ == "__main__":
    main()
