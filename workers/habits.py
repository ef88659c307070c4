"""How a policy writes, and which probes it passes: the base's is handed down from version to version, so that
what each gives away to its champion does not add up unseen. No torch.

The base is asked once, when it is the champion. What it showed then stands in the `base` of the metrics of
every version that came of it, where the next evaluation finds it at no cost.
"""

from collections.abc import Sequence

from workers import replies
from workers.evidence import Habits, Passed, Sides
from workers.labels import Sample
from workers.probes import Answer, Probe
from workers.stage import StageConfig
from workers.statistics import mantel_haenszel


class Record(StageConfig):
    """One policy's figures, see Evidence. `max_tokens`: of the replies, at most. `probes`: the passes and
    replies of each, by its prompt."""

    max_tokens: int
    words: float
    empty: float
    identical: float
    trigrams: float
    cut: float
    probes: dict[str, tuple[int, int]]


def record(
    samples: Sequence[Sample], probes: Sequence[Probe], answers: Sequence[Answer], max_tokens: int
) -> Record:
    counts = {probe.prompt: (0, 0) for probe in probes}
    for number, reply in answers:
        probe = probes[number]
        passes, asked = counts[probe.prompt]
        counts[probe.prompt] = (passes + probe.passed(reply), asked + 1)
    return Record(
        max_tokens=max_tokens,
        words=replies.mean_words(samples),
        empty=replies.empty(samples),
        identical=replies.identical(samples),
        trigrams=replies.repeated_trigrams(samples),
        cut=replies.cut(samples),
        probes=counts,
    )


def rebased(base: Record, champion: Record) -> Record:
    """What stands for the base, and is handed down, where replies may be of another length now than when it
    was asked: how the champion writes at this one, and the probes that the base passed, which have a length
    of their own."""
    return champion.model_copy(update={"probes": base.probes})


def beside(own: Record, base: Record | None, probes: Sequence[Probe]) -> Habits | None:
    """None without a record of the base, or where its replies were given another number of tokens: with more,
    fewer are cut."""
    if base is None or own.max_tokens != base.max_tokens:
        return None
    kinds = dict.fromkeys(probe.kind for probe in probes)
    return Habits(
        probes={
            kind: _passed([probe.prompt for probe in probes if probe.kind == kind], own, base)
            for kind in kinds
        },
        words=Sides(own.words, base.words),
        empty=Sides(own.empty, base.empty),
        identical=Sides(own.identical, base.identical),
        trigrams=Sides(own.trigrams, base.trigrams),
        cut=Sides(own.cut, base.cut),
    )


def _passed(prompts: Sequence[str], own: Record, base: Record) -> Passed:
    """Over the probes that both were asked."""
    strata = [(*own.probes[prompt], *base.probes[prompt]) for prompt in prompts if prompt in base.probes]
    passes, asked, passes_before, asked_before = (sum(row[part] for row in strata) for part in range(4))
    rate = Sides(passes / max(asked, 1), passes_before / max(asked_before, 1))
    return Passed(rate, mantel_haenszel(strata), asked)
