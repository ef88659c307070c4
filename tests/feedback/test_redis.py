"""Connections over a restart of their server: stale ones are replaced, and what may be asked twice waits."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import BusyLoadingError, ConnectionError

from feedback.redis import connect, connect_async, patiently
from tests.servers import ValkeyProcess, free_port

AT_ONCE = 5  # questions, so that the pool has so many connections


async def several(ask: Callable[[], Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*(ask() for _ in range(AT_ONCE)))


@asynccontextmanager
async def loading(busy: int) -> AsyncIterator[str]:
    """A server that still reads its file when it is asked for the first so many keys: its URL."""
    asked, answering = 0, list[asyncio.Task[None]]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        answering.append(asyncio.current_task())  # type: ignore[arg-type]
        while header := await reader.readline():
            words = [(await reader.readline(), await reader.readline())[1] for _ in range(int(header[1:]))]
            reply = b"+OK\r\n"
            if words[0] == b"GET\r\n":
                asked += 1
                reply = b"-LOADING reading the file\r\n" if asked <= busy else b"$2\r\nhi\r\n"
            writer.write(reply)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0?protocol=2"
        await asyncio.gather(*answering)


async def test_connections_of_a_server_that_restarted_are_replaced(valkey: ValkeyProcess):
    redis = connect_async(valkey.url)
    with connect(valkey.url) as sync:
        await several(redis.ping)
        sync.ping()
        valkey.kill()
        valkey.start()
        await asyncio.sleep(0.05)  # the loop hears of the old server's end
        assert await several(redis.ping) == [True] * AT_ONCE
        assert sync.ping()
    await redis.aclose()


async def test_a_restart_is_waited_for(valkey: ValkeyProcess, monkeypatch):
    monkeypatch.setattr("feedback.redis.PATIENCE", 20.0)  # beside other tests a start takes seconds
    redis = connect_async(valkey.url)
    await several(redis.ping)
    valkey.kill()
    try:
        waiting = asyncio.create_task(several(lambda: patiently(redis.ping)))
        await asyncio.sleep(0.3)
        assert not waiting.done()
    finally:
        await asyncio.to_thread(valkey.start)
    assert await waiting == [True] * AT_ONCE
    await redis.aclose()


async def test_a_server_that_stays_away_is_given_up(monkeypatch):
    monkeypatch.setattr("feedback.redis.PATIENCE", 0.2)
    redis = connect_async(f"redis://127.0.0.1:{free_port()}/0")
    begun = time.monotonic()
    with pytest.raises(ConnectionError):
        await patiently(redis.ping)
    assert 0.2 <= time.monotonic() - begun < 5
    await redis.aclose()


async def test_a_server_that_still_reads_its_file_is_waited_for():
    async with loading(busy=3) as url:
        redis = connect_async(url)
        assert await patiently(lambda: redis.get("key")) == "hi"
        await redis.aclose()


async def test_a_sync_client_waits_for_a_server_that_still_reads_its_file():
    async with loading(busy=3) as url:
        with connect(url) as redis:
            assert await asyncio.to_thread(redis.get, "key") == "hi"


async def test_nothing_else_is_asked_twice():
    async with loading(busy=1) as url:
        redis = connect_async(url)
        with pytest.raises(BusyLoadingError):
            await redis.get("key")
        await redis.aclose()
