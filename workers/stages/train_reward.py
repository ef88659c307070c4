"""The reward model from people's labels: train.parquet, holdout.parquet → reward/, with a folder a member.

    python -m workers.stages.train_reward DIR

One scalar r(x, y) a member, trained on comparisons (Bradley-Terry) and thumbs (logistic) at once. The members
see two thirds of the conversations, the judge the other third: it never rewards, so it can be asked who is
better; of its adapter only so much counts as the members' labels bear out (`workers.reward.shrinkage`). From
`init` it goes on where the live version stands. `warm` is the members' average. Members are
accepted only if they predict better than those of `init` what neither have seen, the holdout and the judge's
labels, by a paired test; the judge if it is the better one of two on the holdout or, where that cannot tell,
on it and the members' labels, from which no judge learns what is good. Each is accepted apart, and what is
not stays as it is in `init`: else a judge that happens to be bad would turn candidates away for as long as
members are good enough not to be followed.

Few passes and one adapted layer: with SmolLM2-135M and 323 simulated labels, 3 passes at `upper` 1 ordered
0.67 of 495 unseen pairs as the raters' taste does, 6 passes at `upper` 3 as many, in 163 s of CPU instead of
49. That was without heads. A head on frozen features alone ordered 0.60 to 0.63; each adapter now stands
beside one, and learns what it leaves (`workers.reward.style`).
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from workers.datasets import for_judge
from workers.gate import Verdict
from workers.labels import Label, newest, read_labels
from workers.reward import gate as reward_gate
from workers.reward import report as reward_report
from workers.reward import trainer as reward_trainer
from workers.reward import warm
from workers.reward.gate import Gain
from workers.reward.model import JUDGE, RewardModel, Texts, member_names
from workers.reward.report import Floats, Version
from workers.reward.scoring import Shape, read_shape
from workers.reward.shrinkage import believed
from workers.reward.style import Head, Scale, mean_head, read_head, write_heads
from workers.reward.thumb_scale import ThumbScale, mean_scale, read_thumbs, write_thumbs
from workers.reward.trainer import LabelFeatures, Training, fit_heads, flat, label_features
from workers.reward.warm import WARM
from workers.reward.weights import beside_ai
from workers.stage import Stage, StageConfig, StageError, run, write_json

RELIABILITY = "plots/reliability.json"  # in the reward directory


class Config(StageConfig):
    """`extra`: labels by AI, for the members alone. `policy`: the version that answers now, on whose replies
    the accuracy is reported too. `members`: as many of those of `init` go on, and what is missing begins
    afresh beside them. `depth`: the share of the base's layers that are used, `upper`: how many of those
    carry the adapter, `early`: up to which share heads read beside those below it (all, as `rank`, only where
    there is no `init`, whose shape holds). `max_labels`: newest labels of people that are trained on; the
    snapshot has drawn no more than that, since weights hold for what is trained on. `confidence`: of the
    paired test. The others are those of workers.reward.trainer.Training.
    """

    base_model: str
    init: Path | None
    train: Path
    holdout: Path
    extra: Path | None = None
    policy: str | None = None
    members: int = 2
    judge: bool = True
    rank: int = 8
    depth: float = 0.5
    upper: int = 1
    early: float = 0.13
    learning_rate: float = 3e-3
    epochs: float = 3.0
    min_steps: int = 48
    batch: int = 8
    smoothing: float = 0.05
    shrink: float = 0.1
    confidence: float = 0.6
    max_labels: int = 1024
    max_prompt: int = 512
    max_reply: int = 512
    seed: int = 0


@dataclass(frozen=True)
class Bench:
    """What all adapters of a version are trained with; `labels` and `features` go together. `names`: of the
    members, and the judge; `warm`: those that go on from `init`."""

    config: Config
    stage: Stage
    shape: Shape
    names: list[str]
    texts: Texts
    model: RewardModel
    labels: list[Label]
    features: LabelFeatures
    warm: Sequence[str] = ()


@dataclass(frozen=True)
class Part:
    """Some of people's labels, with weights that are 1 on average."""

    labels: list[Label]
    features: LabelFeatures


@dataclass(frozen=True)
class Unseen:
    """People's labels: the holdout, from which nobody learns, in any version; what the judge alone learns
    from, new to any member; and what the members learn from, new to any judge."""

    holdout: Part
    to_members: Part
    to_judge: Part

    def by_members(self) -> list[Label]:
        return [*self.holdout.labels, *self.to_members.labels]

    def by_judge(self) -> list[Label]:
        return [*self.holdout.labels, *self.to_judge.labels]


@dataclass(frozen=True)
class Measured:
    """One version on these."""

    holdout: Version
    to_members: Version
    to_judge: Version

    def by_members(self, held: Unseen) -> Floats:
        """Their mean logits of `held.by_members()`."""
        both = (self.holdout, held.holdout), (self.to_members, held.to_members)
        return _said(both, self.holdout.members)

    def by_judge(self, held: Unseen) -> Floats:
        """Its logits of `held.by_judge()`."""
        return _said([(self.holdout, held.holdout), (self.to_judge, held.to_judge)], [JUDGE])

    def with_those_of(self, other: "Measured", names: Sequence[str]) -> "Measured":
        return Measured(
            self.holdout.with_those_of(other.holdout, names),
            self.to_members.with_those_of(other.to_members, names),
            self.to_judge.with_those_of(other.to_judge, names),
        )


def _said(parts: Sequence[tuple[Version, Part]], names: Sequence[str]) -> Floats:
    return np.concatenate([version.logits(part.labels, names) for version, part in parts])


@dataclass(frozen=True)
class Choice:
    """What becomes of the new adapters. `gain`, `judge_gain`: what decided of the members and of the judge
    (see `workers.reward.gate.telling`); `judge`: whether the new one is taken. Nothing is published
    where neither is."""

    members: Verdict
    gain: Gain | None
    judge: bool
    judge_gain: Gain | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "accepted": self.members.accepted,
            "reasons": self.members.reasons,
            "gain": None if self.gain is None else asdict(self.gain),
            "judge_accepted": self.judge,
            "judge_gain": None if self.judge_gain is None else asdict(self.judge_gain),
        }


def main(config: Config, stage: Stage) -> dict[str, Any]:
    started = time.monotonic()
    train, holdout = people(config)
    extra = by_ai(config, train, holdout)
    bench = set_up(config, stage, [*train, *extra])
    held = unseen(bench, holdout)
    old = live(bench, held)
    read = time.monotonic()
    heads = fitted_heads(bench)
    losses, thumbs = {}, {}
    for number, name in enumerate(bench.names):
        stage.progress(number + 1, len(bench.names) + 1, f"training {name} on {len(train)} labels")
        losses[name], thumbs[name] = train_adapter(bench, name, number, heads[name])
    share = None
    if config.judge:
        share, thumbs[JUDGE] = shrink_judge(bench, thumbs[JUDGE])
    trained = time.monotonic()
    new = measured(bench, held, bench.shape.members, thumbs)
    choice = choose(config, reward_report.base_rate(train), held, new, old)
    version = finish(bench, held, keep(bench, choice, new, old))
    found = figures(config, train, held, version, old) | choice.as_dict()
    (stage.path("reward") / RELIABILITY).parent.mkdir(exist_ok=True)
    write_json(stage.path("reward") / RELIABILITY, found["holdout"]["reliability"])
    return found | {
        "train_labels": len(train),
        "ai_labels": len(extra),
        "train_loss": losses,
        "judge_share": share,
        "members": version.holdout.members,
        "members_begun": [name for name in bench.names if bench.warm and name not in bench.warm],
        "members_left_out": [name for name in bench.warm if name not in bench.names],
        "thumbs": {name: asdict(scale) for name, scale in version.holdout.thumbs.items()},
        "seconds": {"reading": read - started, "training": trained - read},
    }


def people(config: Config) -> tuple[list[Label], list[Label]]:
    """The labels of people: to train on, and held out. StageError where there is none to train on."""
    train, holdout = (
        [label for label in read_labels(path) if label.source != "ai"]
        for path in (config.train, config.holdout)
    )
    if not train:
        raise StageError("there is no label to train on")
    return newest(train, config.max_labels), holdout


def by_ai(config: Config, train: Sequence[Label], holdout: Sequence[Label]) -> list[Label]:
    """Labels by AI for the members; their weights are for people's comparisons of weight 1, and become so for
    those of `train` that the members learn from.

    None is of a conversation that is measured on. Nor does the judge learn from any: an AI's verdicts pay the
    policy too, as rule scores, and a policy that flattered the AI would then flatter the judge of the gate.
    """
    if config.extra is None:
        return []
    held_out = {label.conversation for label in holdout}
    mine, given = (
        [label for label in labels if not (config.judge and for_judge(label))]
        for labels in (train, read_labels(config.extra))
    )
    compared = [label.weight for label in mine if label.kind == "comparison"]
    usual = fmean(compared) if compared else 1.0
    return [
        replace(label, weight=usual * label.weight) for label in given if label.conversation not in held_out
    ]


def set_up(config: Config, stage: Stage, labels: list[Label]) -> Bench:
    live = None if config.init is None else read_shape(config.init)
    shape = shape_of(config) if live is None else replace(live, members=member_names(config.members))
    warm = () if live is None else with_judge(config, live.members)
    texts = Texts(config.base_model, shape.max_prompt, shape.max_reply)
    model = shape.build(config.base_model)
    names = with_judge(config, shape.members)
    stage.progress(0, len(names) + 1, f"reading {len(labels)} labels")
    features = label_features(model, texts, labels)
    return Bench(config, stage, shape, names, texts, model, labels, features, warm)


def shape_of(config: Config) -> Shape:
    return Shape(
        member_names(config.members),
        config.depth,
        config.upper,
        config.max_prompt,
        config.max_reply,
        config.early,
    )


def with_judge(config: Config, members: list[str]) -> list[str]:
    return members + ([JUDGE] if config.judge else [])


def unseen(bench: Bench, holdout: list[Label]) -> Unseen:
    return Unseen(
        Part(holdout, label_features(bench.model, bench.texts, holdout)),
        part_of(bench, judge=True),
        part_of(bench, judge=False),
    )


def part_of(bench: Bench, *, judge: bool) -> Part:
    """People's labels that the judge learns from, or the members; none where there is no judge to be told
    apart from."""
    rows = [
        row
        for row, label in enumerate(bench.labels)
        if bench.config.judge and label.source != "ai" and for_judge(label) == judge
    ]
    labels = of_unit_weight([bench.labels[row] for row in rows]) if rows else []
    return Part(labels, [bench.features[row] for row in rows])


def live(bench: Bench, held: Unseen) -> Measured | None:
    """The version to go on from, loaded and measured with the heads that it came with, before any is
    fitted anew; None for a first one."""
    init = bench.config.init
    if init is None:
        return None
    for name in bench.warm:
        bench.model.load(name, init, trainable=True)
    return measured(bench, held, read_shape(init).members, read_thumbs(init, bench.warm))


def measured(bench: Bench, held: Unseen, members: list[str], thumbs: Mapping[str, ThumbScale]) -> Measured:
    def of(part: Part, names: list[str]) -> Version:
        return Version(members, scored(bench, part.features, names), thumbs)

    judge = with_judge(bench.config, [])
    return Measured(
        of(held.holdout, [*members, *judge]), of(held.to_members, members), of(held.to_judge, judge)
    )


def scored(bench: Bench, features: LabelFeatures, names: Sequence[str]) -> dict[str, Floats]:
    replies = flat(features)
    return {name: bench.model.score(replies, name).double().numpy() for name in names}


def fitted_heads(bench: Bench) -> dict[str, Head]:
    """Of each member and the judge, fitted anew."""
    members = bench.shape.members
    scale, training = style_scale(bench), training_of(bench)
    found = fit_heads(*learnt_by(members[0], bench), scale, training, len(members))
    heads = dict(zip(members, found, strict=True))
    if bench.config.judge:
        own, others = learnt_by(JUDGE, bench), beside_the_judge(bench)
        (heads[JUDGE],) = fit_heads(*own, scale, training, 1, others)
    return heads


def training_of(bench: Bench, number: int = 0) -> Training:
    """Of the adapter of that number."""
    given = bench.config.model_dump(include={field.name for field in fields(Training)} - {"seed"})
    return Training(**given, seed=bench.config.seed + number)


def learnt_by(name: str, bench: Bench) -> tuple[list[Label], LabelFeatures]:
    """What a member, or the judge, learns from, as much as it weighs."""
    rows = rows_of(name, bench.labels, bench.config.judge)
    labels = of_unit_weight(beside_ai([bench.labels[row] for row in rows]))
    return labels, [bench.features[row] for row in rows]


def train_adapter(bench: Bench, name: str, number: int, head: Head) -> tuple[float, ThumbScale]:
    """One member, or the judge, beside its head, saved: the mean loss of the run, and what a thumb up
    takes."""
    config, start = bench.config, ThumbScale()
    if config.init is not None and name in bench.warm:
        start = read_thumbs(config.init, [name])[name]
    else:
        torch.manual_seed(config.seed + number)
        bench.model.add(name, bench.model.rank if bench.warm else config.rank)
    bench.model.activate(name)
    bench.model.heads[name] = head
    trained = reward_trainer.fit(
        bench.model,
        *learnt_by(name, bench),
        start,
        training_of(bench, number),
        bench.stage.path("trainer"),
        bench.texts.tokenizer,
    )
    bench.model.save(name, bench.stage.path("reward"))
    return trained


def beside_the_judge(bench: Bench) -> tuple[list[Label], LabelFeatures] | None:
    """People's labels that the members learn from, where there are any: the judge has few of its own to tell
    how wide looks spread. That says nothing of which it should like."""
    others = part_of(bench, judge=False)
    return (others.labels, others.features) if others.labels else None


def shrink_judge(bench: Bench, scale: ThumbScale) -> tuple[float, ThumbScale]:
    """Believe the new judge's adapter as far as the members' labels bear it out, none of which a judge has
    learnt. That says how far it counts, and not which way it points, so it still judges by its own labels.

    What it adds to all thumbed replies alike goes into what a thumb up takes: that is not the adapter's to
    lose.
    """
    others = part_of(bench, judge=False)
    labels, replies = others.labels, flat(others.features)
    frozen = bench.model.frozen_rewards(replies, JUDGE).double().numpy()
    added = bench.model.score(replies, JUDGE).double().numpy() - frozen
    thumbed = [label.kind == "thumb" for label in labels]
    usual = float(added[: len(labels)][thumbed].mean()) if any(thumbed) else 0.0
    share = believed(labels, frozen, added - usual, replace(scale, b=scale.b + scale.a * usual))
    bench.model.shrink(JUDGE, share)
    bench.model.save(JUDGE, bench.stage.path("reward"))
    return share, replace(scale, b=scale.b + scale.a * usual * (1 - share))


def style_scale(bench: Bench) -> Scale:
    """Of the replies that are trained on, for all adapters alike. Heads are fitted anew each time, so a
    feature counts as soon as it varies, though it never did before."""
    return Scale.of([reply.style for replies in bench.features for reply in replies])


def keep(bench: Bench, choice: Choice, new: Measured, old: Measured | None) -> Measured:
    """The new version with what is not accepted as it is in the live one; without either, the new one."""
    if old is None or not (choice.members.accepted or choice.judge):
        return new
    members, judge = (new if accepted else old for accepted in (choice.members.accepted, choice.judge))
    version = members.with_those_of(judge, [JUDGE])
    names = version.holdout.rewards
    kept = [name for name in names if not (choice.judge if name == JUDGE else choice.members.accepted)]
    init, folder = bench.config.init, bench.stage.path("reward")
    assert init is not None
    for name in kept:
        shutil.copytree(init / name, folder / name, dirs_exist_ok=True)
        head = read_head(init, name)
        if head is None:
            bench.model.heads.pop(name, None)
        else:
            bench.model.heads[name] = head
    for name in bench.names:
        if name not in names:
            shutil.rmtree(folder / name)
    return version


def finish(bench: Bench, held: Unseen, version: Measured) -> Measured:
    """The whole version, saved: the members' average too, and what all adapters were built with."""
    folder, members = bench.stage.path("reward"), version.holdout.members
    heads = {name: head for name, head in bench.model.heads.items() if name in version.holdout.rewards}
    warm.average(folder, members)
    bench.model.load(WARM, folder, trainable=False)
    of_members = [heads[name] for name in members if name in heads]
    if of_members:
        bench.model.heads[WARM] = heads[WARM] = mean_head(of_members)
    write_heads(folder, heads)
    thumbs = version.holdout.thumbs
    scales = {WARM: mean_scale([thumbs[name] for name in members])}
    replace(bench.shape, members=members).write(folder)
    write_thumbs(folder, {**thumbs, **scales})
    averaged = Version(members, scored(bench, held.holdout.features, [WARM]), scales)
    return replace(version, holdout=version.holdout.with_those_of(averaged, [WARM]))


def rows_of(name: str, labels: Sequence[Label], judge: bool) -> list[int]:
    """Which labels a member, or the judge, learns from. StageError where it would be none: a judge that
    learnt what the members learnt could not tell a better reply from one that flatters them."""
    rows = [row for row, label in enumerate(labels) if not judge or for_judge(label) == (name == JUDGE)]
    if not rows:
        raise StageError(
            f"none of the {len(labels)} labels is for {name}, since they come from too few conversations: "
            "rate answers in more of them"
        )
    return rows


def of_unit_weight(labels: Sequence[Label]) -> list[Label]:
    """The labels with weights that are 1 on average, as they are not any more in a part of all."""
    mean = sum(label.weight for label in labels) / len(labels)
    return [replace(label, weight=label.weight / mean) for label in labels]


def choose(config: Config, blind: float, held: Unseen, new: Measured, old: Measured | None) -> Choice:
    """Who is accepted. `blind`: the logit of a thumb up that one would say who sees no reply.

    What decides of the members is measured on all labels that the members of neither version learnt from,
    which is twice as many as the holdout has; of the judge, where the holdout cannot tell, likewise.
    """

    def gain(labels: Sequence[Label], logits: Callable[[Measured], Floats], confidence: float) -> Gain | None:
        now, *before = (
            reward_report.measure(labels, logits(version), blind)[0] for version in (new, old) if version
        )
        return reward_gate.paired_gain(now, before[0] if before else None, confidence)

    def on_holdout(version: Measured, names: Sequence[str]) -> Floats:
        return version.holdout.logits(held.holdout.labels, names)

    first = old is None
    wide = gain(held.by_members(), lambda version: version.by_members(held), config.confidence)
    veto = gain(
        held.holdout.labels,
        lambda version: on_holdout(version, version.holdout.members),
        reward_gate.SURELY,
    )
    verdict = reward_gate.judge_reward(wide, first, config.confidence, veto)
    judges = None
    if config.judge:
        judges = reward_gate.telling(
            gain(held.holdout.labels, lambda version: on_holdout(version, [JUDGE]), reward_gate.SURELY),
            gain(held.by_judge(), lambda version: version.by_judge(held), config.confidence),
        )
    follows = reward_gate.judge_follows(judges, first, verdict.accepted)
    return Choice(verdict, wide, follows, judges)


def figures(
    config: Config, train: Sequence[Label], held: Unseen, version: Measured, old: Measured | None
) -> dict[str, Any]:
    """What a version is worth, and the one before it, on the holdout."""
    blind, holdout, found = reward_report.base_rate(train), held.holdout.labels, version.holdout
    logits = found.logits(holdout, found.members)
    wide = reward_report.measure(held.by_members(), version.by_members(held), blind)[1]

    def of(measured: Version, names: Sequence[str]) -> dict[str, Any]:
        return reward_report.measure(holdout, measured.logits(holdout, names), blind)[1]

    before = None if old is None else old.holdout
    judged = before is not None and JUDGE in before.rewards
    alone = {name: of(found, [name]) for name in found.rewards if name not in found.members}
    return {
        "holdout": of(found, found.members),
        "previous": of(before, before.members) if before else None,
        "previous_judge": of(before, [JUDGE]) if before and judged else None,
        "unseen": {key: value for key, value in wide.items() if key != "reliability"},
        **alone,
        "on_policy": reward_report.on_policy(holdout, logits, config.policy),
        "length_only": reward_report.length_only(train, holdout),
        "agreement": reward_report.agreement(holdout, [found.rewards[name] for name in found.members]),
    }


if __name__ == "__main__":
    run(Config, main)
