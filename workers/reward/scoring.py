"""Samples scored by members of a reward version. Torch; imported by stages only."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from workers.labels import Sample
from workers.reward.model import RewardModel, Texts
from workers.reward.style import looks
from workers.stage import StageError

SHAPE = "shape.json"  # in a reward directory: what its members were built with


@dataclass(frozen=True)
class Shape:
    """What a reward version was built with, besides its adapters."""

    members: list[str]
    depth: float
    upper: int
    max_prompt: int
    max_reply: int
    early: float = 0.0  # of a version from before heads read an early layer too

    def build(self, base_model: str) -> RewardModel:
        """Without any adapter yet."""
        return RewardModel(base_model, self.depth, self.upper, self.early)

    def write(self, directory: Path) -> None:
        (directory / SHAPE).write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_shape(directory: Path) -> Shape:
    return Shape(**json.loads((directory / SHAPE).read_text(encoding="utf-8")))


def score_samples(
    base_model: str, reward: Path, names: Sequence[str] | None, samples: Sequence[Sample]
) -> Tensor:
    """r(x, y) of each sample by each named adapter in `reward` (None: the ensemble's members; `warm`: their
    average, at the cost of one): (n, names), float32."""
    scored = _Scored(base_model, reward, names, samples)
    return scored.finite([scored.model.score(scored.features, name) for name in scored.loaded()])


def score_so_far(
    base_model: str, reward: Path, names: Sequence[str] | None, samples: Sequence[Sample]
) -> tuple[Tensor, list[Tensor]]:
    """`score_samples`, and what the adapters' mean makes of each sample as if it ended before its first
    token, its second, …, and whole: (tokens + 1,) each."""
    scored = _Scored(base_model, reward, names, samples, so_far=True)
    styles = [looks(scored.texts.tokenizer.decode, sample.token_ids) for sample in samples]
    columns, on_the_way = [], [torch.zeros(len(rows)) for rows in styles]
    for name in scored.loaded():
        members = scored.model.score_so_far(scored.features, name)
        columns.append(scored.model.whole(members, scored.features, name))
        for total, member, rows in zip(on_the_way, members, styles, strict=True):
            total += _as_long(member, len(rows)) + scored.model.style_rewards(rows, name)
    rewards = scored.finite(columns)
    so_far = [
        torch.cat([total / len(columns), whole.mean()[None]])
        for total, whole in zip(on_the_way, rewards, strict=True)
    ]
    return rewards, so_far


class _Scored:
    """Samples as a reward version reads them."""

    def __init__(
        self,
        base_model: str,
        reward: Path,
        names: Sequence[str] | None,
        samples: Sequence[Sample],
        so_far: bool = False,
    ) -> None:
        shape = read_shape(reward)
        self._reward, self._names = reward, shape.members if names is None else names
        self.model = shape.build(base_model)
        self.texts = Texts(base_model, shape.max_prompt, shape.max_reply)
        self.features = self.model.features(
            [
                self.texts.of_ids(sample.prompt_token_ids, sample.token_ids, sample.finish_reason)
                for sample in samples
            ],
            so_far,
        )

    def loaded(self) -> Iterator[str]:
        """Each adapter's name, once it is loaded."""
        for name in self._names:
            self.model.load(name, self._reward, trainable=False)
            yield name

    def finite(self, columns: Sequence[Tensor]) -> Tensor:
        """(n, names). StageError where a reward is not finite."""
        rewards = torch.stack(list(columns), 1)
        if not rewards.isfinite().all():
            raise StageError(f"a reward of {self._reward.name} is not finite")
        return rewards


def _as_long(values: Tensor, length: int) -> Tensor:
    """The first `length`; where a reply was too long to be read as a whole, the last one again."""
    return torch.cat([values, values[-1:].expand(max(0, length - len(values)))])[:length]
