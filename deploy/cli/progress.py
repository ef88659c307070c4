"""How far something is: a bar on a terminal, a line at each step elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

QUIET = 20.0  # seconds between lines about one step, where there is no terminal

Show = Callable[[float, str, str | None], None]


@contextmanager
def progress(console: Console, name: str) -> Iterator[Show]:
    """Gives a function to call as often as one likes: show(fraction done, step, message)."""
    if not console.is_terminal:
        yield _lines(console, name)
        return
    columns = (
        TextColumn("{task.fields[name]}"),
        BarColumn(bar_width=28),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=1.0, name=name)

        def show(fraction: float, step: str, message: str | None) -> None:
            bars.update(task, completed=fraction, description=escape(joined(step, message)))

        yield show


def joined(step: str, message: str | None) -> str:
    return f"{step}: {message}" if message else step


def _lines(console: Console, name: str) -> Show:
    began = time.monotonic()
    said, said_at = "", -QUIET

    def show(fraction: float, step: str, message: str | None) -> None:
        nonlocal said, said_at
        at = time.monotonic()
        if step == said and at - said_at < QUIET:
            return
        said, said_at = step, at
        line = f"  {at - began:4.0f} s  {name}  {fraction:4.0%}  {joined(step, message)}"
        console.print(line, markup=False, soft_wrap=True)

    return show
