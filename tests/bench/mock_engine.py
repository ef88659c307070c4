"""An engine that costs nothing: it answers vLLM's routes with prepared bytes. For measurements only.

python -m tests.bench.mock_engine PORT

A chat's `max_tokens` is the number of chunks, its `seed` the milliseconds between them (0: all in bursts).
"""

import asyncio
import sys

import orjson
from aiohttp import web

BASE = "policy-v0"
WORD = " word"


async def models(_: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": BASE, "root": "/model"}]})


async def completions(_: web.Request) -> web.Response:
    return web.json_response({"choices": [{"text": "x"}]})


async def chat(request: web.Request) -> web.StreamResponse:
    body = orjson.loads(await request.read())
    head = {"id": "chatcmpl-" + request.headers["X-Request-Id"], "created": 1, "model": body["model"]}
    count = body.get("max_tokens") or 50
    usage = {"prompt_tokens": 20, "completion_tokens": count, "total_tokens": 20 + count}
    if not body.get("stream"):
        message = {"role": "assistant", "content": WORD * 50}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
        return web.Response(body=orjson.dumps(reply), content_type="application/json")
    return await _stream(request, head, count, usage, (body.get("seed") or 0) / 1000)


async def _stream(
    request: web.Request, head: dict[str, object], count: int, usage: dict[str, int], pause: float
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    delta = {"index": 0, "delta": {"content": WORD}, "logprobs": None, "finish_reason": None}
    word = _event({**head, "object": "chat.completion.chunk", "choices": [delta]})
    for _ in range(count):
        await response.write(word)
        await asyncio.sleep(pause)
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    await response.write(_event({**head, "object": "chat.completion.chunk", "choices": [last]}))
    await response.write(_event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}))
    await response.write(b"data: [DONE]\n\n")
    return response


def _event(value: dict[str, object]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def main() -> None:
    app = web.Application()
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/completions", completions)
    app.router.add_post("/v1/chat/completions", chat)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
