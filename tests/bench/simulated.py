"""Labels that simulated raters would give to the base's replies, and reward models that learn from them; no
service is asked. Torch."""

import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from deploy.processes import worker
from deploy.settings import DeploySettings
from tests.bench.choices import HELD, PROMPTS, first_of_each
from tests.bench.gold import scorer
from tests.bench.own_engine import run_program
from tests.bench.raters import Ballot, Person, Reply, Taste, ballots, people
from workers.labels import Label, Sample, by_prompt, write_labels

SPREAD, TEMPERATURE, RATERS = 0.5, 0.5, 60  # as in tests.bench.trial.Plan


@dataclass(frozen=True)
class Poll:
    """Raters of one taste and seed, and the replies that they are asked about."""

    samples: list[Sample]
    crowd: list[Person]
    chance: random.Random

    def votes(self, count: int, crowd: Sequence[Person] | None = None) -> list[Ballot]:
        """Half of them thumbs, half blind pairs; of `crowd`, if not of all."""
        prompts = sorted({str(sample.messages[-1]["content"]) for sample in self.samples})
        return ballots(self.crowd if crowd is None else crowd, prompts, count, 0.5, self.chance)

    def labels(self, votes: Iterable[Ballot]) -> list[Label]:
        return drawn(self.samples, votes, self.chance)


def poll(samples: Sequence[Sample], name: str, seed: int, noise: float = 0.0) -> Poll:
    """On those of `tests.bench.choices.base_samples` that are not measured on. `noise`: the share of labels
    that are flipped."""
    score = scorer(name)
    learnt = [samples[row] for row in first_of_each(samples, range(PROMPTS), HELD)]
    gold = [score(sample.reply) for sample in learnt]
    taste = Taste(score, fmean(gold), TEMPERATURE * pstdev(gold))
    return Poll(learnt, people(RATERS, taste, noise, SPREAD, seed), random.Random(f"{name} {seed}"))


def train_reward(
    settings: DeploySettings, folder: Path, labels: Sequence[Label], seed: int, **more: Any
) -> dict[str, Any]:
    """The stage's metrics; the reward model is in `folder`/stage/reward. What was there is lost."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    write_labels(folder / "train.parquet", labels)
    write_labels(folder / "holdout.parquet", [])
    config = settings.prefixed("reward") | {
        "base_model": settings.model,
        "init": None,
        "train": folder / "train.parquet",
        "holdout": folder / "holdout.parquet",
        "seed": seed,
        **more,
    }
    return run_program(
        "workers.stages.train_reward", folder / "stage", config, worker("train", settings).environment
    )


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
