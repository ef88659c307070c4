"""From replies and their rewards to the gate's evidence, and to the figures of metrics.json. No torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers import replies
from workers.evidence import STRICT, Evidence, Habits, LengthTaste, Passed, Quality, Sides, WinRate
from workers.labels import Label, Sample, by_prompt
from workers.statistics import (
    Interval,
    bootstrap_interval,
    length_matched_wins,
    length_slope,
    share_interval,
    wilson_interval,
    win_probabilities,
    without_length,
)

TOLERANCES = (0.25, 0.35)  # by how much of the longer two lengths may differ: the first with enough prompts


@dataclass(frozen=True)
class Side:
    """One policy's replies with their rewards: `members` (replies, members), `judge` (replies,)."""

    samples: Sequence[Sample]
    members: NDArray[np.float64]
    judge: NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What does not come from comparing replies: nats a token, and what the probes showed."""

    kl_base: float
    kl_champion: float
    nll: Sides
    probes: Mapping[str, Passed]
    base: Habits | None = None


@dataclass(frozen=True)
class Ruler:
    """How intervals are made. `min_prompts`: those with pairs of like length that are enough; where fewer
    were answered, all of them."""

    confidence: float
    min_prompts: int
    seed: int = 0

    def win_rate(self, wins: Sequence[float]) -> WinRate:
        """From the share of wins on each prompt; half, with no end to its interval, where there is none."""
        return WinRate(
            value=float(np.mean(wins)) if wins else 0.5,
            interval=share_interval(wins, self.confidence, self.seed),
            strict=share_interval(wins, STRICT, self.seed),
            prompts=len(wins),
        )


def weigh(
    candidate: Side,
    champion: Side,
    measured: Measured,
    quality: Quality,
    taste: LengthTaste | None,
    ruler: Ruler,
) -> tuple[Evidence, dict[str, Any]]:
    """The gate's evidence, and the figures for metrics.json."""
    wins = _wins(candidate, champion, lambda side: side.judge)
    members = _wins(candidate, champion, lambda side: side.members.mean(1))
    each = [
        ruler.win_rate(_wins(candidate, champion, partial(_member, one)))
        for one in range(candidate.members.shape[1])
    ]
    raw, (matched, tolerance, pairs) = ruler.win_rate(wins), _matched(candidate, champion, ruler)
    spread, spread_rise = _disagreement(candidate, champion, ruler)
    evidence = Evidence(
        raw=raw,
        matched=matched,
        length_taste=taste,
        members=ruler.win_rate(members),
        doubter=min(each, key=lambda rate: rate.value),
        gap=bootstrap_interval(np.subtract(members, wins).tolist(), ruler.confidence, ruler.seed),
        quality=quality,
        kl_base=measured.kl_base,
        kl_champion=measured.kl_champion,
        nll=measured.nll,
        probes=measured.probes,
        words=_sides(replies.mean_words, candidate, champion),
        empty=_sides(replies.empty, candidate, champion),
        identical=_sides(replies.identical, candidate, champion),
        trigrams=_sides(replies.repeated_trigrams, candidate, champion),
        cut=_sides(replies.cut, candidate, champion),
        openings=_sides(replies.openings, candidate, champion),
        endings=_sides(replies.endings, candidate, champion),
        disagreement=spread,
        disagreement_rise=spread_rise,
        base=measured.base,
    )
    return evidence, figures(evidence, tolerance, pairs) | {
        "rewards": {
            "members": _gain(candidate.members.mean(1), champion.members.mean(1)),
            "judge": _gain(candidate.judge, champion.judge),
        }
    }


def figures(evidence: Evidence, tolerance: float, pairs: int) -> dict[str, Any]:
    """metrics.json's account of the evidence; `win_rate` and its interval are those over all pairs."""
    matched, taste = evidence.matched, evidence.length_taste
    return {
        "win_rate": evidence.raw.value,
        "win_rate_interval": list(evidence.raw.interval),
        "n": evidence.raw.prompts,
        "length_matched_win_rate": None if matched is None else matched.value,
        "length_matched_interval": None if matched is None else list(matched.interval),
        "length_matched_prompts": 0 if matched is None else matched.prompts,
        "length_matched_pairs": pairs,
        "length_tolerance": tolerance,
        "people_prefer_longer": None if taste is None else asdict(taste),
        "members_win_rate": evidence.members.value,
        "members_win_rate_interval": list(evidence.members.interval),
        "members_less_judge_interval": list(evidence.gap),
        "doubter_win_rate": evidence.doubter.value,
        "doubter_win_rate_interval": list(evidence.doubter.interval),
        "judge_quality": asdict(evidence.quality),
        "kl_base": evidence.kl_base,
        "kl_champion": evidence.kl_champion,
        "reference_nll": {"candidate": evidence.nll.candidate, "base": evidence.nll.other},
        "reference_nll_rise": evidence.nll.ratio - 1,
        "probes": {
            kind: _both(found.rate) | {"z": found.z, "replies": found.replies}
            for kind, found in evidence.probes.items()
        },
        **{
            name: _both(getattr(evidence, name))
            for name in ("words", "empty", "identical", "trigrams", "cut", "openings", "endings")
        },
        "against_base": None if evidence.base is None else asdict(evidence.base),
        "disagreement": _both(evidence.disagreement) | {"rise_interval": list(evidence.disagreement_rise)},
    }


def judge_quality(judge: Mapping[str, Any], labels: Sequence[Label] = ()) -> Quality:
    """How often a judge was right on the holdout, by its figures there: pairs that it ordered as people did,
    and thumbs by their AUROC, as one share of all these labels.

    An AUROC compares thumbs up with thumbs down, so of one kind no more can tell than there are of the other:
    2 · min(up, down) thumbs count. They do not say how many those were; the thumbs among `labels`
    do, roughly.
    """
    thumbs = round((judge.get("thumbs") or 0) * _balance(labels))
    parts = [(judge.get("pair_accuracy"), judge.get("pairs") or 0), (judge.get("thumb_auroc"), thumbs)]
    known = [(share, count) for share, count in parts if share is not None]
    total = sum(count for _, count in known)
    right = sum(share * count for share, count in known)
    return Quality(right / total if total else None, wilson_interval(right, total), total)


def _balance(labels: Sequence[Label]) -> float:
    """2 · min(up, down) as a share of the thumbs, in [0, 1]; 1 where there are none."""
    ups = [label.target > 0.5 for label in labels if label.kind == "thumb" and label.target != 0.5]
    return 2 * min(sum(ups), len(ups) - sum(ups)) / len(ups) if ups else 1.0


def length_taste(labels: Sequence[Label], ruler: Ruler) -> LengthTaste | None:
    """Whether people like the longer reply better: of comparisons the share in which they did, of thumbs the
    AUROC of the length. Ties and what a model judged do not count. None where fewer than two conversations
    say something.
    """
    said = [label for label in labels if label.target != 0.5 and label.source != "ai" and label.weight > 0]
    votes: dict[str, list[tuple[float, float]]] = {}
    for label, vote in _length_votes(said):
        votes.setdefault(label.conversation, []).append((vote, label.weight))
    if len(votes) < 2:
        return None
    weights = [sum(weight for _, weight in group) for group in votes.values()]
    values = [
        sum(vote * weight for vote, weight in group) / whole
        for group, whole in zip(votes.values(), weights, strict=True)
    ]
    interval = share_interval(values, ruler.confidence, ruler.seed, weights)
    longer = float(np.average(values, weights=weights))
    return LengthTaste(longer, interval, sum(map(len, votes.values())))


def _length_votes(labels: Sequence[Label]) -> list[tuple[Label, float]]:
    """Labels with 1 where the longer reply was liked better, 0 where the shorter one was; of thumbs what
    stands for it, see `_thumb_votes`. Thumbs up and down weigh alike."""
    found = []
    for label in labels:
        if label.kind == "comparison" and (longer := _words(label.a) - _words(label.b or "")):
            found.append((label, float((longer > 0) == (label.target > 0.5))))
    thumbs = [label for label in labels if label.kind == "thumb"]
    if not thumbs or not _balance(thumbs):
        return found
    ups = sum(label.target > 0.5 for label in thumbs)
    alike = {True: len(thumbs) / (2 * ups), False: len(thumbs) / (2 * (len(thumbs) - ups))}
    even = [replace(label, weight=label.weight * alike[label.target > 0.5]) for label in thumbs]
    return found + list(zip(even, _thumb_votes(thumbs), strict=True))


def _thumb_votes(thumbs: Sequence[Label]) -> list[float]:
    """A number for each thumb: their mean is the AUROC of the length, and they differ as much as makes that
    mean as unsure as the AUROC is.

    A thumb's placement is the share of the opposite ones that it is longer than, if it is up, or shorter
    than, if it is down; of like length counts half. The AUROC differs from its expectation by the mean of the
    ups' placements' differences and that of the downs', both in full (DeLong, DeLong and Clarke-Pearson
    1988, Biometrics 44), where a mean over all thumbs has half of each: so a placement's distance from the
    AUROC counts twice. By sorting, since a snapshot may hold thousands.
    """
    lengths = np.array([_words(label.a) for label in thumbs])
    ups = np.array([label.target > 0.5 for label in thumbs], dtype=bool)
    votes = np.zeros(len(thumbs))
    for mine in (ups, ~ups):
        others = np.sort(lengths[~mine])
        below = np.searchsorted(others, lengths[mine], "left")
        longer = (below + np.searchsorted(others, lengths[mine], "right")) / 2 / max(len(others), 1)
        votes[mine] = longer if mine is ups else 1 - longer
    auroc = float(votes[ups].mean()) if ups.any() else 0.0
    return [auroc + 2 * (float(vote) - auroc) for vote in votes]


def _member(one: int, side: Side) -> NDArray[np.float64]:
    return side.members[:, one]


def _wins(candidate: Side, champion: Side, rewards: Callable[[Side], NDArray[np.float64]]) -> list[float]:
    mine, theirs = (by_prompt(side.samples, rewards(side).tolist()) for side in (candidate, champion))
    return win_probabilities(mine, theirs)


def _matched(candidate: Side, champion: Side, ruler: Ruler) -> tuple[WinRate | None, float, int]:
    """The win rate over pairs of like length, the tolerance that it took, and the number of pairs.

    Pairs may differ by the tolerance, and all the same way where replies have become a little longer: then a
    judge that pays for length would find each better. So what length is worth to it, by replies of one side
    to one prompt, is taken off as well, and the lower of the two rates is it (as length-controlled AlpacaEval
    does by regression: Dubois et al. 2024, arXiv 2404.04475).
    """
    mine, theirs = (
        by_prompt(
            side.samples,
            [
                (reward, _words(sample.reply))
                for sample, reward in zip(side.samples, side.judge.tolist(), strict=True)
            ],
        )
        for side in (candidate, champion)
    )
    enough = min(ruler.min_prompts, len(mine.keys() & theirs.keys()))
    for tolerance in TOLERANCES:
        wins = length_matched_wins(mine, theirs, tolerance)
        if len(wins) >= enough:
            break
    if not wins:
        return None, tolerance, 0
    slope = length_slope([mine, theirs])
    cleared = length_matched_wins(without_length(mine, slope), without_length(theirs, slope), tolerance)
    rates = [ruler.win_rate([float(np.mean(group)) for group in found]) for found in (wins, cleared)]
    return min(rates, key=lambda rate: rate.value), tolerance, sum(map(len, wins))


def _disagreement(candidate: Side, champion: Side, ruler: Ruler) -> tuple[Sides, Interval]:
    """Mean standard deviation over members, and the interval over prompts of its rise as a share of the
    champion's."""
    mine, theirs = (
        {prompt: float(np.mean(stds)) for prompt, stds in grouped.items()}
        for grouped in (
            by_prompt(side.samples, side.members.std(1).tolist()) for side in (candidate, champion)
        )
    )
    both = Sides(float(np.mean(list(mine.values()))), float(np.mean(list(theirs.values()))))
    if not both.other:
        return both, (0.0, 0.0)
    rises = [(mine[prompt] - theirs[prompt]) / both.other for prompt in mine if prompt in theirs]
    return both, bootstrap_interval(rises, ruler.confidence, ruler.seed)


def _gain(mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, float | None]:
    """Means, and the candidate's gain in standard deviations of the champion's replies: rewards of different
    reward versions have no common scale, these nearly have."""
    std = float(theirs.std())
    gain = float(mine.mean() - theirs.mean())
    return {
        "candidate": float(mine.mean()),
        "champion": float(theirs.mean()),
        "std": std,
        "gain": gain / std if std else None,
    }


def _sides(measure: Callable[[Sequence[Sample]], float], candidate: Side, champion: Side) -> Sides:
    return Sides(measure(candidate.samples), measure(champion.samples))


def _both(sides: Sides) -> dict[str, float]:
    return {"candidate": sides.candidate, "champion": sides.other}


def _words(text: str) -> int:
    return len(text.split())
