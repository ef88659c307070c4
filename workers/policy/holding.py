"""Texts that stay as likely as they are to the base, whatever else is learnt. Torch; for stages only.

One step of Gauss and Newton: of all changes of the trained weights that would make each text's opening, its
rest and its end of turn as likely as to the base again, or nearer to it by a share, to the first order, the
shortest; damped as by Levenberg and Marquardt (Nocedal and Wright 2006, section 10.3). Gradient steps that
hold a policy there (`Plain`) have a handful of chances to do so among those that learn; this has one, and
takes it as a whole. Orthogonal gradient descent (Farajtabar et al. 2020) keeps out of the same directions
beforehand.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workers.packing import Pack, Reply, pack, plan, score_pack

DAMPING = 0.1  # of the mean of the Gram matrix's diagonal
# Tokens whose likelihood is held on its own: whether an answer refuses, or begins a list, is said by
# then, and in a sum with twenty others they were free to fall where the others rose.
OPENING = 3
SECTIONS = 3  # of a text: its opening, its rest, its last token

Seen = dict[nn.Linear, tuple[Tensor, Tensor]]  # what went into a layer, (1, n, in), and came out, (1, n, out)


class Held:
    """`texts` and their tokens' log-probabilities under the base, one tensor a text; of a causal LM below
    PEFT whose trained weights are those of linear layers without biases, as LoRA's are."""

    def __init__(self, model: Any, texts: Sequence[Reply], base: Sequence[Tensor], budget: int) -> None:
        self._model, self._texts, self._base, self._budget = model, list(texts), list(base), budget
        self._layers = [
            layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer.weight.requires_grad
        ]
        self._solved: tuple[Tensor, Tensor] | None = None  # slopes, and their Gram matrix, damped

    def restore(self, again: bool = False, share: float = 1.0) -> None:
        """One step. `share`: how much of what rests and ends of turn lack they are given; openings are given
        all of it. `again`: along the slopes of the last one, where no gradient step came in between; what
        texts lack is read anew, which is a fourth of the work (the chord method: Kelley 1995, Iterative
        Methods for Linear and Nonlinear Equations, 5.4.1)."""
        if again and self._solved is not None:
            missing = self._missing()
        else:
            self._solved = None  # before there are others: they are as many as texts times weights
            slopes, missing = self._linear()
            gram = slopes @ slopes.T
            gram += DAMPING * gram.diagonal().mean() * torch.eye(len(gram), device=gram.device)
            self._solved = slopes, gram
        slopes, gram = self._solved
        wanted = missing * torch.tensor([1.0, share, share]).repeat(len(self._texts))
        change = slopes.T @ torch.linalg.solve(gram, wanted.to(gram.device))
        parts = change.split([layer.weight.numel() for layer in self._layers])
        with torch.no_grad():
            for layer, part in zip(self._layers, parts, strict=True):
                layer.weight += part.view_as(layer.weight)

    def _linear(self) -> tuple[Tensor, Tensor]:
        """Of each section of each text the gradient of its log-probability, (SECTIONS·texts, weights), and
        what that lacks of the base's, (SECTIONS·texts,)."""
        weights = sum(layer.weight.numel() for layer in self._layers)
        slopes = torch.empty(len(self._texts), SECTIONS, weights, device=self._model.device)
        missing = torch.zeros(len(self._texts), SECTIONS)
        self._model.eval()
        for rows in plan(self._texts, self._budget):
            row = pack(self._texts, rows, share=False)
            with self._watched() as seen:
                found = score_pack(self._model, row).logprobs
            passed = [seen[layer] for layer in self._layers]
            sections = torch.cat([sections_of(len(self._base[number])) for number in rows])
            for section in range(SECTIONS):
                each = per_text(found, (sections == section).to(found.device), row, passed)
                for number, slope in zip(rows, each, strict=True):
                    slopes[number, section] = slope
            missing[rows] = self._gaps(rows, row, found)
        return slopes.flatten(0, 1), missing.flatten()

    @torch.no_grad()
    def _missing(self) -> Tensor:
        """The latter alone."""
        missing = torch.zeros(len(self._texts), SECTIONS)
        self._model.eval()
        for rows in plan(self._texts, self._budget):
            row = pack(self._texts, rows)
            missing[rows] = self._gaps(rows, row, score_pack(self._model, row).logprobs)
        return missing.flatten()

    def _gaps(self, rows: Sequence[int], row: Pack, found: Tensor) -> Tensor:
        """What the sections of the texts `rows` lack, (texts, SECTIONS); `found`: of their tokens."""
        found = found.detach().cpu()
        gaps = [self._base[number] - found[row.reply == place] for place, number in enumerate(rows)]
        return torch.stack([torch.zeros(SECTIONS).index_add(0, sections_of(len(gap)), gap) for gap in gaps])

    @contextmanager
    def _watched(self) -> Iterator[Seen]:
        """What passes the trained layers, in their order."""
        seen: Seen = {}

        def remember(layer: nn.Linear, given: tuple[Tensor, ...], out: Tensor) -> None:
            seen[layer] = given[0].detach(), out

        hooks = [layer.register_forward_hook(remember) for layer in self._layers]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()


def per_text(found: Tensor, which: Tensor, row: Pack, seen: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """The gradient of the sum of each text's tokens `which` by all weights, (weights,) a text. No text sees
    another, so one pass backward has all of them: a text's gradient by a linear layer's weight is Σ_t of its
    tokens (∂/∂out_t) in_tᵀ. No prompt is shared in the row."""
    slopes = torch.autograd.grad(found[which].sum(), [out for _, out in seen], retain_graph=True)
    sizes = [prompt[1] + reply[1] for prompt, reply in zip(row.parts[::2], row.parts[1::2], strict=True)]
    whole = [
        [
            (out.T @ given).flatten()
            for out, given in zip(_parts(slope, sizes), _parts(given, sizes), strict=True)
        ]
        for (given, _), slope in zip(seen, slopes, strict=True)
    ]
    return [torch.cat(parts) for parts in zip(*whole, strict=True)]


def sections_of(length: int) -> Tensor:
    """Which section each of a text's tokens is in, (length,): 0 its opening, 1 its rest, 2 its last token."""
    sections = torch.ones(length, dtype=torch.long)
    sections[:OPENING] = 0
    sections[-1] = 2
    return sections


def _parts(row: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """(1, n, d) → (size, d) each, float32."""
    return list(torch.split(row[0].float(), list(sizes)))
