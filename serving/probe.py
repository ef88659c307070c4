"""Does an engine serve what was trained? Log-probabilities tell.

vLLM takes adapters whose modules it does not know, or whose numbers are NaN, and serves the base instead.
"""

import math
from typing import Any

from serving.engine import BASE, Engine

TOLERANCE = 0.25  # nats per token, mean absolute: bfloat16 kernels of two libraries differ by up to about 0.1
FALLBACK = list(range(10, 26))


class ProbeFailed(Exception):
    """The engine's log-probabilities under a version are not what they should be."""


async def probe(engine: Engine, name: str, expected: dict[str, Any] | None) -> dict[str, float]:
    """Compare a version's log-probabilities with the trainer's and with the base's.

    `expected`: {"token_ids": [[int]], "prompt_lengths": [int], "logprobs": [[float]]}, one row a text;
    logprobs are the trainer's, in nats, of the tokens after the prompt. Returns the mean absolute
    differences per token, in nats. Raises ProbeFailed.
    """
    rows = _rows(expected)
    to_trainer, to_base, tokens = 0.0, 0.0, 0
    for token_ids, start, trained in rows:
        served = (await engine.token_logprobs(name, token_ids))[start - 1 :]
        base = (await engine.token_logprobs(BASE, token_ids))[start - 1 :]
        if not all(math.isfinite(value) for value in served):
            raise ProbeFailed(f"{name} gives log-probabilities that are not finite")
        to_base += sum(abs(a - b) for a, b in zip(served, base, strict=True))
        if trained is not None:
            to_trainer += sum(abs(a - b) for a, b in zip(served, trained, strict=True))
        tokens += len(served)
    figures = {"to_base": to_base / tokens, "to_trainer": to_trainer / tokens}
    if figures["to_base"] == 0.0:
        raise ProbeFailed(
            f"{name} gives exactly the base's log-probabilities: the engine ignores the adapter"
        )
    if figures["to_trainer"] > TOLERANCE:
        raise ProbeFailed(
            f"{name} gives log-probabilities that are {figures['to_trainer']:.3f} nats a token away from "
            f"the trainer's (at most {TOLERANCE})"
        )
    return figures


def _rows(expected: dict[str, Any] | None) -> list[tuple[list[int], int, list[float] | None]]:
    if not expected:
        return [(FALLBACK, 1, None)]
    return list(zip(expected["token_ids"], expected["prompt_lengths"], expected["logprobs"], strict=True))
