"""Samples scored by members of a reward version. Torch; imported by stages only."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from workers.labels import Sample
from workers.reward_model import RewardModel, Texts
from workers.stage import StageError
from workers.style import looks

SHAPE = "shape.json"  # in a reward directory: what its members were built with


@dataclass(frozen=True)
class Shape:
    """What a reward version was built with, besides its adapters."""

    members: list[str]
    depth: float
    upper: int
    max_prompt: int
    max_reply: int

    def write(self, directory: Path) -> None:
        (directory / SHAPE).write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_shape(directory: Path) -> Shape:
    return Shape(**json.loads((directory / SHAPE).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Rewards:
    """`whole`: r(x, y) of each sample by each adapter, (n, names). `so_far`: what their mean makes of it as
    if it ended before each of its tokens: (tokens,) a sample. Both float32."""

    whole: Tensor
    so_far: list[Tensor]


def score_samples(
    base_model: str, reward: Path, names: Sequence[str] | None, samples: Sequence[Sample]
) -> Rewards:
    """Each sample by each named adapter in `reward` (None: the ensemble's members; `warm`: their average, at
    the cost of one)."""
    shape = read_shape(reward)
    names = shape.members if names is None else names
    model = RewardModel(base_model, shape.depth, shape.upper)
    texts = Texts(base_model, shape.max_prompt, shape.max_reply)
    read = [
        texts.of_ids(sample.prompt_token_ids, sample.token_ids, sample.finish_reason) for sample in samples
    ]
    features = model.features(read)
    decode = partial(texts.tokenizer.decode, skip_special_tokens=True)
    styles = [looks(decode, sample.token_ids) for sample in samples]
    columns, so_far = [], [torch.zeros(len(sample.token_ids)) for sample in samples]
    for name in names:
        model.load(name, reward, trainable=False)
        found = model.score_so_far(features, name)
        columns.append(torch.stack([each[-1] for each in found]) + model.style_rewards(features, name))
        so_far = [
            total + (_as_long(each, len(total)) + model.style_reward(rows, name)) / len(names)
            for total, each, rows in zip(so_far, found, styles, strict=True)
        ]
    whole = torch.stack(columns, 1)
    if not whole.isfinite().all():
        raise StageError(f"a reward of {reward.name} is not finite")
    return Rewards(whole, so_far)


def _as_long(values: Tensor, length: int) -> Tensor:
    """The first `length`; where a reply was too long to be read as a whole, the last one again."""
    return torch.cat([values, values[-1:].expand(max(0, length - len(values)))])[:length]
