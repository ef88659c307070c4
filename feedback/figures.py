"""The dashboard's figures, from what counters add up to. Pure: all of it is JSON, and bounded.

Shares stand with their 95 % intervals as [low, high]; both are None where there is nothing to share.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from feedback import layout
from feedback.filters import Filter
from feedback.intervals import wilson
from feedback.stats import Counters, Loudest, versions
from feedback.strengths import strengths
from feedback.tally import Choices, Counts, Heard, PairOf, Tally, age_of

MOST_COMPARED = 12  # versions of a matrix, and with strengths
MOST_ROWS = 30
KINDS = ("up", "down", "chosen", "tie", "both_bad")
Json = dict[str, Any]


def totals(found: Tally) -> Json:
    sums = Counts()
    for counts in found.policies.values():
        sums.completions += counts.completions
        sums.rated += counts.rated
        sums.up += counts.up
        sums.down += counts.down
    chosen = _sum(found.cells)
    return {
        "completions": sums.completions,
        "rated": sums.rated,
        "labels": found.labels,
        "up": sums.up,
        "down": sums.down,
        "approval": sums.approval,
        "approval_interval": wilson(sums.up, sums.thumbs),
        "response_rate": sums.response_rate,
        "response_interval": wilson(sums.rated, sums.completions),
        "comparisons": chosen.total,
        "ties": chosen.tie,
        "both_bad": chosen.both_bad,
        "tie_share": _share(chosen.tie, chosen.total),
        "tie_interval": wilson(chosen.tie, chosen.total),
        "both_bad_share": _share(chosen.both_bad, chosen.total),
        "both_bad_interval": wilson(chosen.both_bad, chosen.total),
    }


def policies(found: Tally) -> list[Json]:
    """By version of ours, oldest first; of very many, the newest."""
    rows = list(versions(found).items())[-MOST_ROWS:]
    return [
        {
            "policy": policy,
            **counts.as_dict(),
            "approval_interval": wilson(counts.up, counts.thumbs),
            "response_interval": wilson(counts.rated, counts.completions),
        }
        for policy, counts in rows
    ]


def volume(counters: Counters, only: Filter) -> list[Json]:
    """Of each hour or day: what was said in it, and the replies given."""
    return [{"start": start, **found.drawn(only)} for start, found in counters.items()]


def matrix(found: Tally) -> Json:
    """`cells`: what one version, `policy`, came to against another, `against`; each two stand twice."""
    names = _compared(found)
    sums: dict[PairOf, Choices] = defaultdict(Choices)
    for (a, b), choices in found.cells.items():
        if a != b and a in names and b in names:
            sums[a, b].add(choices)
            sums[b, a].add(choices.turned)
    cells = [_cell(policy, against, choices) for (policy, against), choices in sums.items()]
    return {"versions": names, "cells": cells}


def _cell(policy: str, against: str, choices: Choices) -> Json:
    won = choices.a + choices.tie / 2  # a tie is half a win, as it is for the strengths
    games = choices.a + choices.b + choices.tie
    return {
        "policy": policy,
        "against": against,
        "wins": choices.a,
        "losses": choices.b,
        "ties": choices.tie,
        "both_bad": choices.both_bad,
        "win_rate": _share(won, games),
        "win_interval": wilson(won, games),
    }


def ranking(found: Tally) -> list[Json]:
    names = _compared(found)
    cells = {(a, b): choices for (a, b), choices in found.cells.items() if a in names and b in names}
    return [asdict(strength) for strength in strengths(cells)]


def sides(found: Tally) -> Json:
    """How often the left one, side a, was chosen of blind pairs that were decided: half, if people read."""
    chosen = _sum(found.blind)
    decided = chosen.a + chosen.b
    return {
        "left": chosen.a,
        "right": chosen.b,
        "left_share": _share(chosen.a, decided),
        "left_interval": wilson(chosen.a, decided),
    }


def reasons(found: Tally) -> list[Json]:
    """By how often a reason was given, with how often it went with what."""
    words = {reason for counts in found.reasons.values() for reason in counts}
    rows = [
        {"reason": word, **{kind: found.reasons[kind][word] for kind in KINDS if kind in found.reasons}}
        for word in words
    ]
    for row in rows:
        row["total"] = sum(value for value in row.values() if isinstance(value, int))
    return sorted(rows, key=lambda row: (-row["total"], row["reason"]))


def raters(loudest: Loudest) -> Json:
    return {
        "share": loudest.share,
        "labels": loudest.labels,
        "loudest": [
            {"rater": rater, "labels": labels, "share": _share(labels, loudest.labels)}
            for rater, labels in loudest.raters
        ],
    }


def _compared(found: Tally) -> list[str]:
    """The newest versions that were compared with another one, oldest first."""
    names = {name for a, b in found.cells if a != b for name in (a, b)} - {layout.IMPORTED}
    return sorted(names, key=age_of)[-MOST_COMPARED:]


def _sum(cells: Mapping[PairOf, Choices]) -> Choices:
    found = Choices()
    for choices in cells.values():
        found.add(choices)
    return found


def _share(count: float, of: float) -> float | None:
    return count / of if of else None


def sources(everything: Heard) -> dict[str, int]:
    """Labels by where their replies come from."""
    return {"human": everything.human, "import": everything.imported}
