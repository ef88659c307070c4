"""A judge compares sampled replies under the principles of a constitution: samples.parquet → labels.parquet,
rules.parquet. Loads no torch.

    python -m workers.stages.ai_feedback DIR

(Constitutional AI: Bai et al. 2022, arXiv 2212.08073.) Every pair is judged in both orders, and only verdicts
that agree become labels, at a lower weight than people's. A judge that cannot be reached, or says nothing
that can be used, ends the stage well, with no labels and the reason as `skipped` in metrics.json: what people
said is to be learnt whatever becomes of it. A constitution that is not right fails the job, since only its
author can mend it. The judge's address, which may hold a password, and its key are read from the environment,
and written nowhere.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from feedback.types import content_hash
from workers.constitution import ConstitutionError, Principle, fingerprint, read_constitution
from workers.judging import Hearing, Judge
from workers.labels import Label, Sample, read_prompts, read_samples, write_labels
from workers.rules import (
    Pair,
    RuleScore,
    Verdict,
    choose_pairs,
    first_wins,
    rule_scores,
    win_rates,
    write_rules,
)
from workers.settings import WorkerSettings
from workers.stage import Stage, StageConfig, StageError, run


class Config(StageConfig):
    """`samples`: several replies to each prompt, by `policy`; `prompts`: the snapshot's, that no held-out
    conversation is judged. `pairs`: at most so many are judged, under every principle. `weight`: of all
    labels of one pair together, where a person's comparison weighs 1. `pause`: seconds before a request's
    second try."""

    samples: Path
    prompts: Path
    policy: str
    constitution: Path
    model: str
    pairs: int = 64
    weight: float = 0.5
    concurrency: int = 8
    timeout: float = 30.0
    pause: float = 1.0
    seed: int = 0


def main(config: Config, stage: Stage) -> dict[str, Any]:
    started = time.monotonic()
    try:
        principles = read_constitution(config.constitution)
    except ConstitutionError as error:
        raise StageError(f"the constitution is not right: {error}") from error
    samples = read_samples(config.samples)
    conversations = _conversations(config.prompts, samples)
    pairs = choose_pairs(samples, config.pairs, config.seed)
    hearing, verdicts = asyncio.run(_hear(config, stage, principles, samples, pairs))
    labels = _labels(config, principles, samples, conversations, pairs, verdicts)
    rules = rule_scores(samples, pairs, verdicts, principles)
    write_labels(stage.path("labels.parquet"), labels)
    write_rules(stage.path("rules.parquet"), rules)
    return {
        "skipped": _why_skipped(pairs, verdicts, hearing),
        "judge": config.model,
        "constitution": fingerprint(config.constitution),
        "pairs": len(pairs),
        "labels": len(labels),
        **_answers(verdicts, hearing),
        "rules": _figures(principles, verdicts, rules),
        "seconds": time.monotonic() - started,
    }


async def _hear(
    config: Config,
    stage: Stage,
    principles: Sequence[Principle],
    samples: Sequence[Sample],
    pairs: Sequence[tuple[int, int]],
) -> tuple[Hearing, list[Verdict]]:
    shown = [Pair(samples[a].messages, samples[a].reply, samples[b].reply) for a, b in pairs]
    questions = 2 * len(shown) * len(principles)

    def heard(done: int) -> None:
        stage.progress(done, questions, f"{config.model} has answered {done} of {questions} questions")

    async with aiohttp.ClientSession() as session:
        # An address that is not set any more is one that cannot be reached.
        settings = WorkerSettings()
        url, key = settings.ai_judge_url or "", settings.ai_judge_key
        judge = Judge(url, config.model, session, key, timeout=config.timeout, pause=config.pause)
        hearing = Hearing(judge, config.concurrency, heard)
        return hearing, await hearing.verdicts(principles, shown)


def _conversations(prompts: Path, samples: Sequence[Sample]) -> list[str]:
    """The conversation of each sample. StageError for a prompt that is not in the training split."""
    train = {
        content_hash(prompt.messages): prompt.conversation for prompt in read_prompts(prompts, holdout=False)
    }
    try:
        return [train[content_hash(sample.messages)] for sample in samples]
    except KeyError as error:
        raise StageError(
            "a reply is to a prompt outside of the training split: AI never labels it"
        ) from error


def _labels(
    config: Config,
    principles: Sequence[Principle],
    samples: Sequence[Sample],
    conversations: Sequence[str],
    pairs: Sequence[tuple[int, int]],
    verdicts: Sequence[Verdict],
) -> list[Label]:
    """The consistent verdicts. All labels of a pair weigh `config.weight` together, at most."""
    shares = {principle.id: principle.share for principle in principles}
    now, labels = time.time(), []
    for verdict in verdicts:
        if verdict.preference is None:
            continue
        row = pairs[verdict.pair][0]
        a, b = (samples[side] for side in pairs[verdict.pair])
        label = Label(
            kind="comparison",
            messages=a.messages,
            a=a.reply,
            b=b.reply,
            target=verdict.preference,
            weight=config.weight * shares[verdict.principle],
            a_finish=a.finish_reason,
            b_finish=b.finish_reason,
            rater=f"ai:{verdict.principle}",
            conversation=conversations[row],
            policy=config.policy,
            b_policy=config.policy,
            time=now,
            source="ai",
            principle=verdict.principle,
        )
        labels.append(label)
    return labels


def _why_skipped(
    pairs: Sequence[tuple[int, int]], verdicts: Sequence[Verdict], hearing: Hearing
) -> str | None:
    if not pairs:
        return "no prompt has two different replies: there is nothing to compare"
    if any(verdict.forward is not None or verdict.backward is not None for verdict in verdicts):
        return None
    if hearing.trouble:
        return f"no verdict, the judge is of no use: {hearing.trouble}"
    return "no verdict: none of the judge's answers was A or B"


def _answers(verdicts: Sequence[Verdict], hearing: Hearing) -> dict[str, Any]:
    answered = sum((verdict.forward is not None) + (verdict.backward is not None) for verdict in verdicts)
    consistent = [verdict.preference is not None for verdict in verdicts if verdict.answered]
    return {
        "questions": 2 * len(verdicts),
        "failed": hearing.failed,
        "unclear": 2 * len(verdicts) - answered - hearing.failed,
        "trouble": hearing.trouble,
        "consistent": sum(consistent) / len(consistent) if consistent else None,
        "first": first_wins(verdicts),
    }


def _figures(
    principles: Sequence[Principle], verdicts: Sequence[Verdict], rules: Sequence[RuleScore]
) -> dict[str, dict[str, float | int | None]]:
    """Of each principle, what `win_rates` says but the win rate of arbitrary sides, and of its rule
    scores."""
    rates, judged = win_rates(verdicts), Counter(rule.principle for rule in rules)
    figures: dict[str, dict[str, float | int | None]] = {}
    for principle in principles:
        mine = [rule.share for rule in rules if rule.principle == principle.id]
        figures[principle.id] = {
            "weight": principle.share,
            "asked": rates.get(principle.id, {}).get("asked", 0),
            "consistent": rates.get(principle.id, {}).get("consistent"),
            "first": rates.get(principle.id, {}).get("first"),
            "judged": judged[principle.id],
            "mean": sum(mine) / len(mine) if mine else None,
        }
    return figures


if __name__ == "__main__":
    run(Config, main)
