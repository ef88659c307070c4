import pytest

from deploy.cli.volume import volume_rows
from deploy.client import Object

pytestmark = pytest.mark.usefixtures("five_hours_west")

DAY, HOUR = 86400, 3600
START = 1_782_950_400  # 2026-07-02 00:00 UTC


def of(length: int, *rows: tuple[int, int, int, int]) -> list[Object]:
    kinds = ("up", "down", "comparisons", "completions")
    return [{"start": START + n * length, **dict(zip(kinds, row, strict=True))} for n, row in enumerate(rows)]


def mark(time: float, kind: str = "promotion") -> Object:
    return {"time": time, "kind": kind, "to": "policy-v2"}


def plain(bar: object) -> str:
    return "".join(letter for letter in str(bar) if letter in "█▒░")


def test_days_are_those_of_the_counters():
    head, rows = volume_rows(of(DAY, (6, 3, 3, 40), (2, 1, 0, 9)), "day", [mark(START + DAY + 5)])
    assert head == "day (UTC)"
    assert [(row[0], *row[2:]) for row in rows] == [
        ("2026-07-02", 6, 3, 3, 40, ""),
        ("2026-07-03", 2, 1, 0, 9, "policy-v2"),
    ]
    assert [plain(row[1]) for row in rows] == ["█" * 12 + "▒" * 6 + "░" * 6, "█" * 4 + "▒" * 2]


def test_hours_are_those_of_clocks_here_and_days_made_of_many():
    head, rows = volume_rows(of(HOUR, (1, 0, 0, 1), (0, 2, 0, 2)), "hour", [mark(START + 3700, "rollback")])
    assert head == "hour"
    assert [row[0] for row in rows] == ["2026-07-01 19:00", "2026-07-01 20:00"]
    assert rows[1][6] == "↩ policy-v2"
    head, rows = volume_rows(of(HOUR, *[(1, 0, 0, 2)] * 49), "hour", [])
    assert head == "day"
    assert [(row[0], row[2], row[5]) for row in rows] == [
        ("2026-07-01", 5, 10), ("2026-07-02", 24, 48), ("2026-07-03", 20, 40),
    ]  # fmt: skip


def test_it_begins_and_ends_with_something():
    none, one = (0, 0, 0, 0), (0, 0, 0, 1)
    _, rows = volume_rows(of(DAY, none, one, none, none, none), "day", [mark(START + 3 * DAY)])
    assert [row[0] for row in rows] == ["2026-07-03", "2026-07-04", "2026-07-05"]
    assert [row[1] for row in rows] == [None, None, None]
    assert volume_rows(of(DAY, none, none), "day", []) == ("day (UTC)", [])
