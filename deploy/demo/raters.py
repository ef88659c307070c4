"""The demo's raters: they chat, and label the answers as their taste has it, with people's noise.

A thumb is up with probability sigmoid((taste - 0.45) / T), and of two blind replies a is chosen with
probability sigmoid((taste_a - taste_b) / T) (Bradley and Terry 1952), T = 0.1.
"""

import math
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deploy.client import Client, ClientError, Object
from deploy.demo.taste import taste
from deploy.demo.traffic import Meter

CONTENT = 0.45  # the taste at which a thumb is as likely up as down
TEMPERATURE = 0.1
RATERS = 8
CONCURRENCY = 16
REPLY_TOKENS = 80


@dataclass(frozen=True)
class Task:
    """One label to give: a thumb on a chat, or a choice between two blind replies."""

    prompt: str
    blind: bool
    rater: str
    dice: random.Random


class Raters:
    def __init__(self, client: Client, meter: Meter, seed: int) -> None:
        self._client, self._meter = client, meter
        self._random = random.Random(seed)

    def label(self, prompts: Sequence[str], labels: int, done: Callable[[int], None]) -> int:
        """Give `labels` labels, thumbs and choices in turn, on `prompts` in a random order.

        `done` hears how many are given. Returns their number; ClientError if not even half succeeded.
        """
        given = 0
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            for tried, success in enumerate(pool.map(self._give, self._tasks(prompts, labels)), 1):
                given += success
                done(given)
                if tried - given > labels // 2:
                    pool.shutdown(cancel_futures=True)
                    raise ClientError(
                        f"Most requests fail, so nobody can rate: {self._meter.failures[-1][1]}"
                    )
        return given

    def _tasks(self, prompts: Sequence[str], labels: int) -> list[Task]:
        order: list[str] = []
        while len(order) < labels:
            order += self._random.sample(prompts, len(prompts))
        return [
            Task(
                prompt, number % 2 == 1, f"rater-{number % RATERS + 1}", random.Random(self._random.random())
            )
            for number, prompt in enumerate(order[:labels])
        ]

    def _give(self, task: Task) -> bool:
        return self._choose(task) if task.blind else self._rate(task)

    def _rate(self, task: Task) -> bool:
        reply = self._meter.attempt(
            lambda: self._client.chat(_asked(task), user=task.rater, max_tokens=REPLY_TOKENS)
        )
        if reply is None:
            return False
        self._meter.answered(reply["model"])
        thumb = thumb_for(str(reply["choices"][0]["message"]["content"]), task.dice)
        body = {"completion_id": reply["id"], "rating": thumb, "user": task.rater}
        return self._meter.attempt(lambda: self._client.post("/v1/feedback", body)) is not None

    def _choose(self, task: Task) -> bool:
        asked = {"messages": _asked(task), "user": task.rater, "max_tokens": REPLY_TOKENS}
        pair = self._meter.attempt(lambda: self._client.post("/v1/pairs", asked))
        if pair is None:
            return False
        a, b = (str(pair[side]["message"]["content"]) for side in ("a", "b"))
        body = {"pair_id": pair["id"], "winner": winner_of(a, b, task.dice), "user": task.rater}
        choice = self._meter.attempt(lambda: self._client.post("/v1/comparisons", body))
        if choice is None:
            return False
        for side in ("a", "b"):
            self._meter.answered(choice[side]["policy"])
        return True


def thumb_for(reply: str, dice: random.Random) -> str:
    return "up" if dice.random() < sigmoid((taste(reply) - CONTENT) / TEMPERATURE) else "down"


def winner_of(a: str, b: str, dice: random.Random) -> str:
    """`tie` for the same words; else a choice drawn by how much better the one is."""
    if a.strip() == b.strip():
        return "tie"
    return "a" if dice.random() < sigmoid((taste(a) - taste(b)) / TEMPERATURE) else "b"


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _asked(task: Task) -> list[Object]:
    return [{"role": "user", "content": task.prompt}]
