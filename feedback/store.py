"""The gateway's side of feedback's Redis layout: log completions, take ratings and comparisons. Async."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

from feedback import layout, scripts
from feedback.errors import AnsweredPair, ExpiredPair, NoRating, NotComparable, UnknownCompletion, UnknownPair
from feedback.imports import Entry
from feedback.redis import patiently
from feedback.types import Comparison, Completion, Opened, Pair, Rating, Winner, content_hash, now, tag_of

# A reply's log entry is at most one flush behind its last byte, on whichever gateway wrote it.
FLUSH_WAIT = 1.5
LOOK_EVERY = 0.1
FSYNC_WAIT_MS = 5000

log = logging.getLogger(__name__)


class FeedbackStore:
    """Inserts as is: ids and times are made by the caller. Errors of Redis pass through.

    Each write returns only once it is on the server's disk: at once where the server runs with
    `appendfsync always` (the embedded one does), else after a WAITAOF (Redis since 7.2, Valkey). What may be
    done twice waits a moment for a server that restarts; `open` and `log` leave that to their caller.
    """

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._log = redis.register_script(scripts.LOG)
        self._open = redis.register_script(scripts.OPEN)
        self._rate = redis.register_script(scripts.RATE)
        self._withdraw = redis.register_script(scripts.WITHDRAW)
        self._compare = redis.register_script(scripts.COMPARE)
        self._import = redis.register_script(scripts.IMPORT)
        self._waits_for_disk: bool | None = None

    async def open(self, begun: Iterable[Opened]) -> None:
        """Make completions rateable before their replies are logged."""
        args = [str(layout.OPEN_TTL)]
        for opened in begun:
            args += (opened.id, opened.policy, opened.user or "", repr(opened.created), opened.tag or "")
        if len(args) > 1:
            await self._open(args=args)

    async def log(self, completions: Sequence[Completion]) -> None:
        """Log finished and broken-off replies; one that is logged already is left alone."""
        args: list[str | bytes] = []
        for completion in completions:
            args += (
                completion.id,
                completion.policy,
                completion.user or "",
                completion.to_json(),
                content_hash(completion.messages) if completion.messages is not None else "",
                repr(completion.created),
                str(completion.completion_tokens),
                "0" if completion.finish_reason else "1",
                tag_of(completion.metadata) or "",
                "1" if completion.pair_id else "0",
            )
        if args:
            await self._log(args=args)

    async def completion(self, completion_id: str) -> Completion:
        body = await self._field(completion_id, "body")
        if body is None:
            raise UnknownCompletion(f"There is no completion {completion_id!r}.", "completion_id")
        return Completion.model_validate_json(body)

    async def user_of(self, completion_id: str) -> str | None:
        """The `user` that a completion was made for. Waits for one that is about to be logged."""
        user = await self._field(completion_id, "user")
        if user is None:
            raise UnknownCompletion(
                f"There is no completion {completion_id!r}. Send the `id` of a chat completion.",
                "completion_id",
            )
        return user or None

    async def rate(self, rating: Rating) -> str:
        """Store a rating in place of this rater's last one. Returns the policy version that was rated."""
        args: list[str | bytes] = [rating.completion_id, rating.rater, rating.to_json()]
        policy = await _soon(lambda: patiently(lambda: self._durably(self._rate, args)))
        if policy is None:
            raise UnknownCompletion(f"There is no completion {rating.completion_id!r}.", "completion_id")
        return str(policy)

    async def rating(self, completion_id: str, rater: str) -> Rating:
        body = await self._hget(layout.ratings_key(completion_id), rater)
        if body is None:
            raise NoRating(f"You have not rated {completion_id!r}.", "completion_id")
        return Rating.model_validate_json(body)

    async def withdraw(self, completion_id: str, rater: str) -> Rating:
        # Not patiently: done twice, it would say that there was nothing to withdraw.
        body = await self._durably(self._withdraw, [completion_id, rater, repr(now())])
        if body is None:
            raise NoRating(f"You have not rated {completion_id!r}.", "completion_id")
        return Rating.model_validate_json(body)

    async def offer(self, pair: Pair) -> None:
        """Store a blind pair, to be answered before it expires."""
        key = layout.pair_key(pair.id)
        lives = round((pair.expires or pair.created) - pair.created) + layout.PAIR_GRACE

        async def store() -> None:
            async with self._redis.pipeline() as pipe:
                pipe.hset(key, "body", pair.to_json())
                pipe.expire(key, lives)
                await pipe.execute()

        await patiently(store)

    async def pair(self, pair_id: str) -> Pair:
        body = await self._hget(layout.pair_key(pair_id), "body")
        if body is None:
            raise UnknownPair(f"There is no pair {pair_id!r}. Ask for one with POST /v1/pairs.", "pair_id")
        pair = Pair.model_validate_json(body)
        if pair.expires is not None and pair.expires < now():
            raise ExpiredPair(f"The pair {pair_id!r} has expired. Ask for a new one.", "pair_id")
        return pair

    async def pair_of(self, chosen: str, rejected: str) -> tuple[Pair, Winner]:
        """The pair of two named completions, and which side `chosen` is."""
        facts: dict[str, tuple[str, str]] = {}
        for completion_id in (chosen, rejected):
            messages = await self._field(completion_id, "messages")
            policy = await self._field(completion_id, "policy")
            if messages is None or policy is None:
                param = "chosen" if completion_id == chosen else "rejected"
                raise UnknownCompletion(f"There is no completion {completion_id!r}.", param)
            if not messages:
                raise NotComparable(f"{completion_id!r} was made with `store: false`; it cannot be compared.")
            facts[completion_id] = (policy, messages)
        if facts[chosen][1] != facts[rejected][1]:
            raise NotComparable(
                "These completions answer different messages; only replies to the same messages compare.",
                "rejected",
            )
        pair = Pair.named({completion_id: policy for completion_id, (policy, _) in facts.items()}, now())
        return pair, Winner.a if chosen == pair.a else Winner.b

    async def compare(self, pair: Pair, comparison: Comparison) -> None:
        """Store a comparison in place of this rater's last one on the same pair.

        The answer to a blind pair shows its versions. So the first rater's winner stands, and only what goes
        with it may change: anything else raises AnsweredPair.
        """
        for side in (pair.a, pair.b):  # what it counts for is known once they are there
            await self._field(side, "policy")
        answer: list[str | bytes] = [pair.id, comparison.rater, comparison.to_json()]
        way = "named" if pair.expires is None else "blind"
        args = [*answer, pair.to_json(), way, pair.policy_a, pair.policy_b, pair.a, pair.b]
        if not await patiently(lambda: self._durably(self._compare, args)):
            raise AnsweredPair(
                "The versions of this pair have been shown, and another choice would not be blind: the first "
                "one stands. Ask for a new pair.",
                "pair_id",
            )

    async def known(self, completion_ids: Sequence[str]) -> set[str]:
        """Those that this store has."""

        async def ask() -> list[int]:
            async with self._redis.pipeline(transaction=False) as pipe:
                for completion_id in completion_ids:
                    pipe.exists(layout.completion_key(completion_id))
                return list(await pipe.execute())

        there = await patiently(ask) if completion_ids else []
        return {name for name, found in zip(completion_ids, there, strict=True) if found}

    async def bring_in(self, entries: Sequence[Entry], dry_run: bool = False) -> list[bool]:
        """Store what lines of a data set say; for each, whether it was there already."""
        args: list[str | bytes] = ["0" if dry_run else "1"]
        for entry in entries:
            args += _import_args(entry)
        if not entries:
            return []
        there = await patiently(lambda: self._durably(self._import, args))
        return [bool(was) for was in there]

    async def _field(self, completion_id: str, field: str) -> str | None:
        """A field of a completion, waited for as long as its log entry may still be on its way."""
        value = await _soon(lambda: self._hget(layout.completion_key(completion_id), field))
        return None if value is None else str(value)

    async def _hget(self, key: str, field: str) -> str | None:
        value = await patiently(lambda: self._redis.hget(key, field))
        return None if value is None else str(value)

    async def _durably(self, script: "AsyncScript", args: list[str | bytes]) -> Any:
        """Run a script, and come back only when what it wrote is on the server's disk."""
        if self._waits_for_disk is None:
            self._waits_for_disk = await self._must_wait()
        if not self._waits_for_disk:
            return await script(args=args)
        async with self._redis.pipeline(transaction=False) as pipe:  # WAITAOF is per connection
            await script(args=args, client=pipe)
            pipe.execute_command("WAITAOF", 1, 0, FSYNC_WAIT_MS)
            answer, (local, _) = await pipe.execute()
        if not local:
            raise ConnectionError("Redis did not write to its disk in time")
        return answer

    async def _must_wait(self) -> bool:
        try:
            fsync = (await self._redis.config_get("appendfsync")).get("appendfsync")
            appendonly = (await self._redis.config_get("appendonly")).get("appendonly")
        except ResponseError:  # a managed server may forbid CONFIG: then durability is its operator's word
            return False
        if appendonly != "yes":
            log.warning("Redis keeps no append-only file: feedback is lost when it restarts (appendonly yes)")
            return False
        if fsync == "always":
            return False
        major, minor = (
            int(part) for part in (await self._redis.info("server"))["redis_version"].split(".")[:2]
        )
        if (major, minor) >= (7, 2):
            return True
        log.warning("Redis is older than 7.2 and writes its file every second only (appendfsync always)")
        return False


def _import_args(entry: Entry) -> list[str | bytes]:
    """One line as `scripts.IMPORT` takes it."""
    kind = "prompt" if entry.label is None else "rating" if entry.pair is None else "comparison"
    args: list[str | bytes] = [kind, content_hash(entry.prompt.messages), entry.prompt.to_json()]
    for completion in entry.completions:
        args += [completion.id, completion.to_json()]
    args += [""] * (7 - len(args))
    args += [entry.pair.id, entry.pair.to_json()] if entry.pair else ["", ""]
    args += [entry.label.rater, entry.label.to_json()] if entry.label else ["", ""]
    return args


async def _soon(look: Callable[[], Awaitable[Any]]) -> Any:
    """What `look` finds, looked for as long as a log entry may still be on its way; else None."""
    for _ in range(round(FLUSH_WAIT / LOOK_EVERY)):
        if (found := await look()) is not None:
            return found
        await asyncio.sleep(LOOK_EVERY)
    return await look()
