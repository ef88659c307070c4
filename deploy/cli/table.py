"""Tables, and the console on which everything goes that a command prints for people."""

from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from deploy.visible import visible

NONE = "[dim]-[/dim]"
WIDE = 4000
GAP = 2
PROSE = 24  # letters across from which on text is read rather than spelt


class SafeConsole(Console):
    """Shows the control characters of what it prints instead of sending them to the terminal."""

    def render_str(self, text: str, **more: Any) -> Text:
        return super().render_str(visible(text), **more)  # before its place is measured

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):  # whatever came by another way
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


class Marked(str):
    """Text with rich's markup in it, made here."""


def console_for(stderr: bool) -> Console:
    console = SafeConsole(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = WIDE  # where no person reads there is no width to fit into: one line a row
    return console


def cell(value: object) -> str:
    if value is None or value == "":
        return NONE
    text = str(value)
    return text if isinstance(value, Marked) else escape(text)


def show_table(
    console: Console,
    columns: Iterable[str],
    rows: Iterable[Iterable[object]],
    *,
    prose: Sequence[str] = (),
    least: Sequence[str] = (),
) -> None:
    """Words stay whole. Where a terminal is too narrow for all columns, those of `prose` go below their row;
    where that is not enough, those of `least` are left out, the first of them first."""
    told = [[console.render_str(cell(value)) for value in row] for row in rows]
    table = {name: [row[place] for row in told] for place, name in enumerate(columns)}
    if not console.is_terminal:
        _show_lines(console, table)
        return
    if _needed(table, prose) <= console.width:
        console.print(_boxless(table, prose))
        return
    below = {name: table.pop(name) for name in prose}
    for name in least:
        if _needed(table, ()) > console.width:
            table.pop(name)
    _show_with_prose_below(console, table, below)


def _show_lines(console: Console, table: dict[str, list[Text]]) -> None:
    """One line a row, aligned, without blanks at its end."""
    lines = [[name, *(text.plain.replace("\n", r"\n") for text in texts)] for name, texts in table.items()]
    widths = [max(len(text) for text in column) for column in lines]
    for row in zip(*lines, strict=True):
        line = "".join(text.ljust(width + GAP) for text, width in zip(row, widths, strict=True))
        console.print(line.rstrip(), markup=False, soft_wrap=True)


def _show_with_prose_below(
    console: Console, table: dict[str, list[Text]], below: dict[str, list[Text]]
) -> None:
    drawn = _boxless(table, ())
    width = max(console.width, _needed(table, ()))
    lines = console.render_lines(drawn, console.options.update(width=width), pad=False)
    heads = max(len(_head(name, texts).split("\n")) for name, texts in table.items())
    heights = [max(len(text.plain.split("\n")) for text in row) for row in zip(*table.values(), strict=True)]
    at = heads
    _print_lines(console, lines[:heads])
    for number, height in enumerate(heights):
        _print_lines(console, lines[at : at + height])
        at += height
        for name, texts in below.items():
            if texts[number].plain != "-":
                console.print(Padding(Text.assemble((f"{name}: ", "dim"), texts[number]), (0, 0, 0, 4)))


def _print_lines(console: Console, lines: Iterable[Iterable[Segment]]) -> None:
    for line in lines:
        console.print(*(Text(part.text, part.style or "") for part in line), sep="", soft_wrap=True)


def _boxless(table: dict[str, list[Text]], prose: Sequence[str]) -> Table:
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for name, texts in table.items():
        fixed = name not in prose
        width = _width(name, texts) if fixed else None
        drawn.add_column(_head(name, texts) if fixed else name, overflow="fold", no_wrap=fixed, width=width)
    for row in zip(*table.values(), strict=True):
        drawn.add_row(*row)
    return drawn


def _needed(table: dict[str, list[Text]], prose: Sequence[str]) -> int:
    """Columns of a terminal. Prose is content with less than it would take."""
    widths = [
        min(PROSE, _width(name, texts)) if name in prose else _width(name, texts)
        for name, texts in table.items()
    ]
    return sum(widths) + GAP * (len(widths) - 1)


def _width(name: str, texts: Sequence[Text]) -> int:
    return max(_across(text) for text in (Text(_head(name, texts)), *texts))


def _head(name: str, texts: Sequence[Text]) -> str:
    """A column's name over as many lines as make it no wider than what stands below, its words whole."""
    return "\n".join(wrap(name, max([1, *(_across(text) for text in texts)]), break_long_words=False))


def _across(text: Text) -> int:
    return max((line.cell_len for line in text.split("\n")), default=0)
