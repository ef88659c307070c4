"""TRL's reward trainer, for labels of both kinds. Torch; imported by stages only.

A row of its data set is a batch: the labels' numbers. Replies of like length are put together, and the
batches come in a random order.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from workers import objectives
from workers.device import device
from workers.labels import Label
from workers.policy.model import assert_finite, assert_moved, assert_trainable, trainable_hash
from workers.reward import style
from workers.reward.model import Features, RewardModel, Texts, collate, forward, mean_states
from workers.reward.style import Head, Scale
from workers.reward.thumb_scale import ThumbScale
from workers.reward.thumbs import Thumbs
from workers.stage import StageError

NEXT_TO_NOTHING = 0.01  # of what is believed: not worth a fit
STATE_SPREADS = (0.0, 0.3, 0.6, 1.0, 2.0)  # logits a standard deviation of what the states say, by the prior
_SORTED = 8  # batches whose labels are sorted by length together: little padding, and still much chance

LabelFeatures = Sequence[tuple[Features, ...]]  # a label's `a`, and `b` where it is a comparison


@dataclass(frozen=True)
class Training:
    """`epochs`: passes over the labels, and more where they would be fewer than `min_steps` steps. `shrink`:
    weight of the mean square of what a member adds to its head's reward, which keeps few labels from making
    it too sure of itself."""

    learning_rate: float
    epochs: float
    min_steps: int
    batch: int
    smoothing: float
    shrink: float
    seed: int


def label_features(model: RewardModel, texts: Texts, labels: Sequence[Label]) -> LabelFeatures:
    """For each label the features of `a`, and of `b` where it is a comparison."""
    sequences, counts = [], []
    for label in labels:
        sequences.append(texts.of_reply(label.messages, label.a, label.a_finish))
        if label.kind == "comparison":
            sequences.append(texts.of_reply(label.messages, label.b or "", label.b_finish or "stop"))
        counts.append(2 if label.kind == "comparison" else 1)
    flat = iter(model.features(sequences))
    return [tuple(next(flat) for _ in range(count)) for count in counts]


def fit_heads(
    labels: Sequence[Label],
    features: LabelFeatures,
    scale: Scale,
    training: Training,
    members: int = 1,
    others: tuple[Sequence[Label], LabelFeatures] | None = None,
) -> list[Head]:
    """What raters make of how replies look, and of what the frozen layers see in them, fitted to `labels`,
    for each of some members: how they look with the spread that predicts best, and beside it the states, with
    several spreads that are believed as far as they predict. All are convex fits, which make more of a
    hundred labels than gradient steps do.

    Of several members each weighs the labels at random (the Bayesian bootstrap, Rubin 1981), by
    `training.seed` and its number, so that their spread tells how sure they are. Such a fit is worth half of
    its labels, and the mean of few hardly more, so all are moved alike until their mean is the fit to the
    labels as they weigh. `others`: labels that have a say in how wide looks spread, and in nothing else.
    """
    own = _Columns(labels, features, scale, training.smoothing)
    seen = [(own.told, own.conversations)]
    if others is not None:
        told = looks_of(*others, scale, training.smoothing)
        seen.append((told, [label.conversation for label in others[0]]))
    spread = style.best_spread(seen, training.seed)
    ways = own.ways(spread)
    believed = style.credences(ways, own.conversations, training.seed)
    count = own.told.a.shape[1]

    def fitted(chance: style.Matrix) -> style.Matrix:
        """Weights of looks and of states, for labels that count so many times what they weigh."""
        weights = np.zeros(ways[0].a.shape[1])
        for share, wide, way in zip(believed, STATE_SPREADS, ways, strict=True):
            if share > NEXT_TO_NOTHING:
                found = style.fit(replace(way, weight=chance * own.told.weight), 1.0).weights
                weights += share * np.hstack([spread * found[:count], wide * found[count:]])
        return weights

    whole = fitted(np.ones(len(labels)))
    drawn = [whole]
    if members > 1:
        seeds = range(training.seed, training.seed + members)
        drawn = [fitted(np.random.default_rng(seed).exponential(size=len(labels))) for seed in seeds]
    moved = whole - np.mean(drawn, 0)
    return [
        Head(scale, weights[:count].tolist(), own.states.read_out(weights[count:]).tolist())
        for weights in (one + moved for one in drawn)
    ]


class _Columns:
    """Labels as the numbers that a head is fitted to: `told` of how the replies look, and their `states`."""

    def __init__(
        self, labels: Sequence[Label], features: LabelFeatures, scale: Scale, smoothing: float
    ) -> None:
        self.told = looks_of(labels, features, scale, smoothing)
        self.conversations = [label.conversation for label in labels]
        rows = mean_states(flat(features)).double().numpy()
        self.states = style.States.of(rows)
        self._a, self._b = _sides(self.states(rows), self.told.pair)

    def ways(self, spread: float) -> list[style.Told]:
        """Looks with this spread, and the states with each of `STATE_SPREADS`, all in units of theirs."""
        looks = replace(self.told, a=spread * self.told.a, b=spread * self.told.b)
        return [
            replace(looks, a=np.hstack([looks.a, wide * self._a]), b=np.hstack([looks.b, wide * self._b]))
            for wide in STATE_SPREADS
        ]


def looks_of(labels: Sequence[Label], features: LabelFeatures, scale: Scale, smoothing: float) -> style.Told:
    """What labels say of how replies look."""
    pair = np.array([float(len(replies) == 2) for replies in features])
    target = np.array([label.target for label in labels])
    raters, rater = np.unique([label.rater for label in labels], return_inverse=True)
    a, b = _sides(scale([reply.style for reply in flat(features)]), pair)
    return style.Told(
        a=a,
        b=b,
        target=(1 - smoothing) * target + smoothing / 2,
        weight=np.array([label.weight for label in labels]),
        pair=pair,
        lead=np.array([label.margin for label in labels]) * (2 * target - 1) * pair,
        rater=rater,
        raters=len(raters),
    )


def _sides(rows: style.Matrix, pair: style.Matrix) -> tuple[style.Matrix, style.Matrix]:
    """Numbers of `flat` replies by label, (labels, d) each: of `a`, and of `b`, zeros where there is none."""
    a = rows[: len(pair)]
    b = np.zeros_like(a)
    b[pair == 1] = rows[len(pair) :]
    return a, b


def fit(
    model: RewardModel,
    labels: Sequence[Label],
    features: LabelFeatures,
    start: ThumbScale,
    training: Training,
    folder: Path,
    tokenizer: Any,
) -> tuple[float, ThumbScale]:
    """Train the active member on `labels`, which weigh 1 on average, beside its head; the mean loss of
    the run in nats, and what a thumb up takes. StageError when it did not move or blew up."""
    peft = model.peft
    assert peft is not None, "add or load a member first"
    assert_trainable(peft)
    before = trainable_hash(peft)
    thumbs = Thumbs([label.rater for label in labels], start).to(device())
    thumbs.fit(labels, model.score([pair[0] for pair in features], model.active), training.smoothing)
    model.activate(model.active)
    peft.add_module("thumbs", thumbs)  # so that the one optimiser has it, and clears its gradients
    trainer = LabelTrainer(
        labels=labels,
        features=features,
        frozen=partial(model.frozen_rewards, name=model.active),
        thumbs=thumbs,
        training=training,
        model=peft,
        processing_class=tokenizer,
        train_dataset=Dataset.from_dict({"rows": batches(labels, features, training)}),
        args=_arguments(training, folder),
    )
    loss = float(trainer.train().training_loss)
    if not math.isfinite(loss):
        raise StageError("the reward model's loss is not finite: lower the learning rate")
    assert_finite(peft)
    del peft.thumbs
    assert_moved(before, trainable_hash(peft))
    return loss, thumbs.scale


def batches(labels: Sequence[Label], features: LabelFeatures, training: Training) -> list[list[int]]:
    """The labels' numbers, batch after batch: some passes over all of them, each in an order of its own."""
    dice, size = random.Random(training.seed), training.batch
    a_pass = math.ceil(len(labels) / size)
    steps = max(math.ceil(training.epochs * a_pass), training.min_steps)
    lengths = [max(len(reply.states) for reply in pair) for pair in features]
    found: list[list[int]] = []
    while len(found) < steps:
        order = dice.sample(range(len(labels)), len(labels))
        groups = [order[at : at + size * _SORTED] for at in range(0, len(order), size * _SORTED)]
        sorted_groups = [sorted(group, key=lambda row: lengths[row]) for group in groups]
        drawn = [group[at : at + size] for group in sorted_groups for at in range(0, len(group), size)]
        dice.shuffle(drawn)
        found += drawn
    return found[:steps]


class LabelTrainer(RewardTrainer):
    """`labels` and their `features` by number; `thumbs` must be a part of the model."""

    def __init__(
        self,
        *,
        labels: Sequence[Label],
        features: LabelFeatures,
        frozen: Callable[[Sequence[Features]], Tensor],
        thumbs: Thumbs,
        training: Training,
        **given: Any,
    ):
        self._labels, self._features, self._thumbs = labels, features, thumbs
        self._frozen, self._training = frozen, training
        super().__init__(data_collator=self._collate, **given)

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["rows"]  # type: ignore[assignment]

    def _collate(self, batch: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        rows = batch[0]["rows"]
        labels = [self._labels[row] for row in rows]
        features = [self._features[row] for row in rows]
        given = {
            "frozen": self._frozen(flat(features)),
            "rater": self._thumbs.raters(labels),
        }
        return label_batch(labels, features) | given

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """(1/n) Σ w·loss + shrink · mean (r - frozen)² + the thumbs' prior, once for all N labels: / N.

        Divided by the number of labels, not by their weight: else a batch of a loud rater's labels would
        count as much as any other.
        """
        added, training = forward(model, inputs), self._training
        rewards = added + inputs["frozen"].to(added.device)
        losses = label_losses(rewards, inputs, self._thumbs, training.smoothing)
        weighted = (losses * inputs["weight"]).mean()
        prior = self._thumbs.prior() / len(self._labels)
        return weighted + training.shrink * added.square().mean() + prior


def label_batch(labels: Sequence[Label], features: LabelFeatures) -> dict[str, Tensor]:
    """Labels as tensors: features of all `a` replies, then of the `b` replies of comparisons; `pair` marks
    comparisons."""
    return collate(flat(features)) | {
        "pair": torch.tensor([label.kind == "comparison" for label in labels]),
        "target": torch.tensor([label.target for label in labels], dtype=torch.float32),
        "margin": torch.tensor([label.margin for label in labels], dtype=torch.float32),
        "weight": torch.tensor([label.weight for label in labels], dtype=torch.float32),
    }


def flat(features: LabelFeatures) -> list[Features]:
    """The `a` of each label, and then the `b` of comparisons."""
    return [pair[0] for pair in features] + [pair[1] for pair in features if len(pair) == 2]


def label_losses(rewards: Tensor, batch: dict[str, Tensor], thumbs: Thumbs, smoothing: float) -> Tensor:
    """Each label's loss in nats, (labels,), from the rewards of `label_batch`'s replies and the labels'
    raters."""
    pair, target, n = batch["pair"], batch["target"], len(batch["pair"])
    r_a, r_b = rewards[:n], rewards[n:]
    losses = thumbs.loss(r_a, target, batch["rater"], smoothing)
    if pair.any():
        bt = objectives.bradley_terry(r_a[pair], r_b, target[pair], batch["margin"][pair], smoothing)
        losses = losses.masked_scatter(pair, bt)
    return losses


def _arguments(training: Training, folder: Path) -> RewardConfig:
    return RewardConfig(
        output_dir=str(folder),
        use_cpu=device().type == "cpu",
        bf16=False,
        gradient_checkpointing=False,
        learning_rate=training.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0,  # a first step at rate 0 would be the only one where labels are few
        num_train_epochs=1,  # the batches of all passes
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        max_grad_norm=1.0,
        logging_strategy="no",
        logging_nan_inf_filter=False,  # else a NaN is told as the mean of the others
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=training.seed,
    )
