"""How much each label counts, so that neither a rater nor a burst of copies rules what is learnt. Pure; no
torch, no I/O.

1. One vote: of one rater's labels on the same reply, or the same two, the newest (`one_vote`); and what a
   rater says of one reply by a thumb, its correction and a choice shares it (`vote_shares`).
2. A burst counts once: one rater's same verdict on nearly the same replies within an hour weighs as much as
   one label in all (`burst_shares`). The same from several raters is agreement, not a burst.
3. The kinds are balanced: many thumbs do not drown few comparisons (`balanced`), nor do AI's comparisons,
   which come later, drown the thumbs (`beside_ai`).
4. No rater carries more than a share of the whole (`capped`). It comes last, so that it holds for what is
   learnt from.

So where raters are few, 5 % of them that cast 30 % of the votes come to about the 5 % that they are. A cap
on a share binds less where raters are many: of a thousand, fifty that conspire stay below 2 % each. Lower it
there.
"""

import random
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from feedback.types import content_hash
from workers.labels import Label

WINDOW = 3600.0  # seconds within which copies are one burst
ALIKE = 0.9  # Jaccard similarity from which two replies are nearly the same
SHINGLE = 3  # words
SHORT = 8  # words up to which a reply says little by itself: "Yes." is no copy of "Yes." to another question
LEVERAGE = 8.0  # a label of the rarer kind counts at most so many times one of the other
RISE = 4.0  # times that a label may come to weigh what it did, where raters are too few for the cap
LOUD = 0.9  # up to this quantile of the raters' totals: what a tenth of them say is not what a few shout
_SKETCH = 16  # min-hashes; two texts of similarity 0.9 share none of them once in 10^16
_rng = np.random.default_rng(0)
_FACTORS = _rng.integers(1, 2**31, size=_SKETCH, dtype=np.uint64) * 2 + 1
_OFFSETS = _rng.integers(0, 2**32, size=_SKETCH, dtype=np.uint64)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WeightReport:
    """What weighing did. Shares are of the total weight; `cap` is the one that held."""

    repeated: int = 0
    in_bursts: int = 0
    capped: int = 0
    capped_raters: int = 0
    cap: float = 1.0
    largest_share_before: float = 0.0
    largest_share: float = 0.0

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def weigh(labels: Sequence[Label], rater_cap: float, pair_share: float) -> tuple[list[Label], WeightReport]:
    """The labels that count, with their weights, which are 1 on average.

    `rater_cap`: the largest share of a rater. `pair_share`: that of comparisons, where there are thumbs too.
    """
    kept = one_vote(labels)
    if not kept:
        return [], WeightReport(repeated=len(labels))
    raters = [label.rater for label in kept]
    plain = np.array([label.weight for label in kept])
    bursts = burst_shares(kept)
    shares = bursts * vote_shares(kept)
    even = balanced(plain * shares, [label.kind == "comparison" for label in kept], pair_share)
    final, level = capped(even, raters, rater_cap)
    lowered = final < even * (1 - 1e-9)
    final *= len(final) / final.sum()
    weighed = [replace(label, weight=float(weight)) for label, weight in zip(kept, final, strict=True)]
    report = WeightReport(
        repeated=len(labels) - len(kept),
        in_bursts=int((bursts < 1).sum()),
        capped=int(lowered.sum()),
        capped_raters=len({rater for rater, low in zip(raters, lowered, strict=True) if low}),
        cap=level,
        largest_share_before=_largest_share(kept),
        largest_share=_largest_share(weighed),
    )
    return weighed, report


def weigh_each(
    parts: Iterable[Sequence[Label]], rater_cap: float, pair_share: float
) -> tuple[list[Label], WeightReport]:
    """Parts that are learnt from apart, each weighed by itself, so that a cap on the whole does not hide a
    rater who rules one of them. The report: shares of the whole; raters and cap of the part that has most."""
    given = [part for part in parts if part]
    weighed = [weigh(part, rater_cap, pair_share) for part in given]
    reports = [report for _, report in weighed]
    labels = [label for part, _ in weighed for label in part]
    if not labels:
        return [], WeightReport()
    return labels, WeightReport(
        repeated=sum(report.repeated for report in reports),
        in_bursts=sum(report.in_bursts for report in reports),
        capped=sum(report.capped for report in reports),
        capped_raters=max(report.capped_raters for report in reports),
        cap=max(report.cap for report in reports),
        largest_share_before=_largest_share([label for part in given for label in part]),
        largest_share=_largest_share(labels),
    )


def drawn(labels: Sequence[Label], count: int, seed: int) -> list[Label]:
    """At most `count` of `labels`, at random, in the order in which they came: every rater's first before
    anybody's second, so that a loud rater does not crowd the others out."""
    said: dict[str, int] = {}
    rounds = []
    for number in random.Random(seed).sample(range(len(labels)), len(labels)):
        said[labels[number].rater] = said.get(labels[number].rater, 0) + 1
        rounds.append((said[labels[number].rater], number))
    rounds.sort(key=lambda drawn: drawn[0])
    return [labels[number] for number in sorted(number for _, number in rounds[:count])]


def one_vote(labels: Sequence[Label]) -> list[Label]:
    """Of the labels of one rater on the same reply, or the same two replies in any order, the newest; in the
    order in which they came."""
    newest: dict[tuple[str, str, frozenset[str | None]], int] = {}
    for number, label in enumerate(labels):
        key = (label.rater, content_hash(label.messages), frozenset((label.a, label.b)))
        before = newest.get(key)
        if before is None or label.time > labels[before].time:
            newest[key] = number
    return [labels[number] for number in sorted(newest.values())]


def vote_shares(labels: Sequence[Label]) -> Floats:
    """(labels,): 1/n for a label one of whose replies n of its rater's labels speak of."""
    said = [
        [(label.rater, content_hash(label.messages), reply) for reply in {label.a, label.b} - {None}]
        for label in labels
    ]
    often = Counter(key for keys in said for key in keys)
    return np.array([1.0 / max(often[key] for key in keys) for keys in said])


def burst_shares(labels: Sequence[Label]) -> Floats:
    """(labels,): 1 for a label of its own, 1/n for one of a burst of n.

    A label joins a burst of its rater that began with the same verdict on nearly the same words, at most
    `WINDOW` seconds ago. Candidates are found by min-hashes (Broder 1997), so that a rater's thousandth label
    costs what the first does.
    """
    said = [_said(label) for label in labels]
    heads: dict[tuple[str, int, int], int] = {}  # (rater, which min-hash, its value) → a burst's first label
    burst = np.arange(len(labels))
    for number in sorted(range(len(labels)), key=lambda number: labels[number].time):
        label, words = labels[number], said[number]
        keys = [(label.rater, place, value) for place, value in enumerate(_sketch(words))]
        for head in sorted({heads[key] for key in keys if key in heads}):
            recent = label.time - labels[head].time <= WINDOW
            if recent and label.kind == labels[head].kind and similarity(words, said[head]) >= ALIKE:
                burst[number] = head
                break
        else:
            heads.update(dict.fromkeys(keys, number))
    sizes = np.bincount(burst, minlength=len(labels))
    shares: Floats = 1.0 / sizes[burst]
    return shares


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard's: how much of what either has, both have."""
    return len(one & other) / len(one | other)


def balanced(weights: Floats, comparison: Sequence[bool], share: float) -> Floats:
    """Weights whose comparisons come to a `share` of the whole, or as near as `LEVERAGE` allows;
    the whole stays what it was. Where there is only one kind, nothing changes.

    Fifty comparisons among a thousand thumbs would be a twentieth of the loss. Half of it is more than they
    can bear: each would count twenty times, and its rater's slip with it.
    """
    pair = np.asarray(comparison, dtype=bool)
    pairs, thumbs = float(weights[pair].sum()), float(weights[~pair].sum())
    if pairs <= 0 or thumbs <= 0:
        return weights.copy()
    odds = share / (1 - share) * thumbs / pairs
    odds = min(max(odds, 1 / LEVERAGE), LEVERAGE)
    factor = (pairs + thumbs) / (odds * pairs + thumbs)
    scaled: Floats = np.where(pair, odds * factor, factor) * weights
    return scaled


def beside_ai(labels: Sequence[Label]) -> list[Label]:
    """Labels of people, balanced, with those by AI among them: thumbs count more by as much as AI's
    comparisons add to people's, at most `LEVERAGE` times, so that the balance of the kinds is what it was and
    an AI's comparison goes on weighing less than a person's. Where people compared nothing, nothing changes.
    """
    pairs = [label for label in labels if label.kind == "comparison"]
    people = sum(label.weight for label in pairs if label.source != "ai")
    if people <= 0:
        return list(labels)
    factor = min(sum(label.weight for label in pairs) / people, LEVERAGE)
    return [
        replace(label, weight=factor * label.weight) if label.kind == "thumb" else label for label in labels
    ]


def capped(weights: Floats, raters: Sequence[str], cap: float) -> tuple[Floats, float]:
    """Weights of which no rater has more than the share `cap`, and the share that held.

    The loud raters are levelled, the others keep what they have: the level τ solves τ = cap · Σ min(t, τ)
    over the raters' totals t, so the share is one of what is left, not of what was there before (water
    filling). With fewer raters than 1/cap there is no such level. Then τ is the median rater's total: nobody
    carries more than the one in the middle, and a rater of one label among busy ones is not made as loud as
    they are, as equal shares would. But where most raters say little, nearly all that the busy ones said
    would be thrown away, and a passer-by's label weigh as much as dozens of theirs. So τ rises until no label
    weighs more than `RISE` times what it did, though not above what a tenth of the raters reach: a few that
    shout do not lift it.
    """
    totals: dict[str, float] = {}
    for rater, weight in zip(raters, weights.tolist(), strict=True):
        totals[rater] = totals.get(rater, 0.0) + weight
    level = _level(np.sort(np.array(list(totals.values()))), cap)
    factors = {rater: min(1.0, level / total) if total > 0 else 1.0 for rater, total in totals.items()}
    lowered = weights * np.array([factors[rater] for rater in raters])
    return lowered, min(1.0, level / float(lowered.sum())) if lowered.sum() > 0 else 1.0


def rater_shares(weights: Floats, raters: Sequence[str]) -> Mapping[str, float]:
    """Each rater's share of the total."""
    totals: dict[str, float] = {}
    for rater, weight in zip(raters, (weights / weights.sum()).tolist(), strict=True):
        totals[rater] = totals.get(rater, 0.0) + weight
    return totals


def _largest_share(labels: Sequence[Label]) -> float:
    weights = np.array([label.weight for label in labels])
    return max(rater_shares(weights, [label.rater for label in labels]).values())


def _level(totals: Floats, cap: float) -> float:
    """τ for ascending totals. With the k loudest at τ: τ = cap · (sum of the rest + k·τ)."""
    n = len(totals)
    rest = np.concatenate([[0.0], np.cumsum(totals)])
    if n * cap < 1:
        reached = rest[:-1] + np.arange(n, 0, -1) * totals  # Σ min(t, τ), were τ each total in turn
        wanted = rest[-1] / RISE
        below = int(np.searchsorted(reached, wanted * (1 - 1e-12)))
        risen = float(wanted - rest[below]) / (n - below)
        return max(float(np.median(totals)), min(risen, float(np.quantile(totals, LOUD, method="lower"))))
    for loud in range(n):
        if loud * cap >= 1:
            break
        level = float(cap * rest[n - loud] / (1 - loud * cap))
        if totals[n - loud - 1] <= level * (1 + 1e-12):
            return max(level, float(totals[n - loud - 1]))
    return float(totals[0])


def _said(label: Label) -> frozenset[str]:
    """What a label says, as a set: the words of each reply in threes, with its verdict on them."""
    found: set[str] = set()
    verdicts = {1.0: "+-", 0.0: "-+"}.get(label.target, "==")
    for reply, verdict in zip((label.a, label.b), verdicts, strict=True):
        if reply is not None:
            words = _words(reply)
            found.update(f"{verdict}{shingle}" for shingle in _shingles(words))
            if len(words) <= SHORT:
                asked = str(label.messages[-1].get("content", "")) if label.messages else ""
                found.update(f"?{shingle}" for shingle in _shingles(_words(asked)))
    return frozenset(found)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _shingles(words: Sequence[str]) -> list[str]:
    """Runs of three words; a text of fewer is one run. An empty one is too."""
    return [" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))]


def _sketch(shingles: frozenset[str]) -> list[int]:
    """The least value of each of some hashes over the set: two sets share one as often as they are alike."""
    hashes = np.array([zlib.crc32(shingle.encode()) for shingle in shingles], dtype=np.uint64)
    values: NDArray[np.uint64] = (hashes[:, None] * _FACTORS + _OFFSETS) & np.uint64(0xFFFFFFFF)
    return [int(value) for value in values.min(0)]
