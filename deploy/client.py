"""The gateway's HTTP API, as the `thumbwheel` command uses it. Sync; safe to share between threads.

ClientError
├── NotReachable    nobody answers there
├── Refused         the gateway answered with an error; has its status and code
└── BrokenOff       a stream ended before its end
"""

import json
import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from deploy.state import Run

TIMEOUT = httpx.Timeout(180.0, connect=5.0)  # a reply may wait behind many others on a small machine
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
ROOT = Path(__file__).resolve().parents[1]
PAGE = 200
# What the gateway's errors advise, for those who work by commands.
COMMANDS = {
    "GET /v1/keys": "`thumbwheel keys list`",
    "GET /v1/jobs": "`thumbwheel jobs`",
    "GET /v1/policies": "`thumbwheel versions`",
    "GET /v1/rewards": "`thumbwheel versions`",
    "GET /v1/models": "`thumbwheel versions`",
    "GET /v1/engines": "`thumbwheel status`",
    "POST /v1/pairs": "/pair in `thumbwheel chat`",
}

Object = dict[str, Any]


class ClientError(Exception):
    """The message says what to do."""


class NotReachable(ClientError):
    pass


class Refused(ClientError):
    def __init__(self, message: str, status: int, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class BrokenOff(ClientError):
    pass


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed reply: the handle for feedback, the exact policy version, the text."""

    id: str
    model: str
    text: str


class Client:
    def __init__(self, url: str, key: str) -> None:
        self.url = url.rstrip("/")
        # A proxy that the environment names is for the way out, and must not be asked for this machine.
        beyond = urlsplit(self.url).hostname not in LOOPBACK
        headers = {"Authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=TIMEOUT, limits=limits, trust_env=beyond
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int) -> Object:
        return self._call("GET", path, params=query)

    def post(self, path: str, body: Mapping[str, object]) -> Object:
        return self._call("POST", path, json=_given(body))

    def delete(self, path: str, body: Mapping[str, object], **query: str) -> Object:
        return self._call("DELETE", path, params=query, json=_given(body))

    def every(self, path: str, most: int | None = None) -> list[Object]:
        """The items of a list, page by page, `most` of them at the most."""
        found: list[Object] = []
        while True:
            page = PAGE if most is None else min(PAGE, most - len(found))
            after = {"after": found[-1]["id"]} if found else {}
            answer = self.get(path, limit=page, **after)
            found += answer["data"]
            if not answer["has_more"] or (most is not None and len(found) >= most):
                return found

    def download(self, path: str, **query: str | int) -> Iterator[bytes]:
        """The bytes of a long answer as they come."""
        with _translated(self.url), self._http.stream("GET", path, params=query) as response:
            if response.status_code != 200:
                response.read()
                raise _refusal(response)
            yield from response.iter_bytes()

    def chat(self, messages: list[Object], **more: object) -> Object:
        return self.post("/v1/chat/completions", {"model": "policy", "messages": messages, **more})

    def stream(self, messages: list[Object], **more: object) -> Generator[Chunk, None, None]:
        """The pieces of a reply as they come; closed before its end, the service stops it. Raises BrokenOff
        where it ends before its end."""
        body = {"model": "policy", "messages": messages, **_given(more), "stream": True}
        with (
            _translated(self.url),
            self._http.stream("POST", "/v1/chat/completions", json=body) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise _refusal(response)
            yield from _chunks(response.iter_lines())

    def _call(self, method: str, path: str, **more: Any) -> Object:
        with _translated(self.url):
            response = self._http.request(method, path, **more)
        if response.status_code != 200:
            raise _refusal(response)
        answer: Object = response.json()
        return answer


def find_home() -> Path:
    """Where the state lies: THUMBWHEEL_HOME, else `.thumbwheel` beside the package, as for deploy/up."""
    return Path(os.environ.get("THUMBWHEEL_HOME") or ROOT / ".thumbwheel").expanduser()


def find_url(home: Path) -> str:
    """Where what runs in this home is reached; else where it would be."""
    if url := Run(home).read().get("url"):
        return str(url)
    host, port = os.environ.get("THUMBWHEEL_HOST", "127.0.0.1"), os.environ.get("THUMBWHEEL_PORT", "8000")
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"


def find_key(home: Path) -> str:
    """The operator's key. Raises ClientError where there is none."""
    if key := os.environ.get("THUMBWHEEL_OPERATOR_KEY"):
        return key
    path = home / "keys" / "operator"
    try:
        return path.read_text().strip()
    except OSError:
        advice = "Start the service with ./deploy/up, name its folder in THUMBWHEEL_HOME, or give --key."
        raise ClientError(f"There is no key in {path}. {advice}") from None


def _given(body: Mapping[str, object]) -> Object:
    """Without what is None: the service's own defaults hold."""
    return {key: value for key, value in body.items() if value is not None}


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        advice = "Is it running? ./deploy/up starts it; --url names another address."
        raise NotReachable(f"Nothing answers at {url} ({error}). {advice}") from error
    except httpx.TimeoutException as error:
        raise NotReachable(f"{url} did not answer in time. Its logs say why; try again.") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BrokenOff(f"The connection to {url} broke: {error}. Try again.") from error


def _chunks(lines: Iterator[str]) -> Iterator[Chunk]:
    for line in lines:
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        if not data:
            continue
        event: Object = json.loads(data)
        if "error" in event:
            raise BrokenOff(_by_commands(event["error"]["message"]))
        for choice in event["choices"]:
            yield Chunk(event["id"], event["model"], choice["delta"].get("content") or "")
    raise BrokenOff("The reply ended early. Ask again.")


def _refusal(response: httpx.Response) -> Refused:
    try:
        error = response.json()["error"]
        return Refused(_by_commands(str(error["message"])), response.status_code, error.get("code"))
    except (ValueError, KeyError, TypeError):
        text = " ".join(response.text.split())[:200]
        return Refused(f"{response.url} answered {response.status_code}: {text}", response.status_code)


def _by_commands(message: str) -> str:
    return re.sub(r"\b(?:GET|POST) /v1/\w+(?![\w/])", lambda found: COMMANDS.get(found[0], found[0]), message)
