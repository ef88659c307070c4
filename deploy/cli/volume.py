"""How much was said when: a bar and numbers for each hour or day, with the champion's changes beside them."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from deploy.cli.table import Marked
from deploy.cli.words import day
from deploy.client import Object
from feedback.layout import HOUR

MOST_HOURS = 48  # more of them are shown by days
ACROSS = 24  # letters of the longest bar
BARS = (("up", "█", "green"), ("down", "▒", "red"), ("comparisons", "░", "blue"))
COUNTS = ("up", "down", "comparisons", "completions")


def volume_rows(
    volume: list[Object], unit: str, marks: Iterable[Object]
) -> tuple[str, list[tuple[object, ...]]]:
    """The first column's head, and the rows: from the first in which anything was up to the last."""
    head, name = _named(unit, len(volume))
    sums: dict[str, Counter[str]] = {}
    for row in volume:
        counts = sums.setdefault(name(row["start"]), Counter())
        counts.update({kind: row[kind] for kind in COUNTS})
    moved: dict[str, list[str]] = defaultdict(list)
    for mark in marks:
        moved[name(mark["time"])].append(("↩ " if mark["kind"] == "rollback" else "") + mark["to"])
    top = max((_labels(counts) for counts in sums.values()), default=0)
    rows: list[tuple[object, ...]] = [
        (label, _bar(counts, top), *(counts[kind] for kind in COUNTS), ", ".join(moved[label]))
        for label, counts in sums.items()
    ]
    busy = [place for place, (label, counts) in enumerate(sums.items()) if counts.total() or moved[label]]
    return head, rows[busy[0] : busy[-1] + 1] if busy else []


def _named(unit: str, count: int) -> tuple[str, Callable[[float], str]]:
    """Days as they are counted, by UTC; hours as clocks have them here, and days made of those."""
    if unit == "day":
        return "day (UTC)", day
    if count > MOST_HOURS:
        return "day", lambda at: time.strftime("%Y-%m-%d", time.localtime(at))
    return "hour", lambda at: time.strftime("%Y-%m-%d %H:%M", time.localtime(at - at % HOUR))


def _labels(counts: Counter[str]) -> int:
    return sum(counts[kind] for kind, _, _ in BARS)


def _bar(counts: Counter[str], top: int) -> Marked | None:
    parts, total, drawn = [], 0, 0
    for kind, letter, colour in BARS:
        total += counts[kind]
        end = round(ACROSS * total / top) if top else 0
        parts.append(f"[{colour}]{letter * (end - drawn)}[/{colour}]")
        drawn = end
    return Marked("".join(parts)) if drawn else None
