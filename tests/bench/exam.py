"""The exam: a version's replies to prompts that nobody ever rated, and what they are worth by a gold score.

Nothing of it is stored, so the service cannot learn from it. Intervals are 95 %, by bootstrap over prompts:
the replies to one prompt count as one observation.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from deploy.client import Client, ClientError
from deploy.demo.traffic import Meter
from tests.bench.gold import Scorer
from workers.statistics import Interval, bootstrap_interval, length_matched_wins, win_probabilities

CONFIDENCE = 0.95
CONCURRENCY = 16
REPLY_TOKENS = 80

Replies = Mapping[int, Sequence[str]]  # by the prompt's number


@dataclass(frozen=True)
class Estimate:
    """`count`: prompts, or pairs where it says so."""

    value: float
    interval: Interval
    count: int


@dataclass(frozen=True)
class Paper:
    """One version's replies. `tokens`: a reply's on average. `kl_base`: nats a token, as the gate measured
    it when the version was a candidate; 0 for the base, None where it is not known."""

    version: str
    replies: dict[int, list[str]]
    tokens: float
    kl_base: float | None

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "replies": {str(number): texts for number, texts in self.replies.items()}}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Paper":
        replies = {int(number): list(texts) for number, texts in given["replies"].items()}
        return cls(given["version"], replies, given["tokens"], given["kl_base"])

    @property
    def kl_reply(self) -> float | None:
        """KL to the base of whole replies, nats."""
        return None if self.kl_base is None else self.kl_base * self.tokens


def examine(
    client: Client,
    meter: Meter,
    version: str,
    prompts: Sequence[str],
    replies: int,
    kl_base: float | None,
    done: Callable[[int], None],
) -> Paper:
    """Let one version answer all prompts, `replies` times each; a failed one is left out. ClientError where
    none succeeds."""

    def answer(prompt: str) -> dict[str, Any] | None:
        messages = [{"role": "user", "content": prompt}]
        return meter.attempt(
            lambda: client.chat(messages, model=version, n=replies, max_tokens=REPLY_TOKENS, store=False)
        )

    found: dict[int, list[str]] = {}
    tokens = 0
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        for number, body in enumerate(pool.map(answer, prompts)):
            done(number + 1)
            if body is not None:
                found[number] = [str(choice["message"]["content"] or "") for choice in body["choices"]]
                tokens += body["usage"]["completion_tokens"]
    if not found:
        raise ClientError(f"{version} answered nothing in its exam: {meter.failures[-1][1]}")
    return Paper(version, found, tokens / sum(map(len, found.values())), kl_base)


def golds(replies: Replies, score: Scorer) -> dict[int, list[float]]:
    return {number: [score(text) for text in texts] for number, texts in replies.items()}


def mean_gold(replies: Replies, score: Callable[[str], float]) -> Estimate:
    """The mean score of a reply; a share where `score` is a yes or no."""
    return _estimate([fmean(values) for values in golds(replies, score).values()])


def win_rate(mine: Replies, theirs: Replies, score: Scorer) -> Estimate:
    """How often a reply is better than one of the others to the same prompt; a tie is half a win."""
    return _estimate(win_probabilities(golds(mine, score), golds(theirs, score)))


def difference(mine: Replies, theirs: Replies, score: Callable[[str], float]) -> Estimate:
    """The mean of mine less that of theirs, prompt by prompt."""
    first, second = golds(mine, score), golds(theirs, score)
    return _estimate([fmean(first[number]) - fmean(second[number]) for number in first if number in second])


def matched_win_rate(mine: Replies, theirs: Replies, score: Scorer) -> Estimate | None:
    """The win rate over pairs of replies that are as long as each other, within a quarter; None where there
    is none. `count`: pairs."""
    groups = length_matched_wins(_measured(mine, score), _measured(theirs, score))
    if not groups:
        return None
    rates, pairs = [fmean(group) for group in groups], [len(group) for group in groups]
    interval = bootstrap_interval(rates, CONFIDENCE, weights=pairs)
    return Estimate(fmean(rates, weights=pairs), interval, sum(pairs))


def _measured(replies: Replies, score: Scorer) -> dict[int, list[tuple[float, int]]]:
    return {number: [(score(text), len(text.split())) for text in texts] for number, texts in replies.items()}


def _estimate(values: Sequence[float]) -> Estimate:
    low, high = bootstrap_interval(values, CONFIDENCE)
    return Estimate(fmean(values), (float(low), float(high)), len(values))
