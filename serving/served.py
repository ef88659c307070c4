"""What replies are like while two versions are on trial, in sums: what its guards look at.

tw:served:<account>:<version>   hash    <group>:<field of Sums>, expires

`account` is that of `Trial`. Only replies count whose version a trial's draw chose; not what was asked of a
version by name, nor a pair's. Chance dealt out people, not replies, so sums are kept by groups of them, at
random (Wolter 2007, "Introduction to variance estimation", ch. 2): what differs from group to group tells how
far people differ, and takes no more room for a million of them. A batch that is counted again after a lost
answer counts twice: these are guards, not accounts. Async to write, sync to read.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import orjson
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from feedback.types import Completion
from serving.completions import DISCONNECTED, STOPPED, Served, sticky

GROUPS = 128
KEPT = 30 * 24 * 3600  # seconds after the last reply

ADD = """
for index, key in ipairs(KEYS) do
  for name, value in pairs(cjson.decode(ARGV[index + 1])) do
    redis.call('HINCRBYFLOAT', key, name, value)
  end
  redis.call('EXPIRE', key, ARGV[1])
end
"""


@dataclass(slots=True)
class Sums:
    """`seen`: streams whose first byte came, with the seconds until then, and those given up before it, with
    the seconds that somebody waited; `whole`: replies that came to an end, with their tokens; `…_2`: the sums
    of squares."""

    replies: float = 0
    broken: float = 0
    refused: float = 0
    seen: float = 0
    first_token: float = 0
    first_token_2: float = 0
    whole: float = 0
    tokens: float = 0
    tokens_2: float = 0

    def add(self, other: "Sums") -> None:
        for each in fields(Sums):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


class Witness(NamedTuple):
    """What one reply tells; `who` it was dealt out to."""

    account: str
    version: str
    who: str
    sums: Sums


def witness_of(served: Served, completions: Iterable[Completion]) -> Witness | None:
    """None of a reply that no trial dealt out. Of several choices the first tells: they end and fail
    together. Without any no engine began the reply."""
    if served.trial is None:
        return None
    who = sticky(served.request, served.key_id)
    first = next(iter(completions), None)
    sums = Sums(replies=1, broken=1) if first is None else _sums_of(served, first)
    return Witness(served.trial, served.version, who, sums)


def _sums_of(served: Served, reply: Completion) -> Sums:
    given_up = reply.error in (DISCONNECTED, STOPPED)
    waited = served.first_token
    if waited is None and served.request.stream and reply.error == DISCONNECTED:
        waited = served.duration
    found = Sums() if waited is None else Sums(seen=1, first_token=waited, first_token_2=waited**2)
    if given_up:
        return found
    found.replies = 1
    if reply.finish_reason is None:
        found.broken = 1
        return found
    found.whole, found.refused = 1, served.refuses
    found.tokens, found.tokens_2 = reply.completion_tokens, reply.completion_tokens**2
    return found


def key_of(account: str, version: str) -> str:
    return f"tw:served:{account}:{version}"


class ServedSums:
    """The gateway's side."""

    def __init__(self, redis: "AsyncRedis") -> None:
        self._add = redis.register_script(ADD)

    async def count(self, witnesses: Iterable[Witness]) -> None:
        sums: dict[str, dict[int, Sums]] = defaultdict(lambda: defaultdict(Sums))
        for account, version, who, found in witnesses:
            sums[key_of(account, version)][_group(who)].add(found)
        if sums:
            told = [orjson.dumps(_fields(groups)) for groups in sums.values()]
            await self._add(keys=list(sums), args=[KEPT, *told])


def _fields(groups: dict[int, Sums]) -> dict[str, float]:
    return {
        f"{group}:{name}": value
        for group, found in groups.items()
        for name, value in asdict(found).items()
        if value
    }


def _group(who: str) -> int:
    return int.from_bytes(hashlib.blake2b(who.encode(), digest_size=4).digest(), "big") % GROUPS


def read_served(redis: Redis, account: str, version: str) -> list[Sums]:
    """A version's sums, one a group that had any."""
    groups: dict[str, Sums] = defaultdict(Sums)
    for name, value in redis.hgetall(key_of(account, version)).items():
        group, _, which = str(name).partition(":")
        setattr(groups[group], which, float(value))
    return list(groups.values())
