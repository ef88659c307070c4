"""The dashboard's figures from the counters, without HTTP."""

import time

from feedback.comments import Comments
from feedback.dashboard import USUAL, Dashboard, Look
from feedback.filters import EVERYTHING
from feedback.labels import Labels
from feedback.layout import DAY
from feedback.stats import Stats
from tests.crowd import Crowd


def test_first_looks_find_their_hours_read(redis):
    end = time.time() - 60
    Crowd(end - 20 * DAY, end, 300).speak(redis)
    board = Dashboard(Stats(redis), Comments(redis), Labels(redis))
    board.get_ready(end)
    for days in USUAL:
        redis.config_resetstat()
        shown = board.show(Look(EVERYTHING, None if days is None else end - days * DAY, end))
        assert shown["totals"]["labels"] > 0
        assert redis.info("commandstats")["cmdstat_hgetall"]["calls"] <= 3, "what stands since ever"


def test_what_stands_since_ever_reads_no_days(redis):
    Crowd(time.time() - 9 * DAY, time.time() - 60, 50).speak(redis)
    board = Dashboard(Stats(redis), Comments(redis), Labels(redis))
    redis.config_resetstat()
    assert board.tally(Look(EVERYTHING, None, time.time())).labels > 0
    assert redis.info("commandstats")["cmdstat_hgetall"]["calls"] == 1
