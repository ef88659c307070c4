"""A small ASGI app that speaks vLLM's routes. What it answers and how it fails is set from the test."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

BASE = "policy-v0"
Answer = Callable[[Request], Awaitable[Response]]


class FakeEngine:
    def __init__(self) -> None:
        self.adapters: dict[str, str] = {}
        self.reply = "A fine answer."
        self.first_replies: list[str] = []  # plain replies, one a request, before it is `reply`
        self.requests: list[dict[str, Any]] = []
        self.whole = 0  # streams that were sent to their end
        self.aborted = 0  # streams whose client went away
        self.sent = 0  # words of all streams
        self.last_stream = b""
        self.first_delay = 0.0  # seconds before a stream's first word
        self.delay = 0.0  # seconds between the words of a stream
        self.reads: int | None = None  # words of a conversation, at most
        self.linger = 0.0  # seconds from a stream's last event to its end
        self.die_after: int | None = (
            None  # words of a stream after which it breaks; a plain reply breaks at half
        )
        self.status = 200
        self.down = False  # neither says what it has nor takes anything on
        self.slow_admin = 0.0  # seconds that each call takes which is not a chat
        self.logprob = {BASE: -1.0}
        self.app = Starlette(
            routes=[
                Route("/v1/models", self._if_up(self._models)),
                Route("/v1/load_lora_adapter", self._if_up(self._load), methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._if_up(self._unload), methods=["POST"]),
                Route("/v1/completions", self._completions, methods=["POST"]),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
            ]
        )

    def _if_up(self, answer: Answer) -> Answer:
        async def answered(request: Request) -> Response:
            return Response(status_code=503) if self.down else await answer(request)

        return answered

    def restart(self) -> None:
        """As a fresh process: no adapter is loaded."""
        self.adapters.clear()

    async def _models(self, _: Request) -> Response:
        await asyncio.sleep(self.slow_admin)
        names = {BASE: "/model", **self.adapters}
        return JSONResponse({"object": "list", "data": [{"id": n, "root": p} for n, p in names.items()]})

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        await asyncio.sleep(self.slow_admin)
        if name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if path.endswith("rank-64"):
            return _error(500, "rank is greater than max_lora_rank")
        self.adapters[name] = path
        return Response("ok")

    async def _unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        return Response("ok")

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        await asyncio.sleep(self.slow_admin)
        model = body["model"]
        if model != BASE and model not in self.adapters:
            return _error(404, f"The model `{model}` does not exist.")
        value = self.logprob.get(model, -0.5)
        tokens = body["prompt"]
        entries = [None, *({str(token): {"logprob": _finite(value)}} for token in tokens[1:])]
        return JSONResponse({"choices": [{"text": "x", "prompt_logprobs": entries}]})

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        if self.status != 200:
            return _error(self.status, "as the test asked for")
        if body["model"] != BASE and body["model"] not in self.adapters:
            return _error(404, f"The model `{body['model']}` does not exist.")
        if not isinstance(body.get("temperature", 0.0), int | float | None):
            return _error(400, "temperature must be a number")
        words = sum(len(message["content"].split()) for message in body["messages"])
        if self.reads is not None and words > self.reads:
            return _error(400, f"This model's maximum context length is {self.reads} tokens.", "input_tokens")
        if (body.get("temperature") or 0) < 0:
            return _error(400, "temperature must be non-negative")
        head = {
            "id": f"chatcmpl-{request.headers['x-request-id']}",
            "created": 1,
            "model": body["model"],
        }
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        if body.get("stream"):
            with_usage = usage if (body.get("stream_options") or {}).get("include_usage") else None
            return _Stream(self, self._stream(head, with_usage))
        text = self.first_replies.pop(0) if self.first_replies else self.reply
        await asyncio.sleep(self.delay)
        choices = [
            {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            for i in range(body.get("n") or 1)
        ]
        reply = {**head, "object": "chat.completion", "choices": choices, "usage": usage}
        if self.die_after is not None:
            return StreamingResponse(half(json.dumps(reply)), media_type="application/json")
        return JSONResponse(reply)

    async def _stream(self, head: dict[str, Any], usage: dict[str, Any] | None) -> AsyncIterator[bytes]:
        head = {**head, "object": "chat.completion.chunk"}
        sent: list[bytes] = []
        await asyncio.sleep(self.first_delay)
        async for event in self._events(head, usage):
            sent.append(event)
            yield event
        self.last_stream = b"".join(sent)
        self.whole += 1

    async def _events(self, head: dict[str, Any], usage: dict[str, Any] | None) -> AsyncIterator[bytes]:
        for number, word in enumerate(self.reply.split(" ")):
            if number == self.die_after:
                raise ConnectionResetError("as the test asked for")
            text = word if number == 0 else " " + word
            yield _event({**head, "choices": [{"index": 0, "delta": {"content": text}}]})
            self.sent += 1
            await asyncio.sleep(self.delay)
        yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if usage:
            yield _event({**head, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"
        await asyncio.sleep(self.linger)


class _Stream(StreamingResponse):
    def __init__(self, engine: FakeEngine, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, media_type="text/event-stream")
        self._engine = engine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = self._engine.whole
        await super().__call__(scope, receive, send)
        if self._engine.whole == whole:
            self._engine.aborted += 1


async def half(text: str) -> AsyncIterator[str]:
    """An answer whose connection breaks in the middle."""
    yield text[: len(text) // 2]
    raise ConnectionResetError("as the test asked for")


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _error(status: int, message: str, param: str | None = None) -> Response:
    error = {"message": message, "type": "BadRequestError", "param": param, "code": status}
    return JSONResponse({"error": error}, status)


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
