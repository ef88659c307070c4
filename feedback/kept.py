"""What was read of hours' and days' counters, kept until they change. Sync; for the threads of a gateway.

Whatever changes the counters of an hour notes it in `layout.CHANGED`, by numbers that only grow. So a look
asks for what has a higher number than it has seen, and reads that again, of whoever's gateway the change was.
All is read again where another server answers, or one that was emptied: what was noted in the last second
before Valkey was killed may be lost with it, and its numbers then stand for other changes.
"""

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redis import Redis
from redis.client import Pipeline

from feedback.layout import CHANGED, CHANGES, DAY, HOUR, STORE

MOST = 5000  # values; a look of a week takes 169 hours and 8 days

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Place(Generic[Value]):
    """A value of some `period`: the Unix second at which an hour or a day starts, and HOUR or DAY. `read`
    asks for it in a pipeline, and `value` makes it of the answer."""

    key: str
    period: tuple[int, int]
    read: Callable[["Pipeline", str], Any]
    value: Callable[[Any], Value]


class Kept:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._lock = threading.Lock()
        self._values: OrderedDict[str, tuple[int, Any]] = OrderedDict()  # key → change it is as new as, value
        self._changed: dict[tuple[int, int], int] = {}  # hour or day → its newest change
        self._newest = 0  # change that was seen
        self._epoch = 0  # begins anew when all is forgotten
        self._store = ("", "")  # that all this was read from: the server's run, and its store

    def values(self, places: Sequence[Place[Value]]) -> list[Value]:
        """Each place's value, as new as this call. Not to be changed: others are handed the same."""
        seen = self._follow()
        with self._lock:
            found = {place.key: kept[1] for place in places if (kept := self._valid(place)) is not None}
        missing = [place for place in places if place.key not in found]
        if missing:
            with self._redis.pipeline(transaction=False) as pipe:
                for place in missing:
                    place.read(pipe, place.key)
                answers = pipe.execute()
            read = {place.key: place.value(answer) for place, answer in zip(missing, answers, strict=True)}
            found |= read
            with self._lock:
                self._keep(read, *seen)
        return [found[place.key] for place in places]

    def _follow(self) -> tuple[int, int]:
        """See what has changed; return the newest change's number, and the epoch."""
        while True:
            with self._lock:
                newest, epoch = self._newest, self._epoch
            with self._redis.pipeline() as pipe:
                pipe.get(CHANGES)
                pipe.zrange(CHANGED, newest + 1, "+inf", byscore=True, withscores=True)
                pipe.set(STORE, uuid.uuid4().hex, nx=True)
                pipe.get(STORE)
                pipe.info("server")
                count, changes, _, drawn, about = pipe.execute()
            count, store = int(count or 0), (str(about["run_id"]), str(drawn))
            with self._lock:
                if epoch != self._epoch:
                    continue  # another thread has forgotten all meanwhile
                if store == self._store and count >= newest:
                    for hour, number in changes:
                        self._note(int(hour), int(number))
                else:  # it was started again, emptied, or restored
                    self._values.clear()
                    self._changed.clear()
                    self._epoch += 1
                    self._newest, self._store = count, store
                return count, self._epoch

    def _note(self, hour: int, number: int) -> None:
        for period in ((hour, HOUR), (hour - hour % DAY, DAY)):
            self._changed[period] = max(self._changed.get(period, 0), number)
        self._newest = max(self._newest, number)

    def _valid(self, place: Place[Any]) -> tuple[int, Any] | None:
        kept = self._values.get(place.key)
        if kept is None or kept[0] < self._changed.get(place.period, 0):
            return None
        self._values.move_to_end(place.key)
        return kept

    def _keep(self, read: dict[str, Any], newest: int, epoch: int) -> None:
        if epoch != self._epoch:
            return
        for key, value in read.items():
            self._values[key] = (newest, value)
            self._values.move_to_end(key)
        while len(self._values) > MOST:
            self._values.popitem(last=False)
