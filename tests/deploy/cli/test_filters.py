import time
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
import typer

from deploy.cli.filters import From, query_of, when

pytestmark = pytest.mark.usefixtures("five_hours_west")

DAY = 86400
WEST = timezone(timedelta(hours=-5))


def stretch(since: str | None, until: str | None, days: float | None = None) -> tuple[object, object]:
    query = query_of(None, days, since and when(since), until and when(until), None, None)
    return query.get("since"), query.get("until")


def at(*parts: int, zone: timezone = WEST) -> int:
    return int(datetime(*parts, tzinfo=zone).timestamp())


def test_a_date_is_all_of_a_day_here():
    assert stretch("2026-07-03", "2026-07-03") == (at(2026, 7, 3), at(2026, 7, 4))
    assert stretch("2026-07-01", "2026-07-07") == (at(2026, 7, 1), at(2026, 7, 8)), (
        "a week is counted by hours"
    )


def test_more_than_a_week_is_whole_utc_days():
    expected = (at(2026, 7, 1, zone=UTC), at(2026, 7, 9, zone=UTC))
    assert stretch("2026-07-01", "2026-07-08") == expected


def test_a_time_is_what_it_is():
    here = (at(2026, 7, 3, 14, 30), at(2026, 7, 3, 16))
    assert stretch("2026-07-03T14:30", "2026-07-03 16:00") == here
    assert stretch("2026-07-03T19:30Z", "2026-07-03T23:00+02:00") == here
    assert stretch("2026-06-01T14:30", "2026-07-03T16:00") == (at(2026, 6, 1, 14, 30), at(2026, 7, 3, 16))


def test_now_is_where_it_ends_by_itself():
    today = date.today()
    assert stretch(today.isoformat(), None) == (at(today.year, today.month, today.day), None)
    since, until = stretch(None, None, days=2)
    assert (abs(since - (time.time() - 2 * DAY)) < 5, until) == (True, None)


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-13-01", "03.07.2026", "", "0001-01-01", "9999-12-31T23:59"]
)
def test_what_is_no_time_is_told_how_one_is_written(text):
    with pytest.raises(
        typer.BadParameter, match=r"is no date or time\. Write 2026-07-31 or 2026-07-31T14:30"
    ):
        when(text)


@pytest.mark.parametrize(
    ("since", "until", "days", "says"),
    [
        (None, "2026-07-03", None, "Say from when, too: --since."),
        ("2026-07-03", None, 7, "Take either it, or --since and --until."),
        (None, "2026-07-03", 7, "Take either it, or --since and --until."),
        ("2026-07-03", "2026-07-02", None, "It ends before it begins: --since is later."),
        ("2026-07-03T12:00", "2026-07-03T12:00", None, "It ends before it begins"),
        ("2999-01-01", None, None, "It lies ahead: there is no feedback yet."),
    ],
)
def test_times_that_do_not_go_together_are_refused(since, until, days, says):
    with pytest.raises(typer.BadParameter, match=says):
        stretch(since, until, days)


def test_only_what_is_named_is_asked_for():
    assert query_of(None, None, None, None, None, None) == {}
    assert query_of("policy-v1", None, None, None, "home", From.data) == {
        "versions": "policy-v1",
        "tag": "home",
        "source": "import",
    }
