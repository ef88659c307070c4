"""How numbers and times are written."""

import time
from collections.abc import Iterable


def number(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def share(value: float | None) -> str | None:
    return None if value is None else f"{value:.0%}"


def traffic(value: float) -> str:
    """A share of the traffic, as it was set: `10%`, `12.5%`."""
    return f"{100 * value:.4g}%"


def many(count: int, one: str, more: str | None = None) -> str:
    """`1 label`, `2 labels`."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def interval(value: float | None, bounds: Iterable[float] | None, digits: int = 0) -> str | None:
    """A share with its interval: `62% [51%, 72%]`."""
    if value is None:
        return None
    low_high = ", ".join(f"{bound:.{digits}%}" for bound in bounds or ())
    return f"{value:.{digits}%} [{low_high}]" if low_high else f"{value:.{digits}%}"


def ago(when: float | None) -> str | None:
    """How long since a Unix time, in the largest unit that fits."""
    if when is None:
        return None
    seconds = max(0.0, time.time() - when)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def span(seconds: float) -> str:
    """A length of time in the largest unit that fits."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} seconds"


def stamp(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def day(when: float) -> str:
    """The UTC day, as counters have it."""
    return time.strftime("%Y-%m-%d", time.gmtime(when))


def duration(started: float | None, finished: float | None) -> str | None:
    if started is None:
        return None
    seconds = (finished or time.time()) - started
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
