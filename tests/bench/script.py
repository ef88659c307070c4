"""Thumbwheel's stages against a plain TRL script: the wall time to the same gold score, on the same model,
prompts and gold score for a reward. Thumbwheel learns by its own method (THUMBWHEEL_METHOD), the script by
DPO on the best and the worst of K replies, at the pace that the service has for it. The tokens a second of
training are those of the replies that each side learns from; grpo and rloo learn from all.

Thumbwheel samples on an engine of its own and runs the programs `sample` and `optimise`, which loads while
the other runs, as in a job; start-up of each is included. The gold score is written where `score` would
write. The engine's own start is told apart, since it serves anyway. The script is tests/bench/plain.py, one
process, alone on the machine.

Thumbwheel minds how far a round goes and that plain text stays as likely, and the script does not; with
`--free KL` Thumbwheel minds neither, but takes a policy gradient's round on to that KL. By online_dpo
`--free` takes no KL: both sides then descend the same loss on pairs made alike by steps of the same size, and
what is left between them is how fast. Both are measured at their end, by their own replies and on the gate's
reference texts; nobody waits for it.

OUT/thumbwheel.json and OUT/plain.json hold the figures; one that is there already is not run again. In
OUT/thumbwheel/ and OUT/plain/ lie the programs' folders and logs, the engine's too.
"""

import argparse
import json
import math
import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from transformers import AutoTokenizer

from deploy.demo.prompts import RATED
from deploy.processes import worker
from deploy.settings import DeploySettings
from serving.methods import Method
from tests.bench.gold import scorer
from tests.bench.own_engine import Environment, Program, run_program, running_engine, standing_by
from tests.bench.plain import distance, leg_of, rows_of
from tests.bench.race import Course, Leg, legs_table, race_table, target_of
from tests.bench.stock import tokens_of
from workers.labels import Prompt, Sample, Score, read_samples, write_prompts, write_scores
from workers.methods.config import Config
from workers.policy.model import load_policy
from workers.stage import read_json, write_json

PLAIN = "plain TRL script"


def main(args: argparse.Namespace, console: Console) -> None:
    settings = DeploySettings(**({"model": args.model} if args.model else {}))
    if args.free is not None and (why := _cannot_free(settings.method, args.free)):
        raise SystemExit(why)
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    write_prompts(out / "prompts.parquet", _prompts(args))
    courses = {}
    for name, run in (("thumbwheel", _thumbwheel), ("plain", _plain)):
        path = out / f"{name}.json"
        if name in args.only and not path.exists():
            write_json(path, run(args, settings, _empty(out / name)).as_json())
        if path.exists():
            courses[name] = Course.from_json(read_json(path))
    report(courses, args.target, console)


def _cannot_free(method: Method, kl: float) -> str | None:
    if method in (Method.grpo, Method.rloo):
        return "--free takes the KL that a policy gradient goes to" if kl == math.inf else None
    if method is not Method.online_dpo:
        return f"--free is for what learns from samples against each other, not for {method}"
    return None if kl == math.inf else "--free takes no KL by online_dpo: how far it goes, its β says"


def _empty(folder: Path) -> Path:
    """A fresh one; what an earlier run left in it goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder.resolve()


def report(courses: dict[str, Course], target: float | None, console: Console) -> None:
    ordered = [courses[name] for name in ("plain", "thumbwheel") if name in courses]
    console.print(legs_table(ordered))
    if len(ordered) > 1:
        console.print(race_table(ordered, target_of(ordered, target)))


def _prompts(args: argparse.Namespace) -> list[Prompt]:
    texts = random.Random(args.seed).sample(RATED, args.prompts)
    return [Prompt([{"role": "user", "content": text}], text, False) for text in texts]


def _thumbwheel(args: argparse.Namespace, settings: DeploySettings, folder: Path) -> Course:
    with _engine(args, settings, folder) as (url, start):
        legs = _rounds(args, settings, folder, url)
    return Course(_called(args.free), start, "the engine's start", legs)


def _called(free: float | None) -> str:
    if free is None:
        return "Thumbwheel"
    return "Thumbwheel, free" if free == math.inf else f"Thumbwheel, rounds of KL {free}"


@contextmanager
def _engine(args: argparse.Namespace, settings: DeploySettings, folder: Path) -> Iterator[tuple[str, float]]:
    if args.engine:
        yield args.engine, 0.0
        return
    logs = folder / "engine"
    logs.mkdir()
    with running_engine(settings, logs) as found:
        yield found


def _rounds(args: argparse.Namespace, settings: DeploySettings, folder: Path, url: str) -> list[Leg]:
    environment = worker("train", settings).environment
    name, adapter = "policy-v0", None
    began = time.time()
    legs: list[Leg] = []
    training, trained, note = 0.0, 0, ""
    while True:
        number = len(legs)
        here = time.time()
        sampled = folder / f"{number}-sample"
        config = _sampling(args, settings, url) | {"model": name, "adapter": adapter, "seed": number}
        with _optimise_unless(number == args.rounds, environment) as optimise:
            run_program("workers.stages.sample", sampled, config, environment)
            sampling = time.time() - here
            samples = read_samples(sampled / "samples.parquet")
            rewards = _scores(samples, args.scorer, sampled / "scores.parquet")
            legs.append(leg_of(began, samples, rewards, sampling, training, trained, note))
            if optimise is None or (args.target is not None and legs[-1].gold >= args.target):
                break
            here = time.time()
            optimised = folder / f"{number}-optimise"
            config = _optimising(settings, settings.method, adapter, sampled / "scores.parquet", number)
            metrics = optimise(optimised, config | _freed(args.free))
        training = time.time() - here
        trained = tokens_learnt(settings, samples, rewards) * settings.optimise_epochs
        note = f"steps stretched {metrics['stretched']:.1f} times" if metrics["stretched"] > 1 else ""
        name, adapter = f"bench-{os.getpid()}-r{number + 1}", optimised / "adapter"
    if adapter is None:
        return legs
    model = load_policy(settings.model, adapter, settings.optimise_rank, settings.optimise_targets)
    return with_distance(legs, distance(model, AutoTokenizer.from_pretrained(settings.model), samples))


@contextmanager
def _optimise_unless(done: bool, environment: Environment) -> Iterator[Program | None]:
    """The next stage, which loads meanwhile; nothing where none comes."""
    if done:
        yield None
        return
    with standing_by("workers.stages.optimise", environment) as program:
        yield program


def with_distance(legs: list[Leg], found: dict[str, Any]) -> list[Leg]:
    """The last of them with a note of `tests.bench.plain.distance`."""
    note = f"KL {found['kl_base']:.3f}, plain text {found['nll_rise']:+.1%}"
    return [*legs[:-1], replace(legs[-1], note=", ".join(filter(None, [legs[-1].note, note])))]


def tokens_learnt(settings: DeploySettings, samples: list[Sample], rewards: list[float]) -> int:
    """Of one pass, prompts included."""
    if settings.method is Method.online_dpo:
        return tokens_of(rows_of(samples, rewards, settings.optimise_pairs))
    return sum(len(sample.prompt_token_ids) + len(sample.token_ids) for sample in samples)


def _sampling(args: argparse.Namespace, settings: DeploySettings, url: str) -> dict[str, Any]:
    return {
        "engines": [url],
        "prompts": args.out.resolve() / "prompts.parquet",
        "count": args.prompts,
        "k": args.k,
        "max_tokens": args.max_tokens,
    }


def _optimising(
    settings: DeploySettings, method: Method, init: Path | None, scores: Path, seed: int
) -> dict[str, Any]:
    given = settings.prefixed("optimise")
    return {
        **given,
        "base_model": settings.model,
        "init": init,
        "method": method,
        "scores": scores,
        "seed": seed,
    }


def _freed(kl: float | None) -> dict[str, Any]:
    """What lets a round of a policy gradient go on to a KL, nats a token, and keeps nothing else from it; or,
    where that is infinite, what leaves of online_dpo the script's loss alone."""
    if kl is None:
        return {}
    free = {"max_kl_base": 99, "max_nll_rise": 99, "plain_weight": 0}
    if kl == math.inf:
        return free | {"max_kl_step": 99, "chosen_weight": 0, "sft_weight": 0, "check_every": 10_000}
    return free | {"max_kl_step": 2 * kl, "reach": 0.5}


def _scores(samples: list[Sample], name: str, path: Path) -> list[float]:
    score = scorer(name)
    rewards = [score(sample.reply) for sample in samples]
    write_scores(path, samples, [Score(reward, 0.0, [reward]) for reward in rewards])
    return rewards


def _plain(args: argparse.Namespace, settings: DeploySettings, folder: Path) -> Course:
    began = time.time()
    given = _optimising(settings, Method.online_dpo, None, folder / "none", args.seed)
    theirs = Config.model_validate_json(json.dumps(given, default=str))
    whole = theirs.model_dump(mode="json") | asdict(theirs.pace)
    shared = ("rank", "targets", "top_layers", "pairs", "learning_rate", "beta", "epochs", "batch")
    config = {name: whole[name] for name in (*shared, "max_grad_norm", "seed", "base_model")}
    config |= {
        "prompts": args.out.resolve() / "prompts.parquet",
        "scorer": args.scorer,
        "began": began,
        "rounds": args.rounds,
        "target": args.target,
        "k": args.k,
        "max_tokens": args.max_tokens,
        "together": args.together,
        "autocast": args.autocast,
    }
    environment = os.environ | ({"HF_HUB_OFFLINE": "1"} if settings.model_is_local else {})
    metrics = run_program("tests.bench.plain", folder / "plain", config, environment)
    legs = [Leg(**leg) for leg in read_json(folder / "plain" / "legs.json")]
    return Course(PLAIN, 0.0, "", with_distance(legs, metrics))
