"""The reward model from people's labels: train.parquet, holdout.parquet → reward/, with a folder a member.

    python -m workers.stages.train_reward DIR

One scalar r(x, y) a member, trained on comparisons (Bradley-Terry) and thumbs (logistic) at once. The members
see two thirds of the conversations, the judge the other third: it never rewards, so it can be asked who is
better. From `init` it goes on where the live version stands. Accepted only if it predicts the holdout better
than `init`.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from workers import gate, objectives
from workers.device import device
from workers.labels import Label, read_labels
from workers.policy_model import assert_moved, assert_trainable, trainable_hash
from workers.reward_model import JUDGE, Features, RewardModel, Texts, collate, forward, member_names
from workers.scoring import Shape, read_shape
from workers.stage import Stage, StageConfig, StageError, run

SCALES = [0.0, *(2.0**power for power in range(-6, 3))]


class Config(StageConfig):
    """`depth`: the share of the base's layers that are used, `upper`: how many of those carry the adapter
    (both only where there is no `init`, whose shape holds). `shrink`: weight of the rewards' mean square,
    which keeps few labels from making it too sure of itself. `epochs`: passes over the labels, each
    member.
    """

    base_model: str
    init: Path | None
    train: Path
    holdout: Path
    members: int = 2
    judge: bool = True
    rank: int = 8
    depth: float = 0.34
    upper: int = 3
    learning_rate: float = 3e-3
    epochs: float = 6.0
    batch: int = 8
    smoothing: float = 0.05
    shrink: float = 0.03
    max_labels: int = 512
    max_prompt: int = 512
    max_reply: int = 512
    seed: int = 0


class LabelTrainer(RewardTrainer):
    """TRL's reward trainer on labels of both kinds; rows are indices into `labels` and `features`."""

    def __init__(
        self,
        *,
        labels: Sequence[Label],
        features: Sequence[tuple[Features, ...]],
        smoothing: float,
        shrink: float,
        **given: Any,
    ):
        self._labels, self._features = labels, features
        self._smoothing, self._shrink = smoothing, shrink
        super().__init__(data_collator=self._collate, **given)

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["row"]  # type: ignore[assignment]

    def _collate(self, rows: list[dict[str, int]]) -> dict[str, Tensor]:
        return label_batch(
            [self._labels[row["row"]] for row in rows], [self._features[row["row"]] for row in rows]
        )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        rewards = forward(model, inputs)
        losses = label_losses(rewards, inputs, self._smoothing)
        weighted = (losses * inputs["weight"]).sum() / inputs["weight"].sum().clamp(min=1e-6)
        return weighted + self._shrink * rewards.square().mean()


def label_batch(labels: Sequence[Label], features: Sequence[tuple[Features, ...]]) -> dict[str, Tensor]:
    """Labels as tensors: features of all `a` replies, then of the `b` replies of comparisons; `pair` marks
    comparisons."""
    flat = [pair[0] for pair in features] + [pair[1] for pair in features if len(pair) == 2]
    return collate(flat) | {
        "pair": torch.tensor([label.kind == "comparison" for label in labels]),
        "target": torch.tensor([label.target for label in labels], dtype=torch.float32),
        "margin": torch.tensor([label.margin for label in labels], dtype=torch.float32),
        "weight": torch.tensor([label.weight for label in labels], dtype=torch.float32),
    }


def label_losses(rewards: Tensor, batch: dict[str, Tensor], smoothing: float) -> Tensor:
    """Each label's loss in nats, (labels,), from the rewards of `label_batch`'s replies."""
    pair, target, n = batch["pair"], batch["target"], len(batch["pair"])
    r_a, r_b = rewards[:n], rewards[n:]
    losses = objectives.thumb_logistic(r_a, target, smoothing)
    if pair.any():
        bt = objectives.bradley_terry(r_a[pair], r_b, target[pair], batch["margin"][pair], smoothing)
        losses = losses.masked_scatter(pair, bt)
    return losses


def main(config: Config, stage: Stage) -> dict[str, Any]:
    train, holdout = newest(read_labels(config.train), config.max_labels), read_labels(config.holdout)
    if not train:
        raise StageError("there is no label to train on")
    shape = read_shape(config.init) if config.init is not None else shape_of(config)
    names = shape.members + ([JUDGE] if config.judge else [])
    texts = Texts(config.base_model, shape.max_prompt, shape.max_reply)
    model = RewardModel(config.base_model, shape.depth, shape.upper)
    steps = len(names) + 1
    stage.progress(0, steps, f"reading {len(train)} labels")
    features = label_features(model, texts, train)
    held = label_features(model, texts, holdout)
    previous = None
    if config.init is not None:
        for name in names:
            model.load(name, config.init, trainable=True)
        previous = ensemble(model, names, held)
    losses = {}
    for number, name in enumerate(names):
        stage.progress(number + 1, steps, f"training {name} on {len(train)} labels")
        if config.init is None:
            torch.manual_seed(config.seed + number)
            model.add(name, config.rank)
        model.activate(name)
        rows = rows_of(name, train, config.judge)
        losses[name] = fit(model, train, features, rows, config, stage, number)
        model.save(name, stage.path("reward"))
    shape.write(stage.path("reward"))
    return verdict(holdout, ensemble(model, names, held), previous, names) | {
        "train_labels": len(train),
        "train_loss": losses,
    }


def shape_of(config: Config) -> Shape:
    return Shape(
        member_names(config.members), config.depth, config.upper, config.max_prompt, config.max_reply
    )


def newest(labels: list[Label], count: int) -> list[Label]:
    return sorted(labels, key=lambda label: label.time)[-count:]


def for_judge(label: Label) -> bool:
    """A third of the conversations, the same in every cycle, so that no member ever learns from what the
    judge learns from."""
    return hashlib.sha256(f"judge:{label.conversation}".encode()).digest()[0] % 3 == 0


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


def label_features(model: RewardModel, texts: Texts, labels: Sequence[Label]) -> list[tuple[Features, ...]]:
    """For each label the features of `a`, and of `b` where it is a comparison."""
    sequences, counts = [], []
    for label in labels:
        sequences.append(texts.of_reply(label.messages, label.a, label.a_finish))
        if label.kind == "comparison":
            sequences.append(texts.of_reply(label.messages, label.b or "", label.b_finish or "stop"))
        counts.append(2 if label.kind == "comparison" else 1)
    flat = iter(model.features(sequences))
    return [tuple(next(flat) for _ in range(count)) for count in counts]


def fit(
    model: RewardModel,
    labels: Sequence[Label],
    features: Sequence[tuple[Features, ...]],
    rows: list[int],
    config: Config,
    stage: Stage,
    number: int,
) -> float:
    """Train the active member on `rows`; the mean loss of the run, nats. StageError when it did not move or
    blew up."""
    peft = model.peft
    assert peft is not None, "add or load a member first"
    assert_trainable(peft)
    before = trainable_hash(peft)
    random.Random(config.seed + number).shuffle(rows)
    trainer = LabelTrainer(
        labels=labels,
        features=features,
        smoothing=config.smoothing,
        shrink=config.shrink,
        model=peft,
        processing_class=Texts(config.base_model, config.max_prompt, config.max_reply).tokenizer,
        train_dataset=Dataset.from_dict({"row": rows}),
        args=RewardConfig(
            output_dir=str(stage.path("trainer")),
            use_cpu=device().type == "cpu",
            bf16=False,
            gradient_checkpointing=False,
            learning_rate=config.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0,  # a first step at rate 0 would be the only one where labels are few
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch,
            max_grad_norm=1.0,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=config.seed + number,
        ),
    )
    loss = float(trainer.train().training_loss)
    if not math.isfinite(loss):
        raise StageError("the reward model's loss is not finite: lower the learning rate")
    assert_moved(before, trainable_hash(peft))
    return loss


def ensemble(
    model: RewardModel, names: Sequence[str], held: Sequence[tuple[Features, ...]]
) -> dict[str, Tensor]:
    """The held-out labels' rewards by each adapter: name → (replies,), replies in `label_batch`'s order."""
    flat = [pair[0] for pair in held] + [pair[1] for pair in held if len(pair) == 2]
    return {name: model.score(flat, name) if flat else torch.empty(0) for name in names}


def verdict(
    holdout: Sequence[Label], new: dict[str, Tensor], old: dict[str, Tensor] | None, names: Sequence[str]
) -> dict[str, Any]:
    """metrics.json: whether the new version is accepted, and both versions on the holdout."""
    members = [name for name in names if name != JUDGE]
    now, now_metrics = measure(holdout, torch.stack([new[name] for name in members]).mean(0))
    metrics: dict[str, Any] = {"holdout": now_metrics, "previous": None}
    before = None
    if old is not None:
        before, metrics["previous"] = measure(holdout, torch.stack([old[name] for name in members]).mean(0))
    if JUDGE in names:
        metrics["judge"] = measure(holdout, new[JUDGE])[1]
    decision = gate.judge_reward(now, before)
    return {"accepted": decision.accepted, "reasons": decision.reasons} | metrics


def measure(holdout: Sequence[Label], rewards: Tensor) -> tuple[gate.RewardEvidence, dict[str, Any]]:
    """How well rewards predict labels. Ties count for the loss and the calibration, not for the accuracy.

    The losses that decide are those at the best of a few scales of the reward: what is done with it does not
    depend on its scale, and a model that ranks well but is too sure is not a worse one. At scale 0 they are
    those of chance.
    """
    n = len(holdout)
    second = iter(rewards[n:].tolist())
    gaps = [
        first - next(second) if label.kind == "comparison" else first
        for label, first in zip(holdout, rewards[:n].tolist(), strict=True)
    ]
    logits = torch.tensor(gaps, dtype=torch.float64)
    target = torch.tensor([label.target for label in holdout], dtype=torch.float64)
    raw = binary_cross_entropy_with_logits(logits, target, reduction="none")
    scaled = [binary_cross_entropy_with_logits(scale * logits, target, reduction="none") for scale in SCALES]
    losses = min(scaled, key=lambda row: float(row.sum())).tolist()
    said = logits.sigmoid()
    decided = [(gap, label) for gap, label in zip(gaps, holdout, strict=True) if label.target != 0.5]
    won = [(gap > 0) == (label.target > 0.5) for gap, label in decided if label.kind == "comparison"]
    thumbs = [(gap, label.target > 0.5) for gap, label in decided if label.kind == "thumb"]
    accuracy = sum(won) / len(won) if won else None
    area = gate.auroc([gap for gap, _ in thumbs], [up for _, up in thumbs])
    return gate.RewardEvidence(losses, accuracy, area), {
        "pair_accuracy": accuracy,
        "pair_accuracy_interval": list(gate.wilson_interval(sum(won), len(won))),
        "pairs": len(won),
        "thumb_auroc": area,
        "thumbs": len(thumbs),
        "ece": gate.calibration_error(said.tolist(), target.tolist()),
        "log_loss": float(raw.mean()) if n else None,
        "log_loss_scaled": sum(losses) / n if n else None,
    }


if __name__ == "__main__":
    run(Config, main)
