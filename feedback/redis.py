"""Connections to Redis or Valkey: text in and out, bounded waits, and patience with one that restarts."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError, ConnectionError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

CONNECT_TIMEOUT = 2.0
ANSWER_TIMEOUT = 10.0
PATIENCE = 2.0  # seconds; the supervisor has a killed Valkey back after about one
ASK_AGAIN = 0.05

Answer = TypeVar("Answer")

# While a pool waits for notices of maintenance, which only Redis' own cloud sends, redis-py 8.1 takes a
# connection whose server has gone for one that has a notice to read, and hands it out.
_NO_NOTICES = MaintNotificationsConfig(enabled=False)


def connect(url: str) -> Redis:
    """Sync. It waits a moment for a server that still reads its file, as that has done nothing yet."""
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        maint_notifications_config=_NO_NOTICES,
        retry=Retry(ConstantBackoff(ASK_AGAIN), round(PATIENCE / ASK_AGAIN), (BusyLoadingError,)),
    )


def connect_async(url: str) -> AsyncRedis:
    """Async. Whoever may ask twice asks `patiently`."""
    return AsyncRedis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        maint_notifications_config=_NO_NOTICES,
    )


async def patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """What `ask` gives, asked again for a moment while the server is away or still reads its file.

    For what may be done twice: where the answer gets lost, the server has done it already. Raises redis'
    ConnectionError after PATIENCE seconds, and its TimeoutError, which has waited long enough, at once.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return await ask()
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(ASK_AGAIN)
