"""What replies are like, in sums for each policy version: what a trial's guards look at.

tw:served:<policy>   hash    the fields of Sums

Only replies that the router gave to a version count, as those are what chance dealt out; not what was asked
of a version by name, nor a pair's. A batch that is counted again after a lost answer counts twice: these are
guards, not accounts. Async to write, sync to read.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from feedback.types import Completion
from serving.completions import DISCONNECTED, STOPPED
from serving.refusals import refused


@dataclass(slots=True)
class Sums:
    """`seen`: replies whose first byte came, with the seconds until then; `whole`: those that came to an end,
    with their tokens; `…_2`: the sums of squares."""

    replies: float = 0
    broken: float = 0
    refused: float = 0
    seen: float = 0
    first_token: float = 0
    first_token_2: float = 0
    whole: float = 0
    tokens: float = 0
    tokens_2: float = 0

    def add(self, completion: Completion) -> None:
        if completion.error in (DISCONNECTED, STOPPED):
            return
        self.replies += 1
        if completion.first_token is not None:
            self.seen += 1
            self.first_token += completion.first_token
            self.first_token_2 += completion.first_token**2
        if completion.finish_reason is None:
            self.broken += 1
            return
        self.whole += 1
        self.tokens += completion.completion_tokens
        self.tokens_2 += completion.completion_tokens**2
        self.refused += refused(completion.reply or "")

    def less(self, before: "Sums") -> "Sums":
        return Sums(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(Sums)))


def key_of(policy: str) -> str:
    return f"tw:served:{policy}"


class ServedSums:
    """The gateway's side."""

    def __init__(self, redis: "AsyncRedis") -> None:
        self._redis = redis

    async def count(self, completions: Iterable[Completion]) -> None:
        """Of several choices of one request the first: they end and fail together, and are one witness."""
        sums: dict[str, Sums] = defaultdict(Sums)
        seen: set[tuple[str, float, str]] = set()
        for completion in completions:
            reply = (completion.policy, completion.created, completion.conversation)
            if completion.routed and reply not in seen:
                seen.add(reply)
                sums[completion.policy].add(completion)
        await self._add(sums)

    async def count_failed(self, versions: Sequence[str]) -> None:
        """Replies that no engine began: the version of each."""
        await self._add({name: Sums(replies=n, broken=n) for name, n in Counter(versions).items()})

    async def _add(self, sums: Mapping[str, Sums]) -> None:
        if not sums:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for policy, found in sums.items():
                for name, value in asdict(found).items():
                    if value:
                        pipe.hincrbyfloat(key_of(policy), name, value)
            await pipe.execute()


def read_served(redis: Redis, policy: str) -> Sums:
    stored = redis.hgetall(key_of(policy))
    return Sums(**{str(name): float(value) for name, value in stored.items()})
