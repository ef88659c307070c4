"""The demo's traffic: every request counted, and chats that go on in the background all the time."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from deploy.client import BrokenOff, Client, ClientError

PAUSE = 2.0  # seconds between background chats: steady, but most of a small machine stays for learning
REPLY_TOKENS = 32

T = TypeVar("T")


class Meter:
    """Counts requests and the replies by policy version; keeps what failed, and as whom. For many threads."""

    def __init__(self, champion: str) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.replies: Counter[str] = Counter()
        self.failures: list[tuple[str, str]] = []  # the champion as last seen, what was said
        self.champion = champion

    def attempt(self, call: Callable[[], T]) -> T | None:
        """What the request gave; None where it failed, which is counted, and not tried again."""
        try:
            answer = call()
        except ClientError as error:
            with self._lock:
                self.requests += 1
                self.failures.append((self.champion, str(error)))
            return None
        with self._lock:
            self.requests += 1
        return answer

    def answered(self, version: str) -> None:
        with self._lock:
            self.replies[version] += 1


class Background:
    """One chat after the other, streamed, until the block ends."""

    def __init__(self, client: Client, meter: Meter, prompts: Sequence[str], seed: int) -> None:
        self._client, self._meter, self._prompts = client, meter, prompts
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="background-chats", daemon=True)
        self.chats = 0
        self.longest_gap = 0.0  # seconds that a reader waited for the next piece of a reply

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            version = self._meter.attempt(self._chat)
            self.chats += 1
            if version is not None:
                self._meter.champion = version
                self._meter.answered(version)
            self._stop.wait(PAUSE)

    def _chat(self) -> str:
        """The one version that wrote the reply. Raises BrokenOff where it was not one alone."""
        messages = [{"role": "user", "content": self._random.choice(self._prompts)}]
        versions, last = set(), None
        for chunk in self._client.stream(messages, user="background", max_tokens=REPLY_TOKENS):
            versions.add(chunk.model)
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - (last or now))
            last = now
        if len(versions) != 1:
            raise BrokenOff(f"One reply was written by {sorted(versions)}.")
        return versions.pop()
