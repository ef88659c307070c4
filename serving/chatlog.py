"""The log of served replies, off the hot path: batches to Redis, waits while Redis is away."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from redis.exceptions import RedisError

from feedback.store import FeedbackStore
from feedback.types import Completion, Opened
from serving.completions import Served, completions_of
from serving.metrics import Metrics
from serving.served import ServedSums, Witness, witness_of

log = logging.getLogger(__name__)

FLUSH_EVERY = 0.1
BATCH = 200
RETRY = 1.0


class ChatLog:
    """`begun` and `ended` cost the request a list append; the rest happens in `keep_flushing`.

    While Redis is away at most `capacity` replies wait in memory; then the oldest are dropped, and counted.
    """

    def __init__(self, store: FeedbackStore, sums: ServedSums, metrics: Metrics, capacity: int) -> None:
        self._store = store
        self._sums = sums
        self._metrics = metrics
        self._capacity = capacity
        self._begun: dict[str, Opened] = {}
        self._ended: deque[Served] = deque()
        self._witnesses: list[Witness] = []
        self._batch: list[Completion] = []
        self._nudge = asyncio.Event()

    def begun(self, opened: Opened) -> None:
        """A reply is about to be served: from now on it can be rated."""
        if len(self._begun) < self._capacity:
            self._begun[opened.id] = opened
        self._nudge.set()

    def ended(self, served: Served) -> None:
        self._begun.pop(served.id, None)
        if len(self._ended) >= self._capacity:
            self._ended.popleft()
            self._metrics.log_dropped.inc()
        self._ended.append(served)
        self._nudge.set()

    def refused(self, served: Served, failed: bool) -> None:
        """There was no reply: nothing to log, nothing to rate. `failed`: not by the client's doing."""
        self._begun.pop(served.id, None)
        if failed and len(self._witnesses) < self._capacity:
            self._bear_witness(served, [])
            self._nudge.set()

    async def keep_flushing(self) -> None:
        while True:
            await self._nudge.wait()
            self._nudge.clear()
            await asyncio.sleep(FLUSH_EVERY)
            try:
                await self.flush()
            except RedisError as error:
                log.warning("the log waits, Redis is away: %s (%d replies)", error, len(self._ended))
                self._nudge.set()
                await asyncio.sleep(RETRY)

    async def close(self) -> None:
        """Write what waits, if Redis is there to take it."""
        try:
            await self.flush()
        except RedisError as error:
            log.error("%d replies are lost, Redis is away: %s", len(self._batch) + len(self._ended), error)

    async def flush(self) -> None:
        """Write everything that waits. Raises RedisError, and then has lost nothing."""
        opened = list(self._begun.values())
        if opened:
            await self._store.open(opened)
            for begun in opened:
                self._begun.pop(begun.id, None)
        while self._batch or self._ended:
            while self._ended and len(self._batch) < BATCH:
                self._batch += self._entries(self._ended.popleft())
                await asyncio.sleep(0)  # requests go first
            await self._store.log(self._batch)
            self._batch = []
        if witnesses := list(self._witnesses):
            await self._sums.count(witnesses)
            del self._witnesses[: len(witnesses)]

    def _entries(self, served: Served) -> list[Completion]:
        """Log entries of one request; one that cannot be read is given up, or it would hold up all others."""
        try:
            completions = completions_of(served)
        except Exception:
            log.exception("the reply %s cannot be logged", served.id)
            self._metrics.log_dropped.inc()
            return []
        self._bear_witness(served, completions)
        return completions

    def _bear_witness(self, served: Served, completions: Sequence[Completion]) -> None:
        if (witness := witness_of(served, completions)) is not None:
            self._witnesses.append(witness)
