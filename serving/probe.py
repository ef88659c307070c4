"""Does an engine serve what was trained? Log-probabilities tell.

vLLM takes adapters whose modules it does not know, or whose numbers are NaN, and serves the base instead.
"""

import math
from collections.abc import Sequence
from typing import Any

from serving.engine import BASE, Engine

TOLERANCE = 0.25  # nats per token, mean absolute: bfloat16 kernels of two libraries differ by up to about 0.1
LEAST_CHANGE = 0.02  # nats per token, mean absolute: a smaller change is lost in bfloat16's rounding
OVER_NOISE = 1.5  # how many times the two libraries' difference on the base a change must be to be judged
LEAST_SHARE = 0.3  # of the trainer's change, that must be in the engine's
FALLBACK: dict[str, Any] = {"token_ids": [list(range(10, 26))], "prompt_lengths": [1]}


class ProbeFailed(Exception):
    """The engine's log-probabilities under a version are not what they should be."""


async def probe(engine: Engine, name: str, expected: dict[str, Any] | None) -> dict[str, float]:
    """Compare a version's log-probabilities with the trainer's and with the base's.

    `expected`: {"token_ids": [[int]], "prompt_lengths": [int], "logprobs": [[float]], "base_logprobs":
    [[float]]}, one row a text; the last two are the trainer's, in nats, of the tokens after the prompt, under
    the version and (may be left out) under the base. Returns the mean absolute differences per token, in
    nats. Raises ProbeFailed.
    """
    texts = expected or FALLBACK
    served: list[float] = []
    base: list[float] = []
    for token_ids, start in zip(texts["token_ids"], texts["prompt_lengths"], strict=True):
        served += (await engine.token_logprobs(name, token_ids))[start - 1 :]
        base += (await engine.token_logprobs(BASE, token_ids))[start - 1 :]
    if not all(math.isfinite(value) for value in served):
        raise ProbeFailed(f"{name} gives log-probabilities that are not finite")
    trained = _flat(texts["logprobs"]) if "logprobs" in texts else served
    figures = {"to_base": _distance(served, base), "to_trainer": _distance(served, trained)}
    if figures["to_base"] == 0.0:
        raise ProbeFailed(
            f"{name} gives exactly the base's log-probabilities: the engine ignores the adapter; are its "
            "modules among those of --lora-target-modules?"
        )
    if figures["to_trainer"] > TOLERANCE:
        raise ProbeFailed(
            f"{name} gives log-probabilities that are {figures['to_trainer']:.3f} nats a token away from "
            f"the trainer's (at most {TOLERANCE})"
        )
    if "base_logprobs" in texts:
        _assert_changed_alike(name, served, base, trained, _flat(texts["base_logprobs"]))
    return figures


def _assert_changed_alike(
    name: str, served: list[float], base: list[float], trained: list[float], start: list[float]
) -> None:
    """The engine's change from base to version, e, must hold the trainer's, t. Raises ProbeFailed.

    An update moves a token by less than TOLERANCE, and an engine's own noise makes an ignored adapter differ
    from the base: neither check sees that one. What tells is the share of t in e, e·t / t·t, over all tokens:
    1 for the right adapter and 0 for an ignored one, as noise in e goes no particular way. Noise in t draws
    the share of the right one down, to s² / (s² + n²) for a change s and a noise n. n is about the difference
    of the two libraries on the base, so a t of 1.5 n still leaves 0.55; a smaller t is not judged.
    """
    change = [a - b for a, b in zip(trained, start, strict=True)]
    size = _mean_size(change)
    if size < max(LEAST_CHANGE, OVER_NOISE * _distance(base, start)):
        return
    mine = [a - b for a, b in zip(served, base, strict=True)]
    share = sum(e * t for e, t in zip(mine, change, strict=True)) / sum(t * t for t in change)
    if share < LEAST_SHARE:
        raise ProbeFailed(
            f"{name} changes the base by {_mean_size(mine):.3f} nats a token on the engine and by {size:.3f} "
            f"in the trainer, but only {share:.0%} of the trainer's change is in the engine's (at least "
            f"{LEAST_SHARE:.0%}): the engine ignores the adapter, or serves another one"
        )


def _distance(first: Sequence[float], second: Sequence[float]) -> float:
    return _mean_size([a - b for a, b in zip(first, second, strict=True)])


def _mean_size(values: Sequence[float]) -> float:
    return sum(abs(value) for value in values) / len(values)


def _flat(rows: Sequence[Sequence[float]]) -> list[float]:
    return [value for row in rows for value in row]
