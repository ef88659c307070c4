"""Counting what older gateways left: feedback that was taken before there were the counters of today. Sync.

A sweep over the stream of completions and that of events, a page at a time. Each thing is counted by the
script that finds it uncounted, so that gateways may sweep side by side, be stopped, and take feedback
meanwhile. Old completions count without a tag. What an older gateway writes after its completion was
swept is not seen: replace them all before this one starts.

tw:recount   hash   completions, events: the last id swept of each; done: 1
"""

import asyncio
from typing import Any

import orjson
from redis import Redis

from feedback import layout, scripts
from feedback.reader import START

PAGE = 200
OLD_COUNTERS = layout.PREFIX + "count:*"
OLD_SEEN = layout.PREFIX + "policies:seen"


class Recount:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._adopt = redis.register_script(scripts.ADOPT)

    def done(self) -> bool:
        return bool(self._redis.hexists(layout.RECOUNT, "done"))

    def page(self) -> bool:
        """Count a page of each stream. Whether that was all; then the old counters are gone too."""
        if self.done():
            return True
        swept = [self._sweep(layout.COMPLETIONS, "completions"), self._sweep(layout.EVENTS, "events")]
        if any(swept):
            return False
        for key in self._redis.scan_iter(OLD_COUNTERS, count=1000):
            self._redis.unlink(key)
        self._redis.unlink(OLD_SEEN)
        self._redis.hset(layout.RECOUNT, "done", 1)
        return True

    def _sweep(self, stream: str, name: str) -> int:
        """Count the next page of a stream: how many entries it had."""
        after: Any = self._redis.hget(layout.RECOUNT, name)
        entries: Any = self._redis.xrange(stream, min=f"({after or START}", count=PAGE)
        if entries:
            things = dict.fromkeys(_thing(entry) for _, entry in entries)
            self._adopt(args=[part for thing in things for part in thing])
            self._redis.hset(layout.RECOUNT, name, str(entries[-1][0]))
        return len(entries)


async def keep_recounting(recount: Recount) -> None:
    """Count all of what older gateways left, then wait for ever."""
    while not await asyncio.to_thread(recount.page):
        pass
    await asyncio.Event().wait()


def _thing(entry: dict[str, str]) -> tuple[str, str]:
    """What an entry of either stream is about: its kind and id."""
    if "id" in entry:
        return "completion", entry["id"]
    body = orjson.loads(entry["body"])
    return (
        ("pair", body["pair_id"]) if entry["kind"] == "comparison" else ("completion", body["completion_id"])
    )
