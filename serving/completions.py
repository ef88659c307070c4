"""From the bytes of a chat request to what the gateway reads of it; from the engine's bytes to a log entry.

The body stays opaque: it is forwarded as it came, but for the keys that are the gateway's own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from feedback.types import Completion, Opened, conversation_of, tag_of
from serving.errors import BadRequest
from serving.refusals import refused

MAX_CHOICES = 16
MAX_DEPTH = 200  # orjson reads 1024 levels, but writes 254 only
SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "n",
    "seed",
    "stop",
    "max_tokens",
    "max_completion_tokens",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "response_format",
    "tools",
)
# Those in which a person's words may stand: not logged where nothing is to be stored.
TEXT = frozenset({"stop", "response_format", "tools"})
ANY = "policy"  # the model that leaves the version to the router
DISCONNECTED = "the client went away"
STOPPED = "the gateway stopped"
# Keys of ours, and one by which a client could choose an engine's request id.
OWN_KEYS = ("model", "store", "metadata", "request_id")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    body: dict[str, Any]
    model: str
    messages: list[Any]
    stream: bool
    user: str | None
    metadata: dict[str, Any]
    store: bool
    wants_usage: bool

    def forwarded(self, version: str) -> bytes:
        """The body for the engine: streamed replies always end with their token counts, for the log."""
        body = {key: value for key, value in self.body.items() if key not in OWN_KEYS}
        body["model"] = version
        if self.stream and not self.wants_usage:
            body["stream_options"] = {**(self.body.get("stream_options") or {}), "include_usage": True}
        return orjson.dumps(body)


@dataclass(slots=True)
class Served:
    """What went over the wire for one request, kept as it was until there is time to read it. `first_token`:
    of a stream; `trial`: whose draw chose the version, by `Trial.account`; `refuses`: once it was read."""

    id: str
    version: str
    request: ChatRequest
    key_id: str
    created: float
    first_token: float | None = None
    duration: float = 0.0
    chunks: list[bytes] = field(default_factory=list)
    finished: bool = False
    error: str | None = None
    pair_id: str | None = None
    trial: str | None = None
    refuses: bool = False

    @property
    def opened(self) -> Opened:
        """What is known of it as it begins."""
        tag = tag_of(self.request.metadata) if self.request.store else None
        return Opened(self.id, self.version, self.request.user, self.created, tag)


def read_object(raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises BadRequest."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _deeper(body, MAX_DEPTH):
        raise BadRequest(f"The body is nested more than {MAX_DEPTH} deep; flatten it.")
    return body


def read_chat(body: dict[str, Any]) -> ChatRequest:
    """What the gateway needs to know of a chat request. Raises BadRequest."""
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("`model` is missing: send 'policy', or a name from GET /v1/models.", "model")
    stream_options = _typed(body, "stream_options", dict, {})
    if not 1 <= _typed(body, "n", int, 1) <= MAX_CHOICES:
        raise BadRequest(f"`n` must be from 1 to {MAX_CHOICES}.", "n")
    return ChatRequest(
        body=body,
        model=model,
        messages=_messages(body),
        stream=_typed(body, "stream", bool, False),
        user=_typed(body, "user", str, None),
        metadata=_typed(body, "metadata", dict, {}),
        store=_typed(body, "store", bool, True),
        wants_usage=bool(stream_options.get("include_usage")),
    )


def completions_of(served: Served) -> list[Completion]:
    """The log entries of one request: one a choice; the first has the id that the client saw."""
    try:
        choices, usage = _streamed(served.chunks) if served.request.stream else _plain(served.chunks)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        choices, usage = [], {}
        served.error = served.error or f"the reply could not be read: {error!r}"
        served.finished = False
    request = served.request
    texts = choices or [_Choice()]
    served.refuses = refused(texts[0].text)
    return [
        Completion(
            id=served.id if index == 0 else f"{served.id}-{index}",
            policy=served.version,
            messages=request.messages if request.store else None,
            reply=choice.text if request.store and choices else None,
            finish_reason=choice.finish_reason if served.finished else None,
            error=served.error,
            prompt_tokens=usage.get("prompt_tokens") or 0,
            completion_tokens=(usage.get("completion_tokens") or 0) // len(texts),
            sampling=_sampling(request),
            metadata=request.metadata if request.store else {},
            key_id=served.key_id,
            user=request.user,
            conversation=_conversation(served),
            pair_id=served.pair_id,
            routed=served.trial is not None,
            created=served.created,
            first_token=served.first_token,
            duration=served.duration,
        )
        for index, choice in enumerate(texts)
    ]


def sticky(request: ChatRequest, key_id: str) -> str:
    """Whose turn it is, where versions share the traffic: the user's, else the conversation's."""
    if request.user is not None:
        return f"{key_id}/{request.user}"
    return conversation_of(request.messages, request.metadata)


def _sampling(request: ChatRequest) -> dict[str, Any]:
    kept = SAMPLING if request.store else [key for key in SAMPLING if key not in TEXT]
    return {key: request.body[key] for key in kept if request.body.get(key) is not None}


def _conversation(served: Served) -> str:
    """Where nothing is to be stored not even a hash of the messages: short ones could be guessed from it."""
    request = served.request
    return conversation_of(request.messages, request.metadata) if request.store else f"conv-{served.id}"


@dataclass(slots=True)
class _Choice:
    text: str = ""
    finish_reason: str | None = None


def _plain(chunks: list[bytes]) -> tuple[list[_Choice], dict[str, Any]]:
    reply = orjson.loads(b"".join(chunks))
    found = [_Choice(c["message"].get("content") or "", c.get("finish_reason")) for c in reply["choices"]]
    return found, reply.get("usage") or {}


def _streamed(chunks: list[bytes]) -> tuple[list[_Choice], dict[str, Any]]:
    parts: dict[int, list[str]] = {}
    reasons: dict[int, str] = {}
    usage: dict[str, Any] = {}
    for event in _events(chunks):
        usage = event.get("usage") or usage
        for choice in event.get("choices") or ():
            index = choice["index"]
            parts.setdefault(index, []).append((choice.get("delta") or {}).get("content") or "")
            if choice.get("finish_reason"):
                reasons[index] = choice["finish_reason"]
    return [_Choice("".join(parts[index]), reasons.get(index)) for index in sorted(parts)], usage


def _events(chunks: list[bytes]) -> Iterable[dict[str, Any]]:
    for line in b"".join(chunks).split(b"\n"):
        if line.startswith(b"data: {"):
            try:
                yield orjson.loads(line[6:])
            except orjson.JSONDecodeError:  # the end of a stream that broke off
                return


def _deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value is nested more than so many levels."""
    level = [value]
    for _ in range(levels):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def _inside(value: Any) -> Iterable[Any]:
    """The objects and lists directly inside an object or a list."""
    values = value.values() if isinstance(value, dict) else value
    return [inner for inner in values if isinstance(inner, dict | list)]


def _messages(body: dict[str, Any]) -> list[Any]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` must be a list with at least one message.", "messages")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequest(
                f"`messages[{index}]` must be an object with a `role` and a `content`.", f"messages[{index}]"
            )
    return messages


def _typed(body: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadRequest(f"`{key}` must be {_NAMES[kind]}.", key)
    return value


_NAMES = {str: "a string", int: "a whole number", bool: "true or false", dict: "an object"}
