"""A judge at an OpenAI-compatible URL: which of two replies follows a principle better? Async, no torch.

Each pair is asked twice, the replies swapped, since judges are fond of one position (Zheng et al. 2023, arXiv
2306.05685). A verdict is P(first) = p(A) / (p(A) + p(B)) of the answer's letter, as in RLAIF (Lee et al.
2023, arXiv 2309.00267), or 1 or 0 where the server gives no log-probabilities.
"""

import asyncio
import base64
import math
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp
import orjson

from serving.engine import error_message
from workers.constitution import Principle
from workers.labels import Message
from workers.rules import Pair, Verdict

ANSWER_TOKENS = 4  # some models begin with a space, a bracket or a star
LEAST_MASS = 0.1  # a position where A and B are less probable than this together is not the answer's
GIVE_UP = 8  # failed requests in a row after which no more are made
BUSY = {408, 409, 425, 429}  # statuses below 500 that may be well a moment later
DISLIKED = {400, 422}

QUESTION = """\
Here are a conversation and two replies to its last message. Compare the replies by this principle alone:
{principle}

<conversation>
{conversation}
</conversation>

<reply_A>
{first}
</reply_A>

<reply_B>
{second}
</reply_B>

Which reply follows the principle better? Answer with one letter only: A or B."""


class JudgeError(Exception):
    """The judge cannot be reached, refuses, or speaks no chat completions; the message says which."""


class Judge:
    """`url` is the base that OpenAI clients take, with its /v1; what is secret in it, a user's name and
    password or a query, goes into no message. `timeout`: seconds a request; `pause`: seconds before the
    second try, twice as many before each further one."""

    def __init__(
        self,
        url: str,
        model: str,
        session: aiohttp.ClientSession,
        key: str | None = None,
        timeout: float = 30.0,
        tries: int = 4,
        pause: float = 1.0,
    ) -> None:
        self._url, self._shown, secrets = _parts(url)
        self._secrets = [secret for secret in (self._url, key, *secrets) if secret]
        self._model, self._session, self._key = model, session, key
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._tries, self._pause = tries, pause
        self._plain = False

    async def prefers_first(
        self, messages: Sequence[Message], first: str, second: str, principle: Principle
    ) -> float | None:
        """P(`first` follows the principle better than `second`), in [0, 1]; None where the answer is neither
        A nor B. Raises JudgeError."""
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": question(messages, first, second, principle)}],
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
        }
        # Not to be stored: a judge behind a Thumbwheel would find its questions among the prompts to train
        # on.
        more = {} if self._plain else {"logprobs": True, "top_logprobs": 5, "store": False}
        status, answer = await self._post({**body, **more})
        if status in DISLIKED and more:  # some servers know only the plain keys
            status, answer = await self._post(body)
            self._plain = status == 200
        if status != 200:
            raise self._error(f"answered {status}: {error_message(answer)[:200]}")
        return letter_of(self._choice(answer))

    async def _post(self, body: dict[str, Any]) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        trouble = ""
        for attempt in range(self._tries):
            if attempt:
                await asyncio.sleep(self._pause * 2 ** (attempt - 1))
            try:
                async with self._session.post(
                    self._url, json=body, headers=headers, timeout=self._timeout
                ) as response:
                    answer = await response.read()
            except TimeoutError:
                trouble = f"no answer in {self._timeout.total:g} s"
            except (aiohttp.ClientError, ValueError) as error:  # ValueError: no URL at all
                trouble = str(error) or type(error).__name__
            else:
                if response.status < 500 and response.status not in BUSY:
                    return response.status, answer
                trouble = f"it answered {response.status}: {error_message(answer)[:200]}"
        raise self._error(f"failed {self._tries} times: {trouble}")

    def _choice(self, answer: bytes) -> dict[str, Any]:
        try:
            choice = orjson.loads(answer)["choices"][0]
            choice["message"]["content"]
        except (ValueError, LookupError, TypeError) as error:
            raise self._error("answered with no chat completion") from error
        return dict(choice)

    def _error(self, what: str) -> JudgeError:
        for secret in self._secrets:
            what = what.replace(secret, "…")
        return JudgeError(f"{self._shown} {what}")


class Hearing:
    """Questions put to one judge, at most `concurrency` at a time, until it fails too often in a row."""

    def __init__(self, judge: Judge, concurrency: int, heard: Callable[[int], None]) -> None:
        self.failed = 0
        self.trouble: str | None = None  # why the last request failed
        self._judge, self._heard = judge, heard
        self._gate = asyncio.Semaphore(concurrency)
        self._done = self._failed_in_a_row = 0

    async def verdicts(self, principles: Sequence[Principle], pairs: Sequence[Pair]) -> list[Verdict]:
        """One of each pair under each principle, pair by pair. A question that failed has no answer."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._verdict(number, pair, principle))
                for number, pair in enumerate(pairs)
                for principle in principles
            ]
        return [task.result() for task in tasks]

    async def _verdict(self, number: int, pair: Pair, principle: Principle) -> Verdict:
        forward, backward = await asyncio.gather(
            self._ask(pair.messages, pair.a, pair.b, principle),
            self._ask(pair.messages, pair.b, pair.a, principle),
        )
        return Verdict(number, principle.id, forward, backward)

    async def _ask(
        self, messages: Sequence[Message], first: str, second: str, principle: Principle
    ) -> float | None:
        async with self._gate:
            self._done += 1
            if self._failed_in_a_row >= GIVE_UP:
                self.failed += 1
                return None
            try:
                answer = await self._judge.prefers_first(messages, first, second, principle)
            except JudgeError as error:
                self.failed += 1
                self._failed_in_a_row += 1
                self.trouble = str(error)
                return None
            self._failed_in_a_row = 0
            self._heard(self._done)
            return answer


def question(messages: Sequence[Message], first: str, second: str, principle: Principle) -> str:
    conversation = "\n".join(f"{message['role']}: {message['content']}" for message in messages)
    return QUESTION.format(principle=principle.text, conversation=conversation, first=first, second=second)


def _parts(url: str) -> tuple[str, str, list[str]]:
    """Where to post to, the address as messages may show it, and what they may not."""
    try:
        parts = urlsplit(url)
    except ValueError:  # no address at all; the first request says so
        return url, "the judge", [url]
    path, (user, _, host) = parts.path.rstrip("/"), parts.netloc.rpartition("@")
    where = parts._replace(path=f"{path}/chat/completions").geturl()
    shown = SplitResult(parts.scheme, host, path, "", "").geturl()
    basic = base64.b64encode(unquote(user).encode()).decode()  # as a server may echo it
    return where, shown or "the judge", [user, parts.password or "", basic, parts.query]


def letter_of(choice: dict[str, Any]) -> float | None:
    """P(A) against B of a chat completion's choice: from the log-probabilities of the two letters where they
    are given, else 1 or 0 by the first letter A or B that stands alone in the text; None without one."""
    try:
        given = _from_logprobs(choice["logprobs"]["content"])
    except (LookupError, TypeError, AttributeError):  # none, or of another shape than OpenAI's
        given = None
    if given is not None:
        return given
    # "A good reply is B" is read as A, in both orders: then the verdicts do not agree, and are dropped.
    text = choice["message"]["content"]
    if not isinstance(text, str):  # nothing, or a list of parts
        return None
    found = re.search(r"(?<![A-Za-z])[AB](?![A-Za-z])", text)
    return None if found is None else float(found[0] == "A")


def _from_logprobs(positions: Sequence[dict[str, Any]]) -> float | None:
    for position in positions:
        candidates = position.get("top_logprobs") or [position]
        a, b = _mass(candidates, "A"), _mass(candidates, "B")
        if a + b >= LEAST_MASS:
            return a / (a + b)
    return None


def _mass(candidates: Sequence[dict[str, Any]], letter: str) -> float:
    """The probability of the tokens that are this letter, whatever spaces and brackets surround it."""
    same = [entry for entry in candidates if re.sub(r"[^A-Za-z]", "", entry["token"]) == letter]
    return math.fsum(math.exp(entry["logprob"]) for entry in same)
