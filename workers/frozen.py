"""What the layers below the adapters make of a text, kept from the first time that it is read. Torch; for
stages only.

A round reads the same replies again and again: by the base, in each pass of the optimiser, to see how far the
policy went. The layers below the lowest adapter are the base's throughout, so they need to read a text once.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

MOST = 2**30  # bytes of states; what goes beyond it is read again each time

# A text's token ids from its beginning, and how many of the last of them are meant.
Part = tuple[tuple[int, ...], int]


class Frozen:
    """Remembers for a `backbone` what comes out of its layers before number `first`, see `reading`."""

    def __init__(self, backbone: Any, first: int) -> None:
        self._backbone, self._first = backbone, first
        self._states: dict[tuple[int, ...], Tensor] = {}  # of so many of a text's last tokens as it has rows
        self._bytes = 0
        self._parts: Sequence[Part] = ()
        backbone.layers[first].register_forward_pre_hook(self._remember)

    @property
    def share(self) -> float:
        """Of all layers those below the adapters."""
        return self._first / len(self._backbone.layers)

    @contextmanager
    def reading(self, parts: Sequence[Part]) -> Iterator[None]:
        """While it is open the backbone is called once, with one row: the texts' `parts`, one after the
        other. If all of them are known its lower layers do not run; else they do, and are remembered."""
        found = [states for part in parts if (states := self._known(part)) is not None]
        if len(found) < len(parts):
            self._parts = parts
            try:
                yield
            finally:
                self._parts = ()
            return
        whole = self._backbone.layers
        known = _Known(torch.cat(found)[None])
        skipped = [Passthrough() for _ in range(self._first - 1)]
        self._backbone.layers = nn.ModuleList([known, *skipped, *whole[self._first :]])
        try:
            yield
        finally:
            self._backbone.layers = whole

    @contextmanager
    def below(self, parts: Sequence[Part]) -> Iterator["Above"]:
        """As `reading`, but only the lower layers run; what comes out of them is then in `Above.states`."""
        whole, end = self._backbone.layers, Above()
        end.register_forward_pre_hook(self._remember)
        self._parts = parts
        self._backbone.layers = nn.ModuleList([*whole[: self._first], end])
        try:
            yield end
        finally:
            self._backbone.layers, self._parts = whole, ()

    def forget(self) -> None:
        """All that was read, such as where a step is timed that may not gain from the last one."""
        self._states, self._bytes = {}, 0

    def _remember(self, _: nn.Module, given: tuple[Any, ...]) -> None:
        if not self._parts or self._bytes >= MOST:
            return
        rows = given[0].detach()[0].split([count for _, count in self._parts])
        for part, states in zip(self._parts, rows, strict=True):
            if self._known(part) is None:
                text, _count = part
                if (shorter := self._states.get(text)) is not None:
                    self._bytes -= shorter.numel() * shorter.element_size()
                self._states[text] = states.clone()
                self._bytes += states.numel() * states.element_size()

    def _known(self, part: Part) -> Tensor | None:
        """The states of the tokens that are meant, (count, d), if all of them are there."""
        text, count = part
        states = self._states.get(text)
        return None if states is None or len(states) < count else states[-count:]


class Passthrough(nn.Module):
    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        return hidden


class Above(nn.Module):
    """Stands for the layers above. `states`: what would have gone into them, (1, n, d)."""

    states: Tensor

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        self.states = hidden
        return hidden


class _Known(nn.Module):
    """Stands for a layer whose output is known."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self._states = states

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return self._states


def keep_frozen(model: Any) -> None:
    """Let a causal LM below PEFT keep what its layers below the adapters make of packed rows."""
    backbone = getattr(model, model.base_model_prefix)
    first = lowest_trained(model, backbone.layers)
    if 0 < first < len(backbone.layers):
        model.frozen_layers = Frozen(backbone, first)


def reading(model: Any, parts: Sequence[Part]) -> AbstractContextManager[None]:
    """`Frozen.reading` of a model that keeps it; of another nothing."""
    kept = frozen_of(model)
    return nullcontext() if kept is None else kept.reading(parts)


def frozen_of(model: Any) -> Frozen | None:
    found: Frozen | None = getattr(model, "frozen_layers", None)
    return found


def lowest_trained(model: nn.Module, layers: nn.ModuleList) -> int:
    """The number of the first layer with a parameter that is trained; of all of them where there is none, and
    0 where something is trained that is in no layer, such as an embedding."""
    inside = {id(parameter) for parameter in layers.parameters()}
    if any(parameter.requires_grad and id(parameter) not in inside for parameter in model.parameters()):
        return 0
    trained = [any(parameter.requires_grad for parameter in layer.parameters()) for layer in layers]
    return trained.index(True) if True in trained else len(layers)
