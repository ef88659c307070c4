"""Candidate against champion on held-out prompts, by the held-out judge. Writes replies.json and plots/.

    python -m workers.stages.evaluate DIR

Both answer each held-out prompt K times; every reply of the one is compared with every reply of the other,
and the intervals are over prompts. The judge learned from other conversations than the rewarding members, so
a candidate that only flatters those gains nothing here. While the engines write, they are also asked for both
sides' answers to the probes, how likely the reference texts are, and how far the candidate is from the base
and from the champion: it is one batch to them.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from serving.engine import BASE, Engine, new_session
from workers import gate, plots
from workers.evidence import Sides
from workers.habits import Record, beside, rebased, record
from workers.labels import Prompt, Sample, read_labels, read_prompts
from workers.likelihood import Reader
from workers.measuring import Measured, Ruler, Side, judge_quality, length_taste, weigh
from workers.probes import Answer, Probe, answer_probes, read_probes, weigh_probes
from workers.references import read_references
from workers.reward.model import JUDGE, Text, Texts
from workers.reward.scoring import read_shape, score_samples
from workers.sampling import Sampling, choose, ensure_loaded, sample_replies
from workers.stage import Stage, StageConfig, StageError, run, write_json


class Policy(StageConfig):
    """A name on the engines, loaded from `adapter` where it is not there."""

    name: str
    adapter: Path | None


class Config(Sampling, gate.Limits):
    """`labels`: what people said, for whether they care about length. `judge`: what the judge is worth on the
    holdout. `kl_replies`: of the candidate's, for its KL. `probe_k`, `probe_tokens`: replies to a probe, and
    how long they may be. `base`: what the champion's own evaluation handed down of the base. `lineage`,
    `rounds`, `curves`: what the plots show of the past, from `workers.history`.
    """

    engines: list[str]
    base_model: str
    candidate: Policy
    champion: Policy
    prompts: Path
    reward: Path
    labels: tuple[Path, ...] = ()
    judge: dict[str, Any] = Field(default_factory=dict)
    base: Record | None = None
    lineage: tuple[dict[str, Any], ...] = ()
    rounds: tuple[dict[str, Any], ...] = ()
    curves: tuple[Path, ...] = ()
    count: int = 40
    confidence: float = 0.8
    kl_replies: int = 24
    probe_k: int = 2
    probe_tokens: int = 32


@dataclass(frozen=True)
class Answers:
    """What the engines said. `kl`: of the candidate to each other policy, `nll`: of the reference texts under
    the candidate and the base; both nats a token."""

    candidate: list[Sample]
    champion: list[Sample]
    probes: tuple[list[Answer], list[Answer]]
    kl: dict[str, float]
    nll: Sides


def main(config: Config, stage: Stage) -> dict[str, Any]:
    started = time.monotonic()
    probes = read_probes()
    answers = asyncio.run(ask(config, stage, probes, reference_texts(config.base_model)))
    sampled = time.monotonic()
    candidate, champion = judge(config, answers)
    passed, each = weigh_probes(probes, *answers.probes)
    labels = [label for path in config.labels for label in read_labels(path)]
    own, base = records(config, answers, probes)
    ruler = Ruler(config.confidence, max(config.min_prompts, config.min_alike), config.seed)
    evidence, figures = weigh(
        candidate,
        champion,
        Measured(
            kl_base=answers.kl[BASE],
            kl_champion=answers.kl[config.champion.name],
            nll=answers.nll,
            probes=passed,
            # Beside a champion that is the base itself, all is said already.
            base=beside(own, base, probes) if config.champion.adapter else None,
        ),
        judge_quality(config.judge, labels),
        length_taste(labels, ruler),
        ruler,
    )
    verdict = gate.judge_candidate(evidence, config)
    write_json(stage.path("replies.json"), [*_replies(candidate), *_replies(champion)])
    write_json(stage.path("probes.json"), each)
    draw(config, stage, figures, verdict.accepted)
    return (
        asdict(verdict)
        | figures
        | {
            "undecided": gate.undecided(evidence, config),
            "decided_by": "raw" if gate.deciding(evidence, config)[0] is evidence.raw else "length_matched",
            "confidence": config.confidence,
            "base": base.model_dump(mode="json") if base else None,
            "seconds": {"sample": sampled - started, "judge": time.monotonic() - sampled},
        }
    )


async def ask(config: Config, stage: Stage, probes: Sequence[Probe], references: Sequence[Text]) -> Answers:
    """Everything that the engines are asked. StageError where there is no held-out prompt, or none is
    answered."""
    prompts = choose(read_prompts(config.prompts, holdout=True), config.count, config.seed)
    if not prompts:
        raise StageError("there is no held-out prompt to compare the candidate and the champion on")
    async with new_session() as session:
        engines = [Engine(url, session) for url in config.engines]
        for policy in (config.candidate, config.champion):
            await ensure_loaded(engines, policy.name, policy.adapter)
        found = await Examination(config, stage, engines, prompts, probes).answers(references)
    if not found.candidate or not found.champion:
        raise StageError("the engines answered no held-out prompt")
    return found


class Examination:
    """Asks engines for all at the same time, as far as there are places, and tells how far it is."""

    def __init__(
        self,
        config: Config,
        stage: Stage,
        engines: Sequence[Engine],
        prompts: Sequence[Prompt],
        probes: Sequence[Probe],
    ) -> None:
        self._config, self._stage, self._engines = config, stage, engines
        self._prompts, self._probes = prompts, probes
        self._reader = Reader(engines)
        self._places = config.places(len(engines))
        self._done, self._total = 0, 2 * (len(prompts) + len(probes))

    async def answers(self, references: Sequence[Text]) -> Answers:
        candidate, champion = self._config.candidate, self._config.champion
        async with asyncio.TaskGroup() as group:
            mine = group.create_task(self._replies_and_kl())
            theirs = group.create_task(self._replies(champion))
            probed = [group.create_task(self._probe(policy)) for policy in (candidate, champion)]
            nll_candidate = group.create_task(self._reader.nll(candidate.name, candidate.adapter, references))
            nll_base = group.create_task(self._reader.nll(BASE, None, references))
        replies, kl = mine.result()
        nll = Sides(nll_candidate.result(), nll_base.result())
        return Answers(replies, theirs.result(), (probed[0].result(), probed[1].result()), kl, nll)

    async def _replies_and_kl(self) -> tuple[list[Sample], dict[str, float]]:
        """The candidate's replies, and its KL to the base and to the champion."""
        champion = self._config.champion
        written = await self._replies(self._config.candidate)
        chosen = written[:: max(1, len(written) // self._config.kl_replies)]
        others = {BASE: None, champion.name: champion.adapter}
        return written, {name: await self._reader.kl(name, path, chosen) for name, path in others.items()}

    async def _replies(self, policy: Policy) -> list[Sample]:
        return await sample_replies(
            self._engines,
            policy.name,
            self._prompts,
            self._config,
            lambda *_: self._tick(),
            policy.adapter,
            self._places,
        )

    async def _probe(self, policy: Policy) -> list[Answer]:
        k, tokens = self._config.probe_k, self._config.probe_tokens
        return await answer_probes(
            self._engines, policy.name, policy.adapter, self._probes, k, tokens, self._places, self._tick
        )

    def _tick(self) -> None:
        self._done += 1
        self._stage.progress(
            self._done, self._total, f"{self._done} of {self._total} prompts and probes are answered"
        )


def reference_texts(base_model: str) -> list[Text]:
    """The reference texts as the policies read them, the ends of their turns included."""
    texts = Texts(base_model, max_prompt=512, max_reply=512)
    return [texts.of_reply(text.messages, text.reply, "stop") for text in read_references()]


def records(config: Config, answers: Answers, probes: Sequence[Probe]) -> tuple[Record, Record | None]:
    """The candidate's habits, and the base's: measured now where it is the champion, else handed down, if
    they are known, and as far as replies are of the same length still."""
    own, theirs = (
        record(samples, probes, probed, config.max_tokens)
        for samples, probed in zip((answers.candidate, answers.champion), answers.probes, strict=True)
    )
    if config.champion.adapter is None:
        return own, theirs
    base = config.base
    return own, rebased(base, theirs) if base and base.max_tokens != config.max_tokens else base


def judge(config: Config, answers: Answers) -> tuple[Side, Side]:
    """Both sides' replies with what the members and the judge make of them."""
    names = [*read_shape(config.reward).members, JUDGE]
    both = [*answers.candidate, *answers.champion]
    rewards = score_samples(config.base_model, config.reward, names, both).numpy().astype(np.float64)
    n = len(answers.candidate)
    return (
        Side(answers.candidate, rewards[:n, :-1], rewards[:n, -1]),
        Side(answers.champion, rewards[n:, :-1], rewards[n:, -1]),
    )


def draw(config: Config, stage: Stage, figures: dict[str, Any], accepted: bool) -> None:
    """The candidate among its ancestors, and how it was trained."""
    candidate = {
        "version": "candidate" if accepted else "rejected",
        "kl": figures["kl_base"],
        **{name: figures["rewards"][name]["gain"] for name in ("members", "judge")},
    }
    folder = stage.path("plots")
    plots.reward_curve(plots.chained([*config.lineage, candidate], config.rounds), folder)
    plots.training_curve(config.curves, folder)


def _replies(side: Side) -> list[dict[str, Any]]:
    return [
        {"messages": sample.messages, "reply": sample.reply, "reward": reward}
        for sample, reward in zip(side.samples, side.judge.tolist(), strict=True)
    ]


if __name__ == "__main__":
    run(Config, main)
