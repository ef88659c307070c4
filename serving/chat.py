"""The way of one chat request: pick a version and an engine, pass the bytes through, log afterwards.

A client that goes away closes the upstream. Before the first byte a failed engine is retried elsewhere; after
it, never: the stream ends with an error event, and the reply is logged as broken off. So is one whose client
left before its first byte; only what an engine or the gateway refused is not logged.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from starlette.types import Receive, Scope, Send

from feedback.caller import Caller
from feedback.types import new_id, now
from serving.chatlog import ChatLog
from serving.completions import DISCONNECTED, STOPPED, ChatRequest, Served, read_chat, read_object, sticky
from serving.errors import NoEngine, UnknownModel
from serving.fleet import EngineState, Fleet
from serving.metrics import Metrics
from serving.replies import error_body, read_body, send_relayed
from serving.router import Router

ENGINE_WAIT = 10.0  # seconds to wait for an engine that restarts before a request is refused
NO_CHOICES = b'"choices":[]'
Begun = tuple[aiohttp.ClientResponse, bytes]


class Chat:
    """`POST /v1/chat/completions` as an ASGI endpoint; `fetch` is the same without a wire, for pairs."""

    def __init__(self, router: Router, fleet: Fleet, log: ChatLog, metrics: Metrics) -> None:
        self._router = router
        self._fleet = fleet
        self._log = log
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await read_body(receive)
        request = read_chat(read_object(raw))
        caller: Caller = scope["caller"]
        route = self._router.resolve(request.model, lambda: sticky(request, caller.key_id))
        served = self.begin(request, route.version, caller)
        served.trial = route.trial
        relay = self._stream if request.stream else self._plain
        await while_connected(receive, relay(served, send), served)

    def begin(self, request: ChatRequest, version: str, caller: Caller) -> Served:
        return Served(
            id=new_id("chatcmpl"), version=version, request=request, key_id=caller.key_id, created=now()
        )

    async def fetch(self, served: Served) -> tuple[int, bytes]:
        """A whole reply: status and body. What the engine refuses comes back as it said it."""
        async with self._engine_reply(served) as (response, body):
            served.finished = response.status == 200
            return response.status, body

    async def _plain(self, served: Served, send: Send) -> None:
        status, body = await self.fetch(served)
        await send_relayed(send, status, body)

    async def _stream(self, served: Served, send: Send) -> None:
        async with self._engine_reply(served) as (response, first):
            if response.status != 200:
                await send_relayed(send, response.status, first)
                return
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", b"text/event-stream; charset=utf-8"),
                        (b"cache-control", b"no-cache"),
                        (b"x-accel-buffering", b"no"),
                    ],
                }
            )
            try:
                await self._pass_through(served, first, response, send)
            except (aiohttp.ClientError, TimeoutError) as error:
                if not served.finished:
                    served.error = f"the engine went away: {error!r}"
                    event = error_body(
                        "The engine went away in the middle of this reply. Ask again.",
                        "server_error",
                        "engine_lost",
                    )
                    await send(_part(b"data: " + orjson.dumps(event) + b"\n\n"))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pass_through(
        self, served: Served, chunk: bytes, response: aiohttp.ClientResponse, send: Send
    ) -> None:
        """Send the engine's bytes as they come; keep from the client only token counts it did not ask for.

        It is finished once its last event is sent: a client need not wait for the end of the body.
        """
        keep_usage = served.request.wants_usage
        chunks, rest = served.chunks, b""
        while chunk:
            if not keep_usage and (rest or NO_CHOICES in chunk or not chunk.endswith(b"\n\n")):
                whole, rest = _whole_events(rest + chunk)
                chunk = _without_usage(whole)
            if chunk:
                await send(_part(chunk))
            if chunk.endswith(b"data: [DONE]\n\n"):
                served.finished = True
            if chunk := await response.content.readany():
                chunks.append(chunk)
        if rest:
            await send(_part(rest))
        served.finished = b"".join(chunks[-3:]).rstrip().endswith(b"data: [DONE]")
        if not served.finished:
            raise aiohttp.ClientPayloadError("the stream ended early")

    @asynccontextmanager
    async def _engine_reply(self, served: Served) -> AsyncIterator[Begun]:
        """The engine's response and what it began with; logs and counts what becomes of the reply."""
        self._log.begun(served.opened)
        start = time.perf_counter()
        outcome, failed = "failed", True
        try:
            async with self._opened(served) as (response, first):
                if served.request.stream:
                    served.first_token = time.perf_counter() - start
                outcome = "broken" if response.status == 200 else "refused"
                failed = response.status >= 500
                yield response, first
        except asyncio.CancelledError:
            if outcome == "failed":  # nobody refused it: it was cut off before its first byte
                outcome = "broken"
                served.error = served.error or STOPPED
            raise
        finally:
            served.duration = time.perf_counter() - start
            self._ended(served, "finished" if served.finished else outcome, failed)

    def _ended(self, served: Served, outcome: str, failed: bool) -> None:
        """Count what became of a reply, and log it where one was begun. `failed`: no engine answered it."""
        self._metrics.replies.labels(served.version, outcome).inc()
        if outcome not in ("finished", "broken"):
            self._log.refused(served, failed)
            return
        if served.first_token is not None:
            self._metrics.first_token.labels(served.version).observe(served.first_token)
        if served.chunks:
            # Both sides of a pair as one: beside how long they are, a side's seconds would tell its version.
            name = served.version if served.pair_id is None else "pair"
            self._metrics.duration.labels(name).observe(served.duration)
        self._log.ended(served)

    @asynccontextmanager
    async def _opened(self, served: Served) -> AsyncIterator[Begun]:
        """The response of the first engine that answers: lost, failing and forgetful ones are passed over."""
        body = served.request.forwarded(served.version)
        deadline = time.monotonic() + ENGINE_WAIT
        failed: set[str] = set()
        while True:
            state = await self._pick(served.version, failed, deadline)
            state.inflight += 1
            try:
                try:
                    response, first = await _begin(state, served, body)
                except (aiohttp.ClientError, TimeoutError) as error:
                    self._fleet.suspect(state, repr(error))
                    self._metrics.retries.inc()
                    continue
                try:
                    if self._should_try_elsewhere(served.version, state, response.status, failed):
                        self._metrics.retries.inc()
                        continue
                    yield response, first
                finally:
                    response.close() if not served.finished else response.release()
                return
            finally:
                state.inflight -= 1

    def _should_try_elsewhere(self, version: str, state: EngineState, status: int, failed: set[str]) -> bool:
        """Whether an answer is the engine's fault, and another attempt may be better."""
        if status == 404 and version in self._router.view.versions:
            self._fleet.missing(state, version)
            return True
        failed.add(state.engine.url)
        others = any(other.engine.url not in failed for other in self._fleet.having(version))
        if status >= 500 and others:
            self._fleet.suspect(state, f"it answered a chat with {status}")
        return status >= 500 and others

    async def _pick(self, version: str, failed: set[str], deadline: float) -> EngineState:
        """The least busy engine that has a version, at best one that has not failed this request yet."""
        left = deadline - time.monotonic()
        able = left > 0 and (self._fleet.having(version) or await self._fleet.wait_for(version, left))
        if able:
            return next((state for state in able if state.engine.url not in failed), able[0])
        if version in self._fleet.refused():
            raise UnknownModel(
                f"No engine can serve {version!r}; an operator sees why: GET /v1/engines.", "model"
            )
        raise NoEngine("No engine is ready to answer. They restart by themselves: try again in a minute.")


async def _begin(state: EngineState, served: Served, body: bytes) -> Begun:
    """An engine's response and what it begins with: of a stream its first bytes, else all of it."""
    response = await state.engine.open_chat(body, served.id.removeprefix("chatcmpl-"))
    try:
        if not served.request.stream or response.status != 200:
            first = await response.read()
        elif not (first := await response.content.readany()):
            raise aiohttp.ClientPayloadError("the stream ended before its first byte")
    except BaseException:
        response.close()
        raise
    if response.status == 200:
        served.chunks.append(first)
    return response, first


def _part(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}


def _whole_events(data: bytes) -> tuple[bytes, bytes]:
    """What is complete, up to the last event's end, and the beginning of the next event."""
    end = data.rfind(b"\n\n")
    return (data[: end + 2], data[end + 2 :]) if end >= 0 else (b"", data)


def _without_usage(events: bytes) -> bytes:
    if NO_CHOICES not in events:
        return events
    kept = [event for event in events.split(b"\n\n") if event and NO_CHOICES not in event]
    return b"".join(event + b"\n\n" for event in kept)


async def while_connected(receive: Receive, work: Coroutine[Any, Any, None], *replies: Served) -> None:
    """Do `work`, unless the client goes away first: then it is cancelled, and the replies say why."""
    doing = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            for served in replies:
                served.error = None if served.finished else DISCONNECTED
            doing.cancel()
            await asyncio.wait({doing})
    finally:
        gone.cancel()
        doing.cancel()
    if not doing.cancelled():
        doing.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
