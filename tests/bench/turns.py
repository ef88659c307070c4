"""Trainers that are compared step by step: what each took, and how alike their gradients are. Torch."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

Step = Callable[[int], tuple[float, int]]  # number → (loss, tokens); leaves the gradient


@dataclass
class Runner:
    """One of those that are compared, and what it took so far."""

    name: str
    trainer: Any
    model: Any
    wall: float = 0.0
    cpu: float = 0.0
    tokens: int = 0
    losses: list[float] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)

    def run(self, step: Step, number: int) -> None:
        self.model.zero_grad()
        wall, cpu = time.perf_counter(), _cpu()
        loss, tokens = step(number)
        self.wall += time.perf_counter() - wall
        self.cpu += _cpu() - cpu
        self.tokens += tokens
        self.losses.append(loss)
        self.gradients.append(_gradient(self.model))

    def forget(self) -> None:
        self.wall, self.cpu, self.tokens = 0.0, 0.0, 0
        self.losses, self.gradients = [], []


def take_turns(runners: Sequence[Runner], steps: int, step_of: Callable[[Runner], Step]) -> None:
    """One step each to warm up, then step by step, each once, and none always first."""
    for runner in runners:
        runner.run(step_of(runner), 0)
        runner.forget()
    for number in range(steps):
        turn = number % len(runners)
        for runner in [*runners[turn:], *runners[:turn]]:
            runner.run(step_of(runner), number)


def table_of(title: str, runners: Sequence[Runner]) -> Table:
    """A column each, beside the first of them, which is stock; the last is ours."""
    stock = runners[0]
    table = Table("", *(runner.name for runner in runners), title=title, title_justify="left")

    def row(what: str, show: Callable[[Runner], str]) -> None:
        table.add_row(what, *map(show, runners))

    row("wall seconds", lambda runner: f"{runner.wall:.2f}")
    row("CPU seconds", lambda runner: f"{runner.cpu:.2f}")
    row("tokens/s", lambda runner: f"{runner.tokens / runner.wall:.0f}")
    row("tokens/s, times stock's", lambda runner: f"{stock.wall / runner.wall:.2f}")
    row("tokens a CPU second, times stock's", lambda runner: f"{stock.cpu / runner.cpu:.2f}")
    row("loss, mean of the steps", lambda runner: f"{sum(runner.losses) / len(runner.losses):.4f}")
    for other in runners[:-1]:
        found = [alike(runner.gradients, other.gradients) for runner in runners]
        table.add_row(
            f"cosine with the gradient of {other.name}: of the sum", *(f"{c:.4f}" for c, _ in found)
        )
        table.add_row("  of the step where it is least", *(f"{c:.4f}" for _, c in found))
    return table


def alike(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> tuple[float, float]:
    """Cosines of two trainers' gradients: of their sums over the steps, and the least of a single step."""
    whole = torch.cosine_similarity(torch.stack(list(mine)).sum(0), torch.stack(list(theirs)).sum(0), dim=0)
    each = [torch.cosine_similarity(a, b, dim=0) for a, b in zip(mine, theirs, strict=True)]
    return float(whole), float(min(each))


def trained(model: Any) -> list[tuple[str, Tensor]]:
    """The adapter's parameters, in an order that is the same for all."""
    return sorted((name, value) for name, value in model.named_parameters() if value.requires_grad)


def _gradient(model: Any) -> Tensor:
    return torch.cat([value.grad.flatten().float().cpu() for _, value in trained(model)])


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
