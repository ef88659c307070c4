"""What a look at the counters is narrowed to: versions, a stretch of time, a tag, a source. Pure."""

from dataclasses import dataclass
from typing import Literal, Self

from feedback.layout import DAY, HOUR, IMPORTED
from feedback.types import Source

Unit = Literal["hour", "day"]
LENGTHS: dict[Unit, int] = {"hour": HOUR, "day": DAY}
MOST_HOURS = 7 * 24 + 1  # a longer stretch goes by days; a week that ends now touches one hour more
MOST_DAYS = 92


@dataclass(frozen=True, slots=True)
class Filter:
    """`versions`: these alone, if any are named. `source`: `human`, replies that versions of ours wrote;
    `import`, replies of data sets."""

    versions: frozenset[str] = frozenset()
    tag: str | None = None
    source: Source | None = None

    def takes(self, policy: str) -> bool:
        if self.source is not None and (self.source == "import") is not (policy == IMPORTED):
            return False
        return not self.versions or policy in self.versions


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Window:
    """Whole hours or whole UTC days, from `first` up to but not including `end` (Unix seconds).

    Counters are kept by these, so a stretch of time is widened to them: by hours up to a week, else by days,
    and the newest MOST_DAYS at most. So no look reads more than MOST_HOURS of them, however much was said.
    """

    first: int
    end: int
    unit: Unit

    @classmethod
    def of(cls, since: float, until: float) -> Self:
        unit: Unit = "hour" if until - since <= MOST_HOURS * HOUR else "day"
        length = LENGTHS[unit]
        end = -int(-until // length) * length
        first = max(int(since // length) * length, end - MOST_DAYS * DAY)
        return cls(first, max(end, first), unit)

    def starts(self) -> range:
        return range(self.first, self.end, LENGTHS[self.unit])

    def days(self) -> range:
        """The UTC days that it touches."""
        return range(self.first - self.first % DAY, self.end, DAY)
