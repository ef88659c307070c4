"""One vLLM server over HTTP. The only module that knows vLLM's API. Async."""

import math
from pathlib import Path
from typing import Any

import aiohttp
import orjson

BASE = "policy-v0"  # what engines call the model without an adapter
ADMIN_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=2)
GLANCE_TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=2)
GENERATE_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=2)


class EngineError(Exception):
    """The base of what can go wrong with an engine."""


class EngineDown(EngineError):
    """It cannot be reached, or it went away."""


class EngineRefused(EngineError):
    """It answered with an error. `status`: the HTTP status; `body`: what it said."""

    def __init__(self, url: str, status: int, body: bytes) -> None:
        super().__init__(f"engine {url} answered {status}: {error_message(body)}")
        self.status = status
        self.body = body


class Engine:
    """A client of the engine at `url`; `session` is shared and closed by its maker."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url.rstrip("/")
        self._session = session

    async def models(self) -> dict[str, str]:
        """Name → path of everything that the engine can be asked for, the base under its own name."""
        answer = await self._json("GET", "/v1/models", limit=GLANCE_TIMEOUT)
        listed = answer.get("data") if isinstance(answer, dict) else None
        if not listed:
            raise EngineError(f"{self.url} lists no models: is it a vLLM server?")
        return {model["id"]: model.get("root") or "" for model in listed}

    async def load_adapter(self, name: str, path: Path | str) -> None:
        """Load a LoRA adapter under a name that the engine does not have yet. Names are never reused."""
        body = {"lora_name": name, "lora_path": str(path)}
        await self._request("POST", "/v1/load_lora_adapter", body, ADMIN_TIMEOUT)

    async def unload_adapter(self, name: str) -> None:
        await self._request("POST", "/v1/unload_lora_adapter", {"lora_name": name}, ADMIN_TIMEOUT)

    async def ping(self, model: str = BASE) -> None:
        """Generate one token. `/health` answers 200 on a stuck engine, this does not."""
        body = {"model": model, "prompt": [1], "max_tokens": 1}
        await self._json("POST", "/v1/completions", body, GLANCE_TIMEOUT)

    async def token_logprobs(self, model: str, token_ids: list[int]) -> list[float]:
        """log p(token_ids[i] | token_ids[:i]) in nats for i = 1 … n-1, at temperature 1: n-1 floats."""
        body = {
            "model": model,
            "prompt": token_ids,
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
        }
        answer = await self._json("POST", "/v1/completions", body, ADMIN_TIMEOUT)
        positions = answer["choices"][0]["prompt_logprobs"][1:]
        return [
            _number(position[str(token)]["logprob"])
            for token, position in zip(token_ids[1:], positions, strict=True)
        ]

    async def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        """One chat completion, not streamed, as vLLM's JSON."""
        answer: dict[str, Any] = await self._json("POST", "/v1/chat/completions", body, GENERATE_TIMEOUT)
        return answer

    async def open_chat(self, body: bytes, request_id: str) -> aiohttp.ClientResponse:
        """Forward a chat request as bytes; the reply's id becomes `chatcmpl-<request_id>`.

        The caller closes the response. Errors of aiohttp pass through.
        """
        return await self._session.post(
            self.url + "/v1/chat/completions",
            data=body,
            headers={"Content-Type": "application/json", "X-Request-Id": request_id},
            timeout=GENERATE_TIMEOUT,
        )

    async def _json(
        self, method: str, path: str, body: object = None, limit: aiohttp.ClientTimeout = ADMIN_TIMEOUT
    ) -> Any:
        answer = await self._request(method, path, body, limit)
        try:
            return orjson.loads(answer)
        except orjson.JSONDecodeError as error:
            raise EngineError(f"{self.url} does not answer in JSON: is it a vLLM server?") from error

    async def _request(self, method: str, path: str, body: object, limit: aiohttp.ClientTimeout) -> bytes:
        data = None if body is None else orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.request(
                method, self.url + path, data=data, headers=headers, timeout=limit
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineDown(f"engine {self.url} does not answer: {error!r}") from error
        if response.status >= 400:
            raise EngineRefused(self.url, response.status, answer)
        return answer


def new_session() -> aiohttp.ClientSession:
    """A session for any number of engines, with as many connections as there are requests."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        auto_decompress=False,
        skip_auto_headers=["Accept-Encoding", "User-Agent"],  # bodies pass through: never compressed
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def error_message(body: bytes) -> str:
    """What an engine's answer says went wrong, in its own words."""
    try:
        parsed = orjson.loads(body)
        error = parsed.get("error", parsed)
        return str(error.get("message", error) if isinstance(error, dict) else error)[:500]
    except (ValueError, AttributeError):
        return body[:500].decode(errors="replace")
