"""What the hashes of a stretch of time add up to, kept: a look adds what has changed since the one before."""

import threading
from collections.abc import Hashable, Mapping

MOST = 32  # stretches that are kept

Counts = Mapping[str, int]
Hashes = Mapping[int, Counts]


class Sums:
    """For the threads of a gateway. What is handed out is not changed any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[Hashes, Counts]] = {}  # the one asked for last at the end

    def of(self, stretch: Hashable, hashes: Hashes) -> Counts:
        """Field → sum over `hashes`. One that is the same object as when this stretch was last asked for is
        taken to be as it was."""
        with self._lock:
            before, sums = self._kept.pop(stretch, ({}, {}))
            changed = [start for start, found in hashes.items() if found is not before.get(start)]
            if _lost(before, hashes, changed):
                before, sums, changed = {}, {}, list(hashes)
            sums = dict(sums)
            for start in changed:
                old = before.get(start, {})
                for name, count in hashes[start].items():
                    sums[name] = sums.get(name, 0) + count - old.get(name, 0)
            self._kept[stretch] = dict(hashes), sums
            if len(self._kept) > MOST:
                del self._kept[next(iter(self._kept))]
        return sums


def _lost(before: Hashes, now: Hashes, changed: list[int]) -> bool:
    """Whether a hash or one of its fields is there no more, whose counts a sum would have to go without."""
    known = [start for start in changed if start in before]
    return not before.keys() <= now.keys() or any(
        not before[start].keys() <= now[start].keys() for start in known
    )
