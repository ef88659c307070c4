"""How a reply's words sound, as a few numbers: where they lie between words of opposite meaning. Torch; for
stages only.

The semantic differential (Osgood, Suci and Tannenbaum 1957) found that people judge most things on scales of
evaluation, potency and activity; SemAxis (An, Kwak and Ahn 2018) reads such scales off word embeddings, here
off the base's own. A hundred labels tell more from a few numbers than from a language model's hundreds of
dimensions, as of how a reply looks (workers.style).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

SCALES = {
    "evaluation": ("good great happy wonderful love", "bad awful sad terrible hate"),
    "potency": ("strong powerful big heavy", "weak delicate small light"),
    "activity": ("active fast exciting quick", "passive slow calm quiet"),
    "warmth": ("friendly kind warm welcome", "hostile rude cold angry"),
    "formality": ("therefore furthermore regarding consequently", "hey yeah okay stuff"),
    "certainty": ("certainly definitely always must", "perhaps maybe might possibly"),
    "ease": ("simple easy basic plain", "complex difficult advanced technical"),
    "closeness": ("I you we your", "it they the this"),
}


class Tone:
    """The scales of one base: where each token of its vocabulary lies on them, -1 to 1."""

    def __init__(self, tokenizer: Any, embeddings: Tensor) -> None:
        """`embeddings`: (vocabulary, d), the base's input embeddings."""
        words = embeddings.detach().float()
        words = torch.nn.functional.normalize(words - words.mean(0), dim=1)

        def mean(pole: str) -> Tensor:
            ids = [tokenizer.encode(f" {word}", add_special_tokens=False) for word in pole.split()]
            return torch.stack([words[one].mean(0) for one in ids]).mean(0)

        ends = [mean(high) - mean(low) for high, low in SCALES.values()]
        axes = torch.nn.functional.normalize(torch.stack(ends), dim=1)
        self._places = (words @ axes.T).cpu()

    def so_far(self, reply: Sequence[int]) -> Tensor:
        """The mean place of what stands before each of a reply's tokens, and of all of it: (t + 1, scales);
        of nothing it is 0."""
        places = self._places[torch.tensor(reply, dtype=torch.long)]
        sums = torch.cat([torch.zeros(1, len(SCALES)), places.cumsum(0)])
        return sums / torch.arange(len(sums)).clamp(min=1)[:, None]

    def __call__(self, reply: Sequence[int]) -> list[float]:
        """Of the whole reply: as many numbers as `SCALES`."""
        found: list[float] = self.so_far(reply)[-1].tolist()
        return found


def with_tone(looks: Sequence[Sequence[float]], tone: Tone, reply: Sequence[int]) -> list[list[float]]:
    """`workers.style.looks` of a reply, and how it sounds up to there."""
    sound = tone.so_far(reply)[:-1].tolist()
    return [[*seen, *heard] for seen, heard in zip(looks, sound, strict=True)]
