"""One look a second for all open dashboards, and none without one."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis import Redis

from feedback import live
from feedback.errors import TooManyOpen
from feedback.live import Live
from feedback.redis import connect_async
from tests.servers import ValkeyProcess


@pytest.fixture
async def news(valkey: ValkeyProcess, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    monkeypatch.setattr(live, "EVERY", 0.02)
    redis = connect_async(valkey.url)
    yield Live(redis, ("tw:events", "tw:completions"))
    await redis.aclose()


async def change(events: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(5):
        while not (event := await anext(events)).startswith(b"event: change"):
            pass
    return event


def looks(redis: Redis) -> int:
    return int(redis.info("commandstats").get("cmdstat_xrevrange", {}).get("calls", 0))


async def test_a_page_hears_at_once_and_at_each_change(news, redis):
    events = news.events()
    assert (await anext(events)).startswith(b"retry:")
    assert await change(events) == b"event: change\ndata: - -\n\n"
    redis.xadd("tw:events", {"kind": "rating"}, id="7-1")
    assert await change(events) == b"event: change\ndata: 7-1 -\n\n"
    redis.xadd("tw:completions", {"id": "x"}, id="8-1")
    assert await change(events) == b"event: change\ndata: 7-1 8-1\n\n"
    await events.aclose()


async def test_many_pages_share_one_look_and_none_costs_nothing(news, redis):
    pages = [news.events() for _ in range(20)]
    for page in pages:
        await change(page)
    redis.config_resetstat()
    await asyncio.sleep(0.5)
    assert 2 <= looks(redis) <= 2 * 0.5 / 0.02
    for page in pages:
        await page.aclose()
    await asyncio.sleep(0.1)
    redis.config_resetstat()
    await asyncio.sleep(0.2)
    assert looks(redis) == 0
    again = news.events()
    await change(again)
    await again.aclose()


async def test_a_quiet_stream_says_that_it_is_there_and_ends_in_time(news, monkeypatch):
    monkeypatch.setattr(live, "BEAT", 0.05)
    monkeypatch.setattr(live, "LASTS", 0.3)
    async with asyncio.timeout(5):
        heard = [event async for event in news.events()]
    assert heard.count(b": still here\n\n") >= 2


async def test_there_are_only_so_many(news, monkeypatch):
    monkeypatch.setattr(live, "MOST_OPEN", 1)
    page = news.events()
    await change(page)
    with pytest.raises(TooManyOpen):
        news.events()
    await page.aclose()
    await change(news.events())


async def test_redis_may_go_and_come_back(news, valkey, redis, caplog):
    page = news.events()
    await change(page)
    redis.client_kill_filter(_type="normal", skipme=True)
    redis.xadd("tw:events", {"kind": "rating"}, id="9-1")
    assert b"9-1" in await change(page)
    await page.aclose()
