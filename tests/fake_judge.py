"""A small ASGI app that speaks OpenAI's chat completions and compares two replies, as a test sets it."""

import math
import re
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Chance = Callable[[str, str, str], float]  # (principle and all, first reply, second reply) → P(A)


def likes(word: str) -> Chance:
    """A judge that is surer, the more often a reply has a word, and does not care where the reply stands."""
    return lambda _, first, second: 1 / (1 + math.exp(second.count(word) - first.count(word)))


class FakeJudge:
    def __init__(self) -> None:
        self.chance: Chance = likes("good")
        self.gives_logprobs = True
        self.text: str | None = None  # what it says whatever it is asked
        self.plain_only = False  # refuses keys beyond the plain ones
        self.fails = 0  # requests that are answered 503, from the next one on
        self.status = 200
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._chat, methods=["POST"])])

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("authorization"))
        if self.fails:
            self.fails -= 1
            return JSONResponse({"error": {"message": "loading"}}, 503)
        if self.status != 200:
            return JSONResponse({"error": {"message": f"no, {self.keys[-1]}"}}, self.status)
        if self.plain_only and body.keys() - {"model", "messages", "max_tokens", "temperature"}:
            return JSONResponse({"detail": "extra fields not permitted"}, 422)
        return JSONResponse({"choices": [self._choice(body)]})

    def _choice(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = body["messages"][-1]["content"]
        first, second = (
            re.findall(f"<reply_{side}>\n(.*?)\n</reply_{side}>", asked, re.S)[0] for side in "AB"
        )
        a = self.chance(asked, first, second)
        letter = "A" if a > 0.5 else "B"
        choice: dict[str, Any] = {"message": {"role": "assistant", "content": self.text or f" {letter}."}}
        if body.get("logprobs") and self.gives_logprobs:
            top = [
                {"token": token, "logprob": math.log(p)} for token, p in ((" A", a), (" B", 1 - a)) if p > 0
            ]
            entry = {"token": f" {letter}", "logprob": math.log(max(a, 1 - a)), "top_logprobs": top}
            choice["logprobs"] = {"content": [entry]}
        return choice
