"""How likely a thumb up is at a reward: kept with a reward version, for each of its adapters. No torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

THUMBS = "thumbs.json"  # in a reward directory
OFFSET_SPREAD = 1.0  # logits; standard deviation of the raters' offsets


@dataclass(frozen=True)
class ThumbScale:
    """P(thumb up) = s(a·r + b) at the reward r, s the sigmoid, by a rater like most; a > 0."""

    a: float = 1.0
    b: float = 0.0


def mean_scale(scales: Sequence[ThumbScale]) -> ThumbScale:
    return ThumbScale(
        float(np.mean([scale.a for scale in scales])), float(np.mean([scale.b for scale in scales]))
    )


def write_thumbs(directory: Path, scales: Mapping[str, ThumbScale]) -> None:
    found = {name: asdict(scale) for name, scale in scales.items()}
    (directory / THUMBS).write_text(json.dumps(found), encoding="utf-8")


def read_thumbs(directory: Path, names: Sequence[str]) -> dict[str, ThumbScale]:
    """The scale of each adapter; a = 1 and b = 0 in a version from before there were any."""
    path = directory / THUMBS
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: ThumbScale(**found.get(name, {})) for name in names}
