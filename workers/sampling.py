"""Replies sampled on the engines, over HTTP, with token ids and log-probabilities. No torch."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serving.engine import Engine, EngineRefused
from workers.labels import Prompt, Sample
from workers.stage import StageConfig, StageError


class Sampling(StageConfig):
    """How replies are sampled. Temperature and top_p are not settings: importance ratios hold at 1 and 1
    only."""

    k: int
    max_tokens: int
    max_prompt_tokens: int = 1024
    concurrency: int = 32
    seed: int = 0


async def ensure_loaded(engines: Sequence[Engine], model: str, adapter: Path | None) -> None:
    """`model` on every engine, loaded from `adapter` where it is missing. StageError where it is missing and
    has no path."""
    for engine in engines:
        if model in await engine.models():
            continue
        if adapter is None:
            raise StageError(f"engine {engine.url} does not have {model}, and no adapter was given to load")
        await engine.load_adapter(model, adapter)


def choose(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """At most `count` prompts, each at most once, in a random order that `seed` fixes."""
    return random.Random(seed).sample(list(prompts), min(count, len(prompts)))


async def sample_replies(
    engines: Sequence[Engine],
    model: str,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    progress: Callable[[int, int, str], None] = lambda done, total, message: None,
) -> list[Sample]:
    """`sampling.k` replies to each prompt, prompt by prompt; `prompt_id` counts `prompts`.

    A prompt that the engine refuses (too long for it) or that is longer than `max_prompt_tokens` is left out.
    """
    gate = asyncio.Semaphore(sampling.concurrency)
    done = 0

    async def ask(number: int) -> list[Sample]:
        nonlocal done
        async with gate:
            engine = engines[number % len(engines)]
            body = _body(model, prompts[number], sampling)
            try:
                answer = await engine.chat(body)
            except EngineRefused as refusal:
                if refusal.status != 400:
                    raise
                return []
        done += 1
        progress(done, len(prompts), f"{model} has answered {done} of {len(prompts)} prompts")
        if len(answer["prompt_token_ids"]) > sampling.max_prompt_tokens:
            return []
        return [_sample(number, prompts[number], answer, choice) for choice in answer["choices"]]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(number)) for number in range(len(prompts))]
    return [sample for task in tasks for sample in task.result()]


def _body(model: str, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
    # No `seed`: a seeded request whose prompt is prefilled in two steps ends a CPU engine of vLLM 0.32.
    return {
        "model": model,
        "messages": prompt.messages,
        "n": sampling.k,
        "max_tokens": sampling.max_tokens,
        "temperature": 1.0,
        "top_p": 1.0,
        "logprobs": True,
        "return_token_ids": True,
    }


def _sample(number: int, prompt: Prompt, answer: dict[str, Any], choice: dict[str, Any]) -> Sample:
    logprobs = [float(token["logprob"]) for token in choice["logprobs"]["content"]]
    if len(logprobs) != len(choice["token_ids"]):
        raise StageError(
            "an engine sent as many log-probabilities as tokens in no reply: is it vLLM 0.32 or later?"
        )
    return Sample(
        prompt_id=number,
        messages=prompt.messages,
        reply=choice["message"]["content"] or "",
        prompt_token_ids=list(answer["prompt_token_ids"]),
        token_ids=list(choice["token_ids"]),
        logprobs=logprobs,
        finish_reason=choice["finish_reason"],
    )
