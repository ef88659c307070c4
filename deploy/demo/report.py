"""What came of the demo: one row a version, and whether it is a success."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console

from deploy.cli.table import show_table
from deploy.cli.words import interval
from deploy.demo.exam import BASE
from deploy.demo.taste import DESCRIPTION
from workers.statistics import Interval


@dataclass(frozen=True)
class Row:
    """`minutes`: from the demo's begin to the version's publication. `answered`, `failed`: requests, failed
    ones by who was champion then. `win_rate`: over policy-v0."""

    version: str
    taste: float
    words: float
    win_rate: float | None
    win_rate_interval: Interval | None
    minutes: float
    answered: int
    failed: int


@dataclass(frozen=True)
class Report:
    """`failures`: what each failed request was told. `notes`: what did not go as planned."""

    rows: Sequence[Row]
    champion: str
    prompts: int
    minutes: float
    requests: int
    failures: Sequence[str]
    background_chats: int
    longest_gap: float
    cycles: Sequence[dict[str, Any]]
    notes: Sequence[str]

    @property
    def winner(self) -> Row | None:
        """The champion's row, where its interval lies above ½."""
        for row in self.rows:
            if row.version == self.champion and row.win_rate_interval and row.win_rate_interval[0] > 0.5:
                return row
        return None

    @property
    def passed(self) -> bool:
        return self.winner is not None and not self.failures

    def as_dict(self) -> dict[str, Any]:
        return {"taste": DESCRIPTION, **asdict(self), "passed": self.passed}


def show_report(report: Report, console: Console) -> None:
    columns = ("version", "taste", "words", "win rate over policy-v0", "minutes", "answered", "failed")
    console.print()
    show_table(console, columns, [_cells(row, report.champion) for row in report.rows])
    console.print()
    for sentence in (*_facts(report), *report.notes, verdict(report)):
        console.print(sentence, markup=False, soft_wrap=True)


def verdict(report: Report) -> str:
    """Whether it learned, in one sentence; in two, if requests failed."""
    failed = (
        f" {len(report.failures)} requests failed, the first: {report.failures[0]}" if report.failures else ""
    )
    if report.winner is not None:
        return f"{report.champion} is liked better than policy-v0, and not by chance.{failed}"
    if report.champion == BASE:
        return f"{BASE} still answers: no update was accepted.{failed}"
    return f"{report.champion} answers, but is not surely better than {BASE}.{failed}"


def _cells(row: Row, champion: str) -> Sequence[object]:
    return (
        f"{row.version} (champion)" if row.version == champion else row.version,
        f"{row.taste:.3f}",
        f"{row.words:.0f}",
        interval(row.win_rate, row.win_rate_interval),
        f"{row.minutes:.1f}",
        row.answered,
        row.failed,
    )


def _facts(report: Report) -> list[str]:
    return [
        f"{report.prompts} prompts that nobody rated, answered twice by each version; "
        "95 % intervals by bootstrap over prompts.",
        f"{report.minutes:.1f} minutes, {report.requests} requests, {len(report.failures)} failed; "
        f"{report.background_chats} background chats, the longest wait inside one "
        f"{report.longest_gap:.2f} s.",
    ]
