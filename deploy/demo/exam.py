"""The demo's exam: how each version does, by the raters' taste, on prompts that nobody ever rated.

Each prompt is answered twice by every version, addressed by its exact name, and nothing of it is stored, so
the service cannot learn from it. A win rate compares every reply of a version with every reply of policy-v0
to the same prompt (a tie is half a win); its 95 % interval is a bootstrap over prompts, so the two replies to
one prompt count as one observation.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean

from deploy.client import Client
from deploy.demo.taste import taste
from deploy.demo.traffic import Meter
from workers.statistics import Interval, bootstrap_interval, win_probabilities

BASE = "policy-v0"  # the base model itself, which every version is compared with
REPLIES = 2  # by a version to each prompt
CONCURRENCY = 16
REPLY_TOKENS = 80
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Paper:
    """One version's replies: by the prompt's number, those that came."""

    version: str
    replies: dict[int, list[str]]

    @property
    def tastes(self) -> dict[int, list[float]]:
        return {number: [taste(reply) for reply in replies] for number, replies in self.replies.items()}

    @property
    def mean_taste(self) -> float:
        return fmean(value for values in self.tastes.values() for value in values)

    @property
    def mean_words(self) -> float:
        return fmean(len(reply.split()) for replies in self.replies.values() for reply in replies)


def examine(
    client: Client, meter: Meter, version: str, prompts: Sequence[str], done: Callable[[int], None]
) -> Paper:
    """Let one version answer all prompts; `done` hears how many are answered. A failed one is left out."""

    def answer(prompt: str) -> list[str]:
        reply = meter.attempt(
            lambda: client.chat(
                [{"role": "user", "content": prompt}],
                model=version,
                n=REPLIES,
                max_tokens=REPLY_TOKENS,
                store=False,
            )
        )
        if reply is None:
            return []
        meter.answered(reply["model"])
        return [str(choice["message"]["content"]) for choice in reply["choices"]]

    replies = {}
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        for number, texts in enumerate(pool.map(answer, prompts)):
            done(number + 1)
            if texts:
                replies[number] = texts
    return Paper(version, replies)


def win_rate(paper: Paper, base: Paper) -> tuple[float, Interval]:
    """How often a version's reply is liked better than the base's, and its 95 % interval."""
    wins = win_probabilities(paper.tastes, base.tastes)
    low, high = bootstrap_interval(wins, CONFIDENCE)
    return fmean(wins), (float(low), float(high))
