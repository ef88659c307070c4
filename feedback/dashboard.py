"""All that the dashboard draws of feedback, in one look at the counters. Sync.

What a look costs grows with hours or days times versions, both of them bounded, never with ratings.
"""

from dataclasses import dataclass

from feedback import figures, layout
from feedback.comments import Comments
from feedback.figures import Json
from feedback.filters import EVERYTHING, Filter, Window
from feedback.labels import Labels, Page
from feedback.stats import Counters, Loudest, Stats
from feedback.strengths import load_climb
from feedback.tally import Tally, age_of

MOST_SHOWN = 30  # comments
DRAWN = 30 * layout.DAY  # of a look that has no beginning, so much is drawn by time
USUAL = (7, 30, 90, None)  # days of a look, of those that the page offers; None: all time


@dataclass(frozen=True, slots=True)
class Look:
    """What is looked at. `since` None: since ever; then only what is drawn by time has a beginning."""

    only: Filter
    since: float | None
    until: float

    @property
    def window(self) -> Window:
        return Window.of(self.until - DRAWN if self.since is None else self.since, self.until)

    @property
    def first(self) -> float:
        return 0.0 if self.since is None else self.window.first

    def as_dict(self) -> Json:
        """What it came to: whole hours or days."""
        window, only = self.window, self.only
        return {
            "since": None if self.since is None else window.first,
            "until": window.end,
            "unit": window.unit,
            "filters": {
                "versions": sorted(only.versions, key=age_of),
                "tag": only.tag,
                "source": only.source,
            },
        }


class Dashboard:
    def __init__(self, stats: Stats, comments: Comments, labels: Labels) -> None:
        self._stats = stats
        self._comments = comments
        self._labels = labels

    def show(self, look: Look) -> Json:
        counters = self._stats.counters(look.window, look.only.tag)
        found = self.tally(look, counters)
        everything = self._stats.heard()
        seen = everything.versions
        return {
            "object": "dashboard",
            **look.as_dict(),
            "known": {
                "versions": seen,
                "tags": self._stats.tags(),
                "sources": figures.sources(everything),
            },
            "totals": figures.totals(found),
            "policies": figures.policies(found),
            "volume": figures.volume(counters, look.only),
            "matrix": figures.matrix(found),
            "strengths": figures.ranking(found),
            "sides": figures.sides(found),
            "reasons": figures.reasons(found),
            "raters": figures.raters(self.loudest(look)),
            "comments": self._commented(look, seen, MOST_SHOWN).rows,
        }

    def get_ready(self, until: float) -> None:
        """Read and load what the first looks would wait for."""
        load_climb()
        for days in USUAL:
            self.show(Look(EVERYTHING, None if days is None else until - days * layout.DAY, until))

    def tally(self, look: Look, counters: Counters | None = None) -> Tally:
        """`counters`: of its window, where they have been read."""
        if look.since is None:
            return self._stats.total(look.only)
        if counters is None:
            counters = self._stats.counters(look.window, look.only.tag)
        return self._stats.within(look.window, look.only, counters)

    def loudest(self, look: Look) -> Loudest:
        return self._stats.loudest(None if look.since is None else look.window.days())

    def labels(self, look: Look, count: int, after: str | None, reason: str | None) -> Page:
        return self._labels.newest(look.only, look.first, look.window.end, count, after, reason)

    def comments(self, look: Look, count: int, after: float | None) -> Page:
        return self._commented(look, list(self._stats.policies()), count, after)

    def _commented(self, look: Look, seen: list[str], count: int, after: float | None = None) -> Page:
        """Comments of the window; imports have none."""
        taken = [policy for policy in reversed(seen) if look.only.takes(policy)]
        return self._comments.newest(taken, look.first, look.window.end, look.only.tag, count, after)
