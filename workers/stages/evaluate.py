"""Candidate against champion on held-out prompts, by the held-out judge. Writes only metrics.json.

    python -m workers.stages.evaluate DIR

Both answer each held-out prompt K times; every reply of the one is compared with every reply of the other,
and the interval is over prompts. The judge learned from other conversations than the rewarding members, so a
candidate that only flatters those gains nothing here.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from serving.engine import BASE, Engine, new_session
from workers import gate
from workers.labels import Sample, by_prompt, read_prompts
from workers.reward_model import JUDGE
from workers.sampling import Sampling, choose, ensure_loaded, sample_replies, through_restarts
from workers.scoring import score_samples
from workers.stage import Stage, StageConfig, StageError, run, write_json


class Policy(StageConfig):
    """A name on the engines, loaded from `adapter` where it is not there."""

    name: str
    adapter: Path | None


class Config(Sampling):
    engines: list[str]
    base_model: str
    candidate: Policy
    champion: Policy
    prompts: Path
    reward: Path
    count: int = 64
    confidence: float = 0.8
    min_prompts: int = 4
    max_kl: float = 0.5
    kl_replies: int = 32


def main(config: Config, stage: Stage) -> dict[str, Any]:
    started = time.monotonic()
    candidate, champion, kl = asyncio.run(_sample(config, stage))
    sampled = time.monotonic()
    rewards = score_samples(config.base_model, config.reward, [JUDGE], [*candidate, *champion])[:, 0].tolist()
    mine, theirs = rewards[: len(candidate)], rewards[len(candidate) :]
    evidence, figures = weigh(config, candidate, mine, champion, theirs, kl[BASE])
    verdict = gate.judge_candidate(evidence, config.min_prompts, config.max_kl)
    write_json(stage.path("replies.json"), _replies(candidate, mine) + _replies(champion, theirs))
    return (
        {"accepted": verdict.accepted, "reasons": verdict.reasons}
        | figures
        | {
            "kl_base": kl[BASE],
            "kl_champion": kl[config.champion.name],
            "seconds": {"sample": sampled - started, "judge": time.monotonic() - sampled},
        }
    )


async def _sample(config: Config, stage: Stage) -> tuple[list[Sample], list[Sample], dict[str, float]]:
    """Replies of both, and the candidate's KL to the base and to the champion, nats a token."""
    prompts = choose(read_prompts(config.prompts, holdout=True), config.count, config.seed)
    if not prompts:
        raise StageError("there is no held-out prompt to compare the candidate and the champion on")
    async with new_session() as session:
        engines = [Engine(url, session) for url in config.engines]
        sides = []
        for policy in (config.candidate, config.champion):
            await ensure_loaded(engines, policy.name, policy.adapter)
            sides.append(
                await sample_replies(engines, policy.name, prompts, config, stage.progress, policy.adapter)
            )
        candidate, champion = sides
        if not candidate or not champion:
            raise StageError("the engines answered no held-out prompt")
        chosen = candidate[:: max(1, len(candidate) // config.kl_replies)]
        others = {BASE: None, config.champion.name: config.champion.adapter}
        kl = {name: await kl_to(engines[0], name, adapter, chosen) for name, adapter in others.items()}
    return candidate, champion, kl


async def kl_to(engine: Engine, model: str, adapter: Path | None, samples: Sequence[Sample]) -> float:
    """KL(policy that wrote `samples` ‖ `model`), nats a token: the mean log ratio of its own samples."""

    async def log_ratio(sample: Sample) -> float:
        tokens = [*sample.prompt_token_ids, *sample.token_ids]
        theirs = await through_restarts(engine, model, adapter, lambda: engine.token_logprobs(model, tokens))
        return sum(sample.logprobs) - sum(theirs[-len(sample.token_ids) :])

    ratios = await asyncio.gather(*(log_ratio(sample) for sample in samples))
    return sum(ratios) / sum(len(sample.token_ids) for sample in samples)


def weigh(
    config: Config,
    candidate: Sequence[Sample],
    mine: Sequence[float],
    champion: Sequence[Sample],
    theirs: Sequence[float],
    kl_base: float,
) -> tuple[gate.Evidence, dict[str, Any]]:
    """The gate's evidence, and the figures for metrics.json."""
    wins = gate.win_probabilities(by_prompt(candidate, mine), by_prompt(champion, theirs))
    win_rate = sum(wins) / len(wins) if wins else 0.5
    interval = gate.bootstrap_interval(wins, config.confidence, config.seed)
    words = [[len(sample.reply.split()) for sample in side] for side in (candidate, champion)]
    matched, pairs = gate.length_matched_win_rate(
        by_prompt(candidate, list(zip(mine, words[0], strict=True))),
        by_prompt(champion, list(zip(theirs, words[1], strict=True))),
    )
    evidence = gate.Evidence(
        win_rate=win_rate,
        win_rate_interval=interval,
        prompts=len(wins),
        kl_base=kl_base,
        empty=sum(not sample.reply.strip() for sample in candidate) / len(candidate),
        repeated=repeated(candidate),
    )
    return evidence, {
        "win_rate": win_rate,
        "win_rate_interval": list(interval),
        "confidence": config.confidence,
        "n": len(wins),
        "length_matched_win_rate": matched,
        "length_matched_pairs": pairs,
        "words": {"candidate": sum(words[0]) / len(words[0]), "champion": sum(words[1]) / len(words[1])},
        "cut": {"candidate": _cut(candidate), "champion": _cut(champion)},
        "empty": evidence.empty,
        "repeated": evidence.repeated,
    }


def repeated(samples: Sequence[Sample]) -> float:
    """The share of replies that another prompt got too, word for word."""
    prompts_of: dict[str, set[int]] = {}
    for sample in samples:
        prompts_of.setdefault(sample.reply.strip(), set()).add(sample.prompt_id)
    return sum(len(prompts_of[sample.reply.strip()]) > 1 for sample in samples) / len(samples)


def _cut(samples: Sequence[Sample]) -> float:
    return sum(sample.finish_reason == "length" for sample in samples) / len(samples)


def _replies(samples: Sequence[Sample], rewards: Sequence[float]) -> list[dict[str, Any]]:
    return [
        {"messages": sample.messages, "reply": sample.reply, "reward": reward}
        for sample, reward in zip(samples, rewards, strict=True)
    ]


if __name__ == "__main__":
    run(Config, main)
