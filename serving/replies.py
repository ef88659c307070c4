"""Bodies in and out, OpenAI's error shape, and the one place that maps exceptions to HTTP codes."""

import json
import logging
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback.caller import Forbidden
from feedback.errors import (
    AnsweredPair,
    ExpiredPair,
    FeedbackError,
    NoBeginning,
    NoRating,
    NotComparable,
    TooManyOpen,
    UnknownCompletion,
    UnknownPair,
)
from serving import errors
from serving.engine import EngineDown, EngineRefused, error_message
from serving.probe import ProbeFailed

log = logging.getLogger(__name__)

# exception → status, OpenAI's type, code
CODES: dict[type[Exception], tuple[int, str, str]] = {
    UnknownCompletion: (404, "invalid_request_error", "completion_not_found"),
    UnknownPair: (404, "invalid_request_error", "pair_not_found"),
    ExpiredPair: (410, "invalid_request_error", "pair_expired"),
    AnsweredPair: (409, "invalid_request_error", "pair_answered"),
    NotComparable: (400, "invalid_request_error", "not_comparable"),
    NoBeginning: (400, "invalid_request_error", "invalid_value"),
    NoRating: (404, "invalid_request_error", "rating_not_found"),
    TooManyOpen: (503, "server_error", "too_many_open"),
    FeedbackError: (400, "invalid_request_error", "invalid_feedback"),
    Forbidden: (403, "permission_error", "role_not_sufficient"),
    errors.BadRequest: (400, "invalid_request_error", "invalid_value"),
    errors.UnknownModel: (404, "invalid_request_error", "model_not_found"),
    errors.UnknownVersion: (404, "invalid_request_error", "version_not_found"),
    errors.UnknownPlot: (404, "invalid_request_error", "plot_not_found"),
    errors.UnknownJob: (404, "invalid_request_error", "job_not_found"),
    errors.UnknownStage: (404, "invalid_request_error", "stage_not_found"),
    errors.UnknownKey: (404, "invalid_request_error", "key_not_found"),
    errors.Unauthorized: (401, "authentication_error", "invalid_api_key"),
    errors.Forged: (403, "permission_error", "csrf_token_wrong"),
    errors.Conflict: (409, "invalid_request_error", "conflict"),
    errors.NoEngine: (503, "server_error", "no_engine"),
    errors.TooLarge: (413, "invalid_request_error", "body_too_large"),
    EngineDown: (503, "server_error", "engine_down"),
    EngineRefused: (502, "server_error", "engine_refused"),
    ProbeFailed: (409, "invalid_request_error", "probe_failed"),
    RedisError: (503, "server_error", "store_unavailable"),
    ConnectionError: (503, "server_error", "store_unavailable"),
}
# status that the framework raises → code, what to say instead of the framework's words
HTTP_ERRORS: dict[int, tuple[str, str | None]] = {
    400: ("invalid_value", "The body is not JSON that can be read."),
    404: ("path_not_found", "There is no such path. GET /openapi.json lists them."),
    405: ("method_not_allowed", "This path does not take this method. GET /openapi.json lists them."),
    413: ("body_too_large", None),
}
HTTP_TYPES = {401: "authentication_error", 403: "permission_error"}
RETRY_AFTER = {"Retry-After": "2"}
MESSAGES = {"store_unavailable": "The store is not to be reached; nothing was saved. Try again in a moment."}


def error_body(message: str, type_: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def error_response(error: Exception) -> JSONResponse:
    """OpenAI's shape for an exception that `CODES` knows, else a 500 that tells nothing."""
    for kind in type(error).__mro__:
        if kind in CODES:
            status, type_, code = CODES[kind]
            message = MESSAGES.get(code) or str(error)
            body = error_body(message, type_, code, getattr(error, "param", None))
            return JSONResponse(body, status, RETRY_AFTER if status == 503 else None)
    log.error("unhandled", exc_info=error)
    return JSONResponse(error_body("Something went wrong here; it is in the log.", "server_error", None), 500)


def install_error_handlers(app: FastAPI) -> None:
    async def known(_: Request, error: Exception) -> JSONResponse:
        return error_response(error)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        param, message = _first_problem(error)
        return JSONResponse(error_body(message, "invalid_request_error", "invalid_value", param), 400)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code, message = HTTP_ERRORS.get(error.status_code, (None, str(error.detail)))
        type_ = HTTP_TYPES.get(error.status_code, "invalid_request_error")
        return JSONResponse(
            error_body(message or str(error.detail), type_, code), error.status_code, error.headers
        )

    for kind in (*CODES, Exception):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def _first_problem(error: RequestValidationError) -> tuple[str | None, str]:
    problem = error.errors()[0]
    where = [str(part) for part in problem["loc"][1:]]
    if problem["type"] == "json_invalid":
        return None, f"The body is not JSON: {problem['ctx']['error']}."
    if problem["type"] == "extra_forbidden":
        return ".".join(where), f"Unknown field {'.'.join(where)!r}."
    if problem["type"] == "missing":
        message = f"`{'.'.join(where)}` is missing." if where else "The body is missing: send a JSON object."
        return ".".join(where) or None, message
    if problem["type"] in ("model_attributes_type", "model_type", "dict_type") and not where:
        return None, "The body must be a JSON object, sent with `Content-Type: application/json`."
    if not where:
        return None, f"The body cannot be used: {_without_prefix(problem['msg'])}."
    given = json.dumps(problem.get("input"), default=str)[:80]
    return ".".join(where), f"`{'.'.join(where)}`: {_without_prefix(problem['msg'])} (given: {given})."


def _without_prefix(message: str) -> str:
    return message.removeprefix("Value error, ")


class BodyLimit:
    """ASGI middleware: a body over the limit is refused before it is read into memory."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value) > self._limit:
                await error_response(too_large(self._limit))(scope, receive, send)
                return
        left = self._limit

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:  # an HTTPException, since FastAPI lets no other one through while it reads a body
                raise HTTPException(413, str(too_large(self._limit)))
            return message

        await self._app(scope, counted, send)


def too_large(limit: int) -> errors.TooLarge:
    return errors.TooLarge(f"The body is larger than {limit} bytes (THUMBWHEEL_MAX_BODY).")


async def read_body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise errors.BadRequest("The client went away before it had sent its body.")
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


async def send_relayed(send: Send, status: int, body: bytes) -> None:
    """An engine's answer to the client: as it was said, but in OpenAI's shape, and never as our own 500."""
    if status >= 500:
        message = f"The engine could not answer ({status}: {error_message(body)}). Try again in a moment."
        status, body = 502, orjson.dumps(error_body(message, "server_error", "engine_failed"))
    elif status >= 400 and not body.startswith(b'{"error"'):
        body = orjson.dumps(error_body(error_message(body), "invalid_request_error", "invalid_value"))
    await send_bytes(send, status, body)


async def send_bytes(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
