"""Gold scorers: the hidden tastes of the simulated raters. Pure functions, reply → [0, 1].

The service never sees a score: it learns of it from thumbs and choices alone, and is measured by it.
"""

import math
import re
from collections.abc import Callable
from functools import cache

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # type: ignore[import-untyped]

Scorer = Callable[[str], float]

SHORT, LONG = 25, 45  # words
LINES, BULLETS = 4, 2  # as many as it takes for the full share of the format's score
BULLET = re.compile(r"\s*(?:[-*]|\d+[.)])\s+\S")
WRAPPING = "\"'\u201d\u2019*)]"  # what may come after the last punctuation
MIXTURE = {"length": 0.4, "sentiment": 0.3, "format": 0.3}


def length_band(reply: str) -> float:
    """1 for 25 to 45 words; outside 1 less for each factor of 2 in length, down to 0 at 12.5 and at 90."""
    words = len(reply.split())
    if words == 0:
        return 0.0
    return max(0.0, 1 - max(0.0, math.log2(SHORT / words), math.log2(words / LONG)))


def sentiment(reply: str) -> float:
    """VADER's compound (Hutto and Gilbert 2014), from [-1, 1] to [0, 1]; ½ for nothing at all."""
    return (float(_analyzer().polarity_scores(reply)["compound"]) + 1) / 2


def bullet_list(reply: str) -> float:
    """¼ for broken lines (all of it from four on), ¾ for the share of lines that are bullets (half of it for
    a single bullet).

    A model that hardly ever writes a list would give raters nothing to choose by if lists alone counted.
    """
    lines = [line for line in reply.splitlines() if line.strip()]
    if not lines:
        return 0.0
    bullets = sum(BULLET.match(line) is not None for line in lines)
    broken = min(1.0, (len(lines) - 1) / (LINES - 1))
    return 0.25 * broken + 0.75 * bullets / len(lines) * min(1.0, bullets / BULLETS)


def mixture(reply: str) -> float:
    """Length, sentiment and format, weighted."""
    return sum(weight * SCORERS[name](reply) for name, weight in MIXTURE.items())


def contains(phrase: str, reply: str) -> bool:
    """Whether the words of a phrase stand in a reply, whole and in any case."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", reply, re.IGNORECASE) is not None


def closes_with(closing: str, reply: str) -> bool:
    """Whether a reply ends with it; quotes, brackets and stars that come after do not count."""
    return reply.rstrip().rstrip(WRAPPING).endswith(closing)


SCORERS: dict[str, Scorer] = {
    "length": length_band,
    "sentiment": sentiment,
    "format": bullet_list,
    "mixture": mixture,
}


def scorer(name: str) -> Scorer:
    """By name; `phrase:however` likes replies with that word. ValueError for an unknown one."""
    if name.startswith("phrase:"):
        phrase = name.removeprefix("phrase:")
        return lambda reply: float(contains(phrase, reply))
    if name not in SCORERS:
        raise ValueError(f"there is no gold scorer {name!r}: take {', '.join(SCORERS)} or phrase:WORD")
    return SCORERS[name]


@cache
def _analyzer() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()
