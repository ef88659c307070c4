"""K replies a prompt from one policy, on the engines: prompts.parquet → samples.parquet. Loads no torch.

python -m workers.stages.sample DIR
"""

import asyncio
import time
from pathlib import Path
from typing import Any

from serving.engine import Engine, new_session
from workers.labels import Sample, read_prompts, write_samples
from workers.sampling import Sampling, choose, ensure_loaded, sample_replies
from workers.stage import Stage, StageError, run


class Config(Sampling):
    """`model`: the policy's name on the engines, loaded from `adapter` where it is not there yet."""

    engines: list[str]
    model: str
    adapter: Path | None
    prompts: Path
    holdout: bool = False
    count: int


def main(config: Config, stage: Stage) -> dict[str, Any]:
    return asyncio.run(_sample(config, stage))


async def _sample(config: Config, stage: Stage) -> dict[str, Any]:
    prompts = choose(read_prompts(config.prompts, config.holdout), config.count, config.seed)
    started = time.monotonic()
    async with new_session() as session:
        engines = [Engine(url, session) for url in config.engines]
        await ensure_loaded(engines, config.model, config.adapter)
        samples = await sample_replies(engines, config.model, prompts, config, stage.progress, config.adapter)
    if not samples:
        raise StageError(f"no prompt of {len(prompts)} could be answered: are they all too long?")
    write_samples(stage.path("samples.parquet"), samples)
    return describe(samples) | {"prompts": len(prompts), "seconds": time.monotonic() - started}


def describe(samples: list[Sample]) -> dict[str, Any]:
    """Figures about replies, for metrics.json."""
    lengths = [len(sample.token_ids) for sample in samples]
    return {
        "answered": len({sample.prompt_id for sample in samples}),
        "replies": len(samples),
        "tokens": sum(lengths),
        "mean_tokens": sum(lengths) / len(samples),
        "cut": sum(sample.finish_reason == "length" for sample in samples) / len(samples),
    }


if __name__ == "__main__":
    run(Config, main)
