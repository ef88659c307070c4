"""Replies sampled on the engines, over HTTP, with token ids and log-probabilities. No torch."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from serving.engine import BASE, Engine, EngineDown, EngineError, EngineRefused
from serving.probe import ProbeFailed, probe
from workers.labels import Prompt, Sample
from workers.stage import StageConfig, StageError

RESTART = 180.0  # seconds in which an engine that went away has to be back
LOOK_EVERY = 1.0
TRIES = 5

T = TypeVar("T")


class Sampling(StageConfig):
    """How replies are sampled. Temperature and top_p are not settings: importance ratios hold at 1 and 1
    only. `concurrency`: replies that are asked of an engine at once; it has places for twice as many
    (`deploy.processes.PLACES`), so that people who chat meanwhile find one."""

    k: int
    max_tokens: int
    max_prompt_tokens: int = 1024
    concurrency: int = 128
    seed: int = 0

    def places(self, engines: int) -> asyncio.Semaphore:
        """Of requests for `k` replies each."""
        return asyncio.Semaphore(max(1, engines * self.concurrency // self.k))


async def ensure_loaded(engines: Sequence[Engine], model: str, adapter: Path | None) -> None:
    """`model` on every engine, loaded from `adapter` where it is missing; an engine that restarts is waited
    for. StageError where it is missing and has no path, an engine does not come back, or serves the base
    in its place: vLLM takes adapters that it then ignores."""
    for engine in engines:
        await _ensure_served(engine, model, adapter)


async def _ensure_served(engine: Engine, model: str, adapter: Path | None) -> None:
    """What the trainer expects of an adapter is compared where a version is published; this is only whether
    it is served at all."""
    for _ in range(TRIES):
        if missing := model not in await _listed(engine):
            if adapter is None:
                raise StageError(
                    f"engine {engine.url} does not have {model}, and no adapter was given to load"
                )
            await _load(engine, model, adapter)
        if model == BASE:
            return
        try:
            await probe(engine, model, None)
            return
        except EngineDown:
            pass
        except EngineRefused as refusal:
            if refusal.status != 404 and refusal.status < 500:
                raise
        except ProbeFailed as failed:
            if missing:
                with suppress(EngineError):
                    await engine.unload_adapter(model)
            raise StageError(f"engine {engine.url}: {failed}") from failed
        await asyncio.sleep(LOOK_EVERY)
    raise StageError(f"engine {engine.url} went away {TRIES} times while {model} was probed: see its log")


async def through_restarts(
    engine: Engine, model: str, adapter: Path | None, ask: Callable[[], Awaitable[T]]
) -> T:
    """What `ask` gets of the engine, asked again once an engine that restarts is back with `model`.

    An engine that goes down first breaks its connections or answers 5xx; a fresh one says 404 for adapters.
    """
    for _ in range(TRIES - 1):
        try:
            return await ask()
        except EngineDown:
            pass
        except EngineRefused as refusal:
            if refusal.status != 404 and refusal.status < 500:
                raise
        await asyncio.sleep(LOOK_EVERY)  # one that is about to exit may still list its models
        await ensure_loaded([engine], model, adapter)
    return await ask()


async def _listed(engine: Engine) -> dict[str, str]:
    """What an engine has, as soon as it says so. StageError where it does not within RESTART."""
    deadline = time.monotonic() + RESTART
    while True:
        try:
            return await engine.models()
        except EngineError as error:
            if time.monotonic() > deadline:
                raise StageError(
                    f"engine {engine.url} has not come back within {RESTART:.0f} s ({error}): see its log, "
                    "and start the job again when `thumbwheel status` shows it as ready"
                ) from error
        await asyncio.sleep(LOOK_EVERY)


async def _load(engine: Engine, model: str, adapter: Path) -> None:
    """Load an adapter that somebody else may be loading too, on an engine that may restart meanwhile."""
    for _ in range(TRIES):
        try:
            await engine.load_adapter(model, adapter)
            return
        except EngineDown:
            await asyncio.sleep(LOOK_EVERY)
        except EngineRefused:
            if model not in await _listed(engine):
                raise
        if model in await _listed(engine):
            return
    raise StageError(f"engine {engine.url} went away {TRIES} times while it loaded {model}: see its log")


def choose(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """At most `count` prompts, each at most once, in a random order that `seed` fixes."""
    return random.Random(seed).sample(list(prompts), min(count, len(prompts)))


async def sample_replies(
    engines: Sequence[Engine],
    model: str,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    progress: Callable[[int, int, str], None] = lambda done, total, message: None,
    adapter: Path | None = None,
    places: asyncio.Semaphore | None = None,
) -> list[Sample]:
    """`sampling.k` replies to each prompt, prompt by prompt; `prompt_id` counts `prompts`. `places`: those of
    `sampling`, where others ask the same engines at the same time.

    A prompt that the engine refuses (too long for it) or that is longer than `max_prompt_tokens` is left out.
    An engine that restarts is waited for, and gets `model` again from `adapter`.
    """
    places = places or sampling.places(len(engines))
    done = 0

    async def ask(number: int) -> list[Sample]:
        nonlocal done
        async with places:
            engine = engines[number % len(engines)]
            body = _body(model, prompts[number], sampling)
            try:
                answer = await through_restarts(engine, model, adapter, partial(engine.chat, body))
            except EngineRefused as refusal:
                if refusal.status != 400:
                    raise
                return []
        done += 1
        progress(done, len(prompts), f"{model} has answered {done} of {len(prompts)} prompts")
        if len(answer["prompt_token_ids"]) > sampling.max_prompt_tokens:
            return []
        by_base = model == BASE
        return [_sample(number, prompts[number], answer, choice, by_base) for choice in answer["choices"]]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(number)) for number in range(len(prompts))]
    return [sample for task in tasks for sample in task.result()]


def _body(model: str, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
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


def _sample(
    number: int, prompt: Prompt, answer: dict[str, Any], choice: dict[str, Any], by_base: bool
) -> Sample:
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
        by_base=by_base,
    )
