"""What a judge said of replies under the principles, and the rule scores that come of it. No torch.

A reply's score under a principle is its win share: how many of its consistent verdicts it won. So it says how
the reply compares with the other replies to the same prompt, and the mean over a policy's own replies is
always near ½; to compare two policies, let their replies meet in pairs (`win_rates`).
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feedback.types import content_hash
from workers.constitution import Principle
from workers.labels import Message, Sample, by_prompt
from workers.terms import correlation

RULES = pa.schema(
    [
        ("key", pa.string()),
        ("reply", pa.string()),
        ("principle", pa.string()),
        ("share", pa.float64()),
        ("verdicts", pa.int64()),
        ("weight", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Pair:
    """Two replies to the same messages."""

    messages: list[Message]
    a: str
    b: str


@dataclass(frozen=True)
class Verdict:
    """What the judge said of pair number `pair`. `forward`: P(a) with a shown first; `backward`: P(b) with b
    shown first; None where there was no answer."""

    pair: int
    principle: str
    forward: float | None
    backward: float | None

    @property
    def answered(self) -> bool:
        return self.forward is not None and self.backward is not None

    @property
    def preference(self) -> float | None:
        """P(a better than b), the mean of both orders, where both name the same winner; else None."""
        if self.forward is None or self.backward is None:
            return None
        a, a_too = self.forward, 1 - self.backward
        return (a + a_too) / 2 if (a - 0.5) * (a_too - 0.5) > 0 else None


@dataclass(frozen=True)
class RuleScore:
    """A reply's win `share` in `verdicts` consistent verdicts under a principle. `key`: of prompt and reply;
    `weight`: the principle's share of all weights."""

    key: str
    reply: str
    principle: str
    share: float
    verdicts: int
    weight: float


def choose_pairs(samples: Sequence[Sample], count: int, seed: int) -> list[tuple[int, int]]:
    """At most `count` pairs of rows, each two different replies to one prompt: one pair of every prompt
    before the second of any, and replies that were in none before those that were."""
    draw = random.Random(seed)
    turns = []
    for rows in by_prompt(samples, range(len(samples))).values():
        draw.shuffle(rows)
        # Of neighbours, the 1st with the 2nd, the 3rd with the 4th, … have no reply in common.
        order = sorted(
            combinations(range(len(rows)), 2), key=lambda pair: pair[0] % 2 or pair[1] - pair[0] != 1
        )
        pairs = [(rows[i], rows[j]) for i, j in order]
        differ = [(a, b) for a, b in pairs if samples[a].reply.strip() != samples[b].reply.strip()]
        turns += [(turn, draw.random(), pair) for turn, pair in enumerate(differ)]
    return [pair for _, _, pair in sorted(turns)[:count]]


def rule_scores(
    samples: Sequence[Sample],
    pairs: Sequence[tuple[int, int]],
    verdicts: Sequence[Verdict],
    principles: Sequence[Principle],
) -> list[RuleScore]:
    """One of each distinct reply under each principle where it was in a consistent verdict."""
    won: dict[tuple[str, str], list[float]] = {}
    replies = {key_of(sample): sample.reply for sample in samples}
    for verdict in verdicts:
        if verdict.preference is not None:
            a, b = (key_of(samples[row]) for row in pairs[verdict.pair])
            a_won = float(verdict.preference > 0.5)
            won.setdefault((a, verdict.principle), []).append(a_won)
            won.setdefault((b, verdict.principle), []).append(1 - a_won)
    weights = {principle.id: principle.share for principle in principles}
    return [
        RuleScore(key, replies[key], name, sum(wins) / len(wins), len(wins), weights[name])
        for (key, name), wins in won.items()
    ]


def win_rates(verdicts: Sequence[Verdict]) -> dict[str, dict[str, float | int | None]]:
    """Of each principle: `win_rate` of the pairs' a over their b in consistent verdicts, how many were
    `asked`, the share of those answered that was `consistent`, and of `first` positions among all winners (½:
    the judge is not fond of a position). With candidate as a and champion as b, how well a policy keeps each
    rule."""
    named: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        named.setdefault(verdict.principle, []).append(verdict)
    return {name: _rates(group) for name, group in named.items()}


def first_wins(verdicts: Sequence[Verdict]) -> float | None:
    """Share of answers that preferred the reply shown first."""
    answers = [p for verdict in verdicts for p in (verdict.forward, verdict.backward) if p is not None]
    return _mean([(p > 0.5) + 0.5 * (p == 0.5) for p in answers])


def combined(samples: Sequence[Sample], rules: Sequence[RuleScore]) -> list[float]:
    """Each sample's wins less losses over all principles, by their weights, in [-1, 1]; 0 without a verdict.

    A principle whose verdicts did not agree counts as a draw: else one verdict on a principle that hardly
    matters would pay as much as winning under all.
    """
    found: dict[str, float] = {}
    for rule in rules:
        found[rule.key] = found.get(rule.key, 0.0) + rule.weight * (2 * rule.share - 1)
    return [found.get(key_of(sample), 0.0) for sample in samples]


def beside(
    samples: Sequence[Sample], rewards: Sequence[float], rules: Sequence[RuleScore]
) -> dict[str, dict[str, float | int | None]]:
    """Each rule beside the preference score: how many replies it was `judged` on, its `mean` over them, and
    the `correlation` with their `rewards` among replies to one prompt."""
    share = {(rule.key, rule.principle): rule.share for rule in rules}
    keys = [key_of(sample) for sample in samples]
    figures: dict[str, dict[str, float | int | None]] = {}
    for name in dict.fromkeys(rule.principle for rule in rules):
        rows = [row for row, key in enumerate(keys) if (key, name) in share]
        mine = [share[keys[row], name] for row in rows]
        prompts = [samples[row].prompt_id for row in rows]
        agreement = correlation(mine, [rewards[row] for row in rows], prompts) if rows else None
        figures[name] = {"judged": len(rows), "mean": _mean(mine), "correlation": agreement}
    return figures


def read_rules(path: Path) -> list[RuleScore]:
    return [RuleScore(**row) for row in pq.read_table(path).to_pylist()]


def write_rules(path: Path, rules: Sequence[RuleScore]) -> None:
    pq.write_table(pa.Table.from_pylist([asdict(rule) for rule in rules], schema=RULES), path)


def key_of(sample: Sample) -> str:
    """The same for the same words in answer to the same messages, whichever job sampled them."""
    return content_hash([sample.messages, sample.reply])


def _rates(verdicts: Sequence[Verdict]) -> dict[str, float | int | None]:
    answered = [verdict for verdict in verdicts if verdict.answered]
    preferences = [verdict.preference for verdict in answered if verdict.preference is not None]
    return {
        "win_rate": _mean([float(p > 0.5) for p in preferences]),
        "asked": len(verdicts),
        "consistent": len(preferences) / len(answered) if answered else None,
        "first": first_wins(verdicts),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
