"""The terms of the reward that the optimiser sees, and their weighted sum. Pure; no torch, no I/O.

    reward = w_model · model + w_length · length + w_repetition · repetition + w_rules · rules

All terms are in the unit of the reward model, so a weight means the same whatever that unit is: `repetition`
and `rules` lie in [-1, 0] and [-1, 1] and are multiplied by the unit, the standard deviation of the reward
model's scores among the replies to one prompt. That spread, and not the one between prompts, is what every
method learns from: they all compare replies to the same prompt. So a weight of 1 takes one such standard
deviation from a reply that only repeats itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.labels import Sample

Floats = NDArray[np.float64]

MODEL, LENGTH, REPETITION, RULES = "model", "length", "repetition", "rules"
LOOP_TIMES, LOOP_TOKENS = 3, 12  # a block in a row that often, over so many tokens, is a loop


@dataclass(frozen=True)
class Weights:
    """What each term counts for. 0: it is computed and shown, but does not count."""

    length: float = 0.0
    repetition: float = 0.0
    rules: float = 0.0
    model: float = 1.0

    def of(self, term: str) -> float:
        return {MODEL: self.model, LENGTH: self.length, REPETITION: self.repetition, RULES: self.rules}[term]


def reward_terms(
    samples: Sequence[Sample], model: Sequence[float], rules: Sequence[float]
) -> dict[str, Floats]:
    """Each term of each sample, (n,), unweighted. `model`: the reward model's scores; `rules`: wins less
    losses under the rules, in [-1, 1]."""
    scores: Floats = np.asarray(model, dtype=np.float64)
    prompts = [sample.prompt_id for sample in samples]
    unit = spread(scores, prompts)
    repeated = np.asarray([repetition(words_of(sample), sample.finish_reason) for sample in samples])
    return {
        MODEL: scores,
        LENGTH: length_control(scores, [len(sample.token_ids) for sample in samples], prompts),
        REPETITION: -unit * repeated,
        RULES: unit * np.asarray(rules, dtype=np.float64),
    }


def weighted_sum(terms: dict[str, Floats], weights: Weights) -> Floats:
    """The reward of each sample, (n,)."""
    total: Floats = np.sum([weights.of(name) * values for name, values in terms.items()], axis=0)
    return total


def describe(samples: Sequence[Sample], terms: dict[str, Floats], weights: Weights) -> dict[str, Any]:
    """Figures for metrics.json. `unit`: the spread that terms are multiplied by; the correlations are
    Pearson's r with log length among replies to one prompt, of the reward and of the reward model alone."""
    prompts = [sample.prompt_id for sample in samples]
    log_length = np.log([max(len(sample.token_ids), 1) for sample in samples])
    looping = [sample.finish_reason == "length" and loops(words_of(sample)) for sample in samples]
    return {
        "terms": {
            name: {"weight": weights.of(name), "mean": float(values.mean()), "std": float(values.std())}
            for name, values in terms.items()
        },
        "unit": spread(terms[MODEL], prompts),
        "length_correlation": correlation(weighted_sum(terms, weights), log_length, prompts),
        "model_length_correlation": correlation(terms[MODEL], log_length, prompts),
        "cut": float(np.mean([sample.finish_reason == "length" for sample in samples])),
        "looping": float(np.mean(looping)),
    }


def length_control(scores: Floats, lengths: Sequence[int], prompts: Sequence[int]) -> Floats:
    """Less what length alone explains of the scores: -b · (log length - its mean over the prompt), (n,).

    b is the least-squares slope of score on log length within prompts, over the batch: the linear case of
    post-hoc reward calibration (Huang et al. 2024, arXiv 2409.17407). With weight 1 the score and log length
    are no longer correlated within prompts; with a weight between, part of the slope stays.

    It cannot tell a reward model that is fond of length from people who are: where they want short replies,
    or long ones, it takes away just what was to be learnt. So its weight is 0 unless an operator sets it,
    and metrics.json shows the correlation by which to decide. The straight line leaves a liking for a middle
    length alone.
    """
    log_length = _centred(np.log(np.maximum(lengths, 1)), prompts)
    variance = float(log_length @ log_length)
    slope = float(log_length @ _centred(scores, prompts)) / variance if variance > 0 else 0.0
    return -slope * log_length


def repetition(words: Sequence[int], finish_reason: str, n: int = 3) -> float:
    """Share of a reply's n-grams that repeat an earlier one, 1 - distinct/all (distinct-n of Li et al. 2016,
    arXiv 1510.03055), in [0, 1]; 1 for a reply that was cut while it went round in a loop. Too short for any
    n-gram: 0."""
    if finish_reason == "length" and loops(words):
        return 1.0
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def loops(words: Sequence[int]) -> bool:
    """Whether a reply ends with one block of tokens again and again: 3 times at least, 12 tokens at least."""
    tail = list(words)
    for period in range(1, len(tail) // LOOP_TIMES + 1):
        times = max(LOOP_TIMES, math.ceil(LOOP_TOKENS / period))
        if len(tail) >= times * period and tail[-times * period :] == tail[-period:] * times:
            return True
    return False


def words_of(sample: Sample) -> list[int]:
    """The reply's tokens without its end of turn."""
    return sample.token_ids[:-1] if sample.finish_reason == "stop" else sample.token_ids


def spread(values: Floats, prompts: Sequence[int]) -> float:
    """Standard deviation among the replies to one prompt, pooled over prompts. 1 where there is none, so that
    the other terms decide where the reward model is indifferent."""
    found = float(np.sqrt(np.mean(_centred(values, prompts) ** 2)))
    return found if found > 1e-9 else 1.0


def correlation(
    a: Sequence[float] | Floats, b: Sequence[float] | Floats, prompts: Sequence[int]
) -> float | None:
    """Pearson's r among the replies to one prompt, pooled over prompts. None where either does not vary."""
    x, y = _centred(np.asarray(a), prompts), _centred(np.asarray(b), prompts)
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 1e-12 else None


def _centred(values: Floats, prompts: Sequence[int]) -> Floats:
    """Each value less the mean over its prompt."""
    _, group = np.unique(np.asarray(prompts), return_inverse=True)
    means = np.bincount(group, weights=values) / np.bincount(group)
    centred: Floats = values - means[group]
    return centred
