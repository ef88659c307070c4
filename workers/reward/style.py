"""What raters make of how a reply looks, a few numbers, and of what frozen layers see in it. Pure; no torch.

What people like first shows in length, lists and punctuation, and a hundred labels tell it from so few
numbers, where they tell less from a language model's hundreds of dimensions. So a reward is
r(x, y) = w·φ(y) + v·h(x, y) + what a member of the ensemble adds to it, and w and v are fitted first. Chatbot
Arena's style control takes numbers like φ too, to tell style from substance (Li et al. 2024, "Does style
matter?").
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from workers.reward.folds import folds, units
from workers.reward.thumb_scale import OFFSET_SPREAD

SAME = 1e-6  # what varies less does not vary
Matrix = NDArray[np.float64]

STYLE = "style.json"  # in a reward directory
SPREADS = (0.02, 0.05, 0.1, 0.2, 0.4)  # logits a standard deviation of a feature
_KNOTS = (3, 6, 12, 24, 48, 96, 192, 384)  # words
_BULLET = re.compile(r"\s*(?:[-*•]|\d+[.)])\s+\S")
_MARKS = ("!", "?", ",", "**", "#", '"', "`", ":")
NAMES = (
    *(f"about {knot} words" for knot in _KNOTS),
    "log words",
    "cut",
    "log lines",
    "log bullets",
    "bullets a line",
    *(f"log {mark}" for mark in _MARKS),
    "digits",
    "letters a word",
    "distinct words",
    "capitals",
)


def features(reply: str, finish: str | None) -> list[float]:
    """φ(y), as many numbers as `NAMES`; a reply of no words has them too.

    The length is there in steps of a factor of 2, each fading linearly in the logarithm, so that a liking
    for a middle length can be told.
    """
    words = reply.split()
    lines = [line for line in reply.splitlines() if line.strip()]
    bullets = sum(_BULLET.match(line) is not None for line in lines)
    size, letters = math.log(max(len(words), 1)), max(len(reply), 1)
    return [
        *(max(0.0, 1 - abs(size - math.log(knot)) / math.log(2)) for knot in _KNOTS),
        size,
        float(finish == "length"),
        math.log1p(len(lines)),
        math.log1p(bullets),
        bullets / max(len(lines), 1),
        *(math.log1p(reply.count(mark)) for mark in _MARKS),
        sum(letter.isdigit() for letter in reply) / letters,
        sum(map(len, words)) / max(len(words), 1),
        len({word.lower() for word in words}) / max(len(words), 1),
        sum(letter.isupper() for letter in reply) / letters,
    ]


def looks(decode: Callable[[list[int]], Any], reply: Sequence[int]) -> list[list[float]]:
    """φ of what stands before each of a reply's tokens, (t, features)."""
    return [features(str(decode(list(reply[:end]))), None) for end in range(len(reply))]


@dataclass(frozen=True)
class Scale:
    """Brings features to mean 0 and standard deviation 1 over the replies that a version was fitted to."""

    mean: list[float]
    std: list[float]

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> "Scale":
        """`rows`: features of replies. One that never varies stays 0."""
        data = np.asarray(rows, dtype=np.float64)
        std = data.std(0)
        return cls(data.mean(0).tolist(), np.where(std > SAME, std, 0.0).tolist())

    def __call__(self, rows: Sequence[Sequence[float]]) -> Matrix:
        """(n, features) in standard deviations, at most 4 of them either way."""
        data = np.asarray(rows, dtype=np.float64).reshape(len(rows), len(self.mean))
        std = np.asarray(self.std)
        scaled: Matrix = (data - np.asarray(self.mean)) / np.where(std > 0, std, np.inf)
        return np.clip(scaled, -4, 4)


@dataclass(frozen=True)
class Head:
    """w·φ(y) + v·h(x, y): what one member makes of how a reply looks, and of what frozen layers see in it.
    `states`: v, as many numbers as `Features.seen` has, or none."""

    scale: Scale
    weights: list[float]
    states: list[float] = field(default_factory=list)

    def __call__(self, rows: Sequence[Sequence[float]]) -> Matrix:
        """w·φ of replies that look so, (n,)."""
        rewards: Matrix = self.scale(rows) @ np.asarray(self.weights)
        return rewards


def mean_head(heads: Sequence[Head]) -> Head:
    """Of members with the same scale, as all members of a version have."""
    known = [head.states for head in heads if head.states]
    states = (np.sum(known, 0) / len(heads)).tolist() if known else []
    return Head(heads[0].scale, np.mean([head.weights for head in heads], 0).tolist(), states)


def write_heads(directory: Path, heads: Mapping[str, Head]) -> None:
    found = {name: asdict(head) for name, head in heads.items()}
    (directory / STYLE).write_text(json.dumps(found), encoding="utf-8")


def read_head(directory: Path, name: str) -> Head | None:
    """The head of one adapter; None in a version from before there were any."""
    path = directory / STYLE
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if name not in found:
        return None
    head = found[name]
    return Head(Scale(**head["scale"]), head["weights"], head.get("states", []))


@dataclass(frozen=True)
class Told:
    """Labels as numbers. `a`, `b`: (labels, features) of the first and of the second reply, zeros where there
    is none; `target`: P(first better), or of a thumb up; `weight` ≥ 0; `pair`: 1 for comparisons, 0 for
    thumbs; `lead`: by how much the first is better, m·(2p - 1) as in `objectives.bradley_terry`; `rater`: the
    thumbs' raters as numbers below `raters`, of comparisons any."""

    a: Matrix
    b: Matrix
    target: Matrix
    weight: Matrix
    pair: Matrix
    lead: Matrix
    rater: NDArray[np.int64]
    raters: int

    def only(self, rows: NDArray[np.bool_]) -> "Told":
        columns = ("a", "b", "target", "weight", "pair", "lead", "rater")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})

    def logits(self, fitted: "Fitted") -> Matrix:
        """w·(a - b) - lead of a comparison, w·a + c + u of its rater of a thumb, (labels,)."""
        given: Matrix = (self.a - self.b) @ fitted.weights - self.lead
        if not self.raters:
            return given + (1 - self.pair) * fitted.bias
        return given + (1 - self.pair) * (fitted.bias + fitted.offsets[self.rater])

    def loss(self, fitted: "Fitted") -> float:
        """Mean cross-entropy in nats: Σ weight·CE(target, s(logits)) / Σ weight, s the sigmoid."""
        logits = self.logits(fitted)
        loss = self.target * np.logaddexp(0, -logits) + (1 - self.target) * np.logaddexp(0, logits)
        return float(self.weight @ loss) / max(float(self.weight.sum()), 1e-9)


class Fitted(NamedTuple):
    """w, the thumbs' bias c, and each rater's offset u from it: lenient raters' thumbs up are no style's."""

    weights: Matrix
    bias: float
    offsets: Matrix


def fit(told: Told, spread: float) -> Fitted:
    """What minimises the mean loss + (|w|² / spread² + |u|² / OFFSET_SPREAD²) / (2·labels): Gaussian priors
    of these standard deviations, logits. Convex, so the answer does not depend on a start."""
    x, thumb, size = told.a - told.b, 1 - told.pair, told.a.shape[1]
    share = told.weight / max(float(told.weight.sum()), 1e-9)
    prior = np.repeat([spread**-2, 0, OFFSET_SPREAD**-2], [size, 1, told.raters]) / max(len(x), 1)

    def taken(w: Matrix) -> Fitted:
        return Fitted(w[:size], float(w[size]), w[size + 1 :])

    def objective(w: Matrix) -> tuple[float, Matrix]:
        error = share * (1 / (1 + np.exp(-told.logits(taken(w)))) - told.target)
        each = np.bincount(told.rater, thumb * error, told.raters)[: told.raters]
        slope = np.concatenate([x.T @ error, [thumb @ error], each]) + prior * w
        return told.loss(taken(w)) + float(prior @ w**2) / 2, slope

    start = np.zeros(len(prior))
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return taken(found.x)


@dataclass(frozen=True)
class States:
    """Brings mean states to a scale on which a spread means a reward's: each number to a standard deviation
    of 1 / √d over the replies that are fitted to, without their part along the mean of all, so that what is
    read out of them is 0 for a reply like most. Then turned to the k directions that these replies differ in:
    a fit with the same prior in each direction is the same, and of few replies much smaller.

    `std`, `usual`: (d,). `basis`: (d, k).
    """

    std: Matrix
    usual: Matrix
    basis: Matrix

    @classmethod
    def of(cls, rows: Matrix) -> "States":
        """`rows`: (replies, d)."""
        std = np.where(rows.std(0) > SAME, rows.std(0), np.inf)
        usual = rows.mean(0) / std
        usual /= max(float(np.linalg.norm(usual)), SAME)
        _, sizes, directions = np.linalg.svd(_apart(rows, std, usual), full_matrices=False)
        return cls(std, usual, directions[sizes > SAME * sizes.max(initial=0.0)].T)

    def __call__(self, rows: Matrix) -> Matrix:
        """(replies, k)"""
        turned: Matrix = _apart(rows, self.std, self.usual) @ self.basis
        return turned

    def read_out(self, weights: Matrix) -> Matrix:
        """v, (d,), for `weights`, (k,), of what was scaled: v·h = weights·self(h)."""
        found = self.basis @ weights
        read: Matrix = (found - (found @ self.usual) * self.usual) / self.std / np.sqrt(len(found))
        return read


def _apart(rows: Matrix, std: Matrix, usual: Matrix) -> Matrix:
    scaled = rows / std
    apart: Matrix = (scaled - np.outer(scaled @ usual, usual)) / np.sqrt(rows.shape[1])
    return apart


def best_spread(
    seen: Sequence[tuple[Told, Sequence[str]]],
    seed: int,
    spreads: Sequence[float] = SPREADS,
    count: int = 5,
) -> float:
    """The spread whose fits predict the labels best that they did not see, of all that is `seen`: labels, and
    the conversations that they are of; the smallest of equals.

    Unseen are whole conversations: what several raters say of one reply is not news. Where raters do not care
    how a reply looks, it is the smallest: whatever such few labels say of it then only stands in the way.
    """
    found = [
        unseen([(told, spread) for spread in spreads], conversations, seed, count)
        for told, conversations in seen
    ]
    losses = [loss for loss in found if loss is not None]
    return spreads[int(np.argmin(np.sum(losses, 0)))] if losses else spreads[0]


def credences(choices: Sequence[Told], conversations: Sequence[str], seed: int, count: int = 5) -> Matrix:
    """How much to believe each way of seeing the same labels, fitted with a spread of 1, by how likely it
    makes those that it did not see; they add up to 1 (pseudo-BMA: Yao et al. 2018, arXiv 1704.02030). The
    first alone where there are too few conversations to tell."""
    losses = unseen([(told, 1.0) for told in choices], conversations, seed, count)
    if losses is None:
        losses = np.where(np.arange(len(choices)) == 0, 0.0, np.inf)
    likely: Matrix = np.exp(losses.min() - losses)
    likely /= likely.sum()
    return likely


def unseen(
    choices: Sequence[tuple[Told, float]], conversations: Sequence[str], seed: int, count: int
) -> Matrix | None:
    """Of each way of seeing the same labels, fitted with its spread: Σ weight·loss of the labels that fits
    did not see, nats. None where there are too few conversations."""
    unit = units(conversations)
    if len(unit) < 2 * count or len(np.unique(unit)) < count:
        return None
    fold = folds(unit, count, seed)

    def loss(told: Told, spread: float) -> float:
        total = 0.0
        for left_out in range(count):
            seen, rest = told.only(fold != left_out), told.only(fold == left_out)
            total += rest.loss(fit(seen, spread)) * float(rest.weight.sum())
        return total

    return np.array([loss(told, spread) for told, spread in choices])
