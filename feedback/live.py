"""Telling open dashboards that something changed. Async: one look a second for all of them, none without one.

What changed is not told, only that something did: the ids of the newest entries of some streams. A page asks
for its figures again then, with the filters that it has.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence

from redis.asyncio import Redis
from redis.exceptions import RedisError

from feedback.errors import TooManyOpen

EVERY = 1.0
LASTS = 600.0  # seconds after which a page has to ask again, and its key or session is looked at
BEAT = 15.0  # seconds without news after which a line says that all is well, so that dead pages are noticed
MOST_OPEN = 200

log = logging.getLogger(__name__)


class Live:
    def __init__(self, redis: "Redis", streams: Sequence[str]) -> None:
        self._redis = redis
        self._streams = streams
        self._open: set[asyncio.Event] = set()
        self._looking: asyncio.Task[None] | None = None
        self._place = ""

    def events(self) -> AsyncIterator[bytes]:
        """Server-sent events for one page: a `change` at once and at each change. Raises TooManyOpen."""
        if len(self._open) >= MOST_OPEN:
            raise TooManyOpen("Too many dashboards are open; close one, or ask for the figures now and then.")
        return self._tell()

    async def _tell(self) -> AsyncIterator[bytes]:
        news = asyncio.Event()
        self._open.add(news)
        if self._place:
            news.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._keep_looking())
        ends = time.monotonic() + LASTS
        try:
            yield b"retry: 3000\n\n"
            while time.monotonic() < ends:
                try:
                    await asyncio.wait_for(news.wait(), BEAT)
                    news.clear()
                    yield f"event: change\ndata: {self._place}\n\n".encode()
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._open.discard(news)

    async def _keep_looking(self) -> None:
        task = asyncio.current_task()
        # An error of Redis that comes while this is cancelled takes the cancellation's place.
        while self._open and (task is None or not task.cancelling()):
            try:
                place = await self._look()
            except (RedisError, OSError) as error:
                log.warning("dashboards hear of nothing, Redis is away: %s", error)
            else:
                if place != self._place:
                    self._place = place
                    for news in self._open:
                        news.set()
            await asyncio.sleep(EVERY)
        self._place = ""

    async def _look(self) -> str:
        async with self._redis.pipeline(transaction=False) as pipe:
            for stream in self._streams:
                pipe.xrevrange(stream, count=1)
            newest = await pipe.execute()
        return " ".join(str(entries[0][0]) if entries else "-" for entries in newest)
