"""`POST /v1/pairs`: two replies to the same messages, their versions hidden until the choice."""

import asyncio
import random
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from feedback.store import FeedbackStore
from feedback.types import Pair, new_id, now
from serving.chat import Chat, while_connected
from serving.completions import ANY, ChatRequest, Served, read_chat, read_object
from serving.errors import BadRequest
from serving.replies import read_body, send_bytes, send_relayed
from serving.router import Router

LARGEST_SEED = 2**63 - 1


class Pairs:
    """An ASGI endpoint. The two sides are drawn by the router: the challenger, where there is one, against
    the champion; else two samples of the champion."""

    def __init__(self, router: Router, chat: Chat, store: FeedbackStore, ttl: float) -> None:
        self._router = router
        self._chat = chat
        self._store = store
        self._ttl = ttl
        self._random = random.SystemRandom()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = _read_pair(read_object(await read_body(receive)))
        versions = list(self._router.pair(request.model))
        self._random.shuffle(versions)
        created = now()
        sides = [
            self._chat.begin(_side(request, index), version, scope["caller"])
            for index, version in enumerate(versions)
        ]
        pair = Pair(
            id=new_id("pair"),
            a=sides[0].id,
            b=sides[1].id,
            policy_a=sides[0].version,
            policy_b=sides[1].version,
            created=created,
            expires=created + self._ttl,
        )
        for side in sides:
            side.pair_id = pair.id
        await while_connected(receive, self._answer(pair, sides, send), *sides)

    async def _answer(self, pair: Pair, sides: list[Served], send: Send) -> None:
        replies = await asyncio.gather(*(self._chat.fetch(side) for side in sides))
        for status, body in replies:
            if status != 200:
                await send_relayed(send, status, body)
                return
        await self._store.offer(pair)
        answer = {
            "id": pair.id,
            "object": "pair",
            "created": int(pair.created),
            "expires": int(pair.expires or pair.created),
            "a": _blind(replies[0][1]),
            "b": _blind(replies[1][1]),
        }
        await send_bytes(send, 200, orjson.dumps(answer))


def _read_pair(body: dict[str, Any]) -> ChatRequest:
    request = read_chat({"model": ANY, **body})
    if request.stream:
        raise BadRequest("A pair cannot be streamed; leave `stream` out.", "stream")
    if (body.get("n") or 1) != 1:
        raise BadRequest("A pair has one reply a side; leave `n` out.", "n")
    if not request.store:
        raise BadRequest(
            "A pair is there to be compared, so it has to be stored; leave `store` out.", "store"
        )
    return request


def _side(request: ChatRequest, index: int) -> ChatRequest:
    """The same request, but a seed must not make both sides the same reply."""
    seed = request.body.get("seed")
    if index == 0 or not isinstance(seed, int):
        return request
    return read_chat({**request.body, "seed": seed + 1 if seed < LARGEST_SEED else seed - 1})


def _blind(body: bytes) -> dict[str, Any]:
    reply = orjson.loads(body)
    choice = reply["choices"][0]
    message = {"role": "assistant", "content": choice["message"].get("content")}
    if choice["message"].get("tool_calls"):
        message["tool_calls"] = choice["message"]["tool_calls"]
    return {"message": message, "finish_reason": choice["finish_reason"]}
