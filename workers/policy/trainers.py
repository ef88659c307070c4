"""TRL's trainers on replies that the engines sampled, and what all of them share. Torch; for stages only.

Each is TRL's own but for where its rows come from: they are token ids already, with the log-probabilities of
the policy that wrote them, so nothing is generated and nothing is tokenised again. The forward that they all
call is that of `workers.packing`.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Protocol

import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.sft_trainer import SFTTrainer

from workers.device import device
from workers.packing import IGNORED, Reply
from workers.policy import objectives as policy_objectives
from workers.policy.model import assert_finite

NEAREST = 1 / 64  # of a way that was too far: less of it is none
BACK = 0.95  # of the way that is expected to be within the bounds
# A KL grows with the square of the way, but where restoring took the first order of it away, with about its
# fourth power (3.7 in two rounds of SmolLM2-135M).
RESTORED = 4
HARDLY = 1.02  # times the way: what is to go so little further is where it should be
FURTHEST = 4.0  # times the way that its steps went, of a policy that is taken further
AHEAD = 1.1  # times the way that is due by a step, from which on it is shortened
# What restoring plain texts leaves of their bound, since they hold back what is to be learnt too.
ROOM = 0.5


class Prepared:
    """Mixed into a trainer: its dataset is as it should be."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


class EvenBatches(BatchSampler):
    """Batches of at most `batch_size` rows that are as even as they can be. A last one of a few rows would
    make a step at the whole learning rate too, and be mostly noise."""

    def __init__(self, sampler: Sampler[int], batch_size: int) -> None:
        super().__init__(sampler, batch_size, drop_last=False)

    def __iter__(self) -> Iterator[list[int]]:
        rows, batches = list(self.sampler), len(self)
        for number in range(batches):
            yield rows[number * len(rows) // batches : (number + 1) * len(rows) // batches]


class Evenly:
    """Mixed into a trainer: its batches are `EvenBatches`."""

    def get_train_dataloader(self) -> Any:
        plain = super().get_train_dataloader()  # type: ignore[misc]
        batches = EvenBatches(plain.batch_sampler.sampler, plain.batch_sampler.batch_size)
        loader = DataLoader(plain.dataset, batch_sampler=batches, collate_fn=plain.collate_fn)
        return self.accelerator.prepare(loader)  # type: ignore[attr-defined]


class Aside(Protocol):
    """What a policy learns beside the samples."""

    def loss(self, model: Any) -> Tensor:
        """A part of a step's loss, a scalar; each call takes the next texts."""


class WithAsides:
    """Mixed into a trainer: each step also learns from texts that the engines did not sample. `asides` is set
    before training; without it nothing is added."""

    asides: Sequence[Aside] = ()

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        loss: Tensor = super().training_step(model, inputs, num_items_in_batch)  # type: ignore[misc]
        for aside in self.asides:
            said = aside.loss(model) / self.args.gradient_accumulation_steps  # type: ignore[attr-defined]
            self.accelerator.backward(said)  # type: ignore[attr-defined]
            loss = loss + said.detach()
        return loss


class Rated:
    """What people rated well is said more often: the role of PPO-ptx in InstructGPT (arXiv 2203.02155).
    `share`: the weight of its mean loss; `size`: replies a step."""

    def __init__(self, replies: Sequence[Reply], share: float, size: int, pad_id: int, seed: int) -> None:
        self._replies, self._share, self._pad = list(replies), share, pad_id
        self._turns = turns(len(replies), size, seed)

    def loss(self, model: Any) -> Tensor:
        batch = padded([self._replies[row] for row in next(self._turns)], self._pad)
        said: Tensor = self._share * model(**batch, fused_lm_head=True).loss
        return said


class Plain:
    """Texts that stay as likely as they are to the base: `share` · mean ½ (log π - log π_ref)², by tokens
    (`policy_objectives.kl_k2`). `base`: log π_ref of each reply's tokens; `size`: replies a step.

    What raters ask about is a small part of what a policy may be asked, and what it learns there, such as to
    go on after a short answer, it learns for everything, unless something says otherwise.
    """

    def __init__(
        self,
        replies: Sequence[Reply],
        base: Sequence[Tensor],
        share: float,
        size: int,
        pad_id: int,
        seed: int,
    ) -> None:
        self._replies, self._base, self._share, self._pad = list(replies), list(base), share, pad_id
        self._turns = turns(len(replies), size, seed)

    def loss(self, model: Any) -> Tensor:
        rows = next(self._turns)
        found = model(**padded([self._replies[row] for row in rows], self._pad), fused_lm_head=True)
        now = found.log_probs[found.label_mask]
        base = torch.cat([self._base[row] for row in rows]).to(now.device)
        return self._share * policy_objectives.kl_k2(now - base)


def turns(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """`size` numbers below `count` at a time, for ever; all of them before one comes again."""
    dice = random.Random(seed)
    order: list[int] = []
    while True:
        while len(order) < size:
            order += dice.sample(range(count), count)
        yield order[:size]
        order = order[size:]


def padded(replies: Sequence[Reply], pad_id: int) -> dict[str, Tensor]:
    """`input_ids`, `attention_mask` and `labels`, (n, t), padded on the right; prompts are not scored."""
    longest = max(len(reply.prompt) + len(reply.tokens) for reply in replies)
    ids = torch.full((len(replies), longest), pad_id)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for row, reply in enumerate(replies):
        first, last = len(reply.prompt), len(reply.prompt) + len(reply.tokens)
        ids[row, :last] = torch.tensor([*reply.prompt, *reply.tokens])
        mask[row, :last] = 1
        labels[row, first:last] = ids[row, first:last]
    here = device()
    return {"input_ids": ids.to(here), "attention_mask": mask.to(here), "labels": labels.to(here)}


class SampledDPO(WithAsides, Evenly, Prepared, DPOTrainer):
    pass


class SampledKTO(WithAsides, Prepared, KTOTrainer):
    pass


class SampledSFT(WithAsides, Evenly, Prepared, SFTTrainer):
    pass


class _Sampled:
    """Mixed into a policy gradient trainer: `batch` stands in for what it would generate and score."""

    def __init__(self, *, batch: dict[str, Tensor], **given: Any) -> None:
        self._batch = batch
        super().__init__(reward_funcs=_no_reward, **given)  # type: ignore[call-arg]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        k = int(self.num_generations or 1)  # type: ignore[attr-defined]
        rows = occurrences([row["prompt"] for row in inputs], k)
        found = {key: value[rows].to(device()) for key, value in self._batch.items()}
        return found | {"num_items_in_batch": found["completion_mask"].sum()}


class SampledGRPO(WithAsides, _Sampled, GRPOTrainer):
    """TRL's GRPO; `old_per_token_logps` are those of the engines, so its ratios are π / π_sampling."""


class SampledRLOO(WithAsides, _Sampled, RLOOTrainer):
    """TRL's RLOO with one importance ratio a token, see `policy_objectives.rloo_loss`."""

    def __init__(self, *, epsilon: float, **given: Any) -> None:
        self._clip = epsilon
        super().__init__(**given)

    def _compute_loss(self, model: Any, inputs: dict[str, Tensor]) -> Tensor:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
        logps, entropies, _ = self._get_per_token_logps_and_entropies(
            model, ids, mask, inputs["completion_ids"].shape[1], compute_entropy=True
        )
        scored = inputs["completion_mask"]
        self._metrics["train"]["entropy"].append(float((entropies * scored).sum() / scored.sum()))
        tokens = len(ids) * float(inputs["mean_tokens"][0])
        return policy_objectives.rloo_loss(
            logps, inputs["old_per_token_logps"], inputs["advantages"], scored, self._clip, tokens
        )


def occurrences(groups: Sequence[int], k: int) -> list[int]:
    """Row g·k + (how often g came before) for each group number: TRL repeats a prompt once a reply."""
    seen: dict[int, int] = {}
    rows = []
    for group in groups:
        rows.append(group * k + seen.get(group, 0) % k)
        seen[group] = seen.get(group, 0) + 1
    return rows


def _no_reward(*_: Any, **__: Any) -> list[float | None]:
    raise AssertionError("rewards come with the samples")


@dataclass(frozen=True)
class Distance:
    """How far the policy has gone. KL in nats a token: `step` to the policy that sampled, `base` to the base.
    `plain`: the rise of the reference texts' negative log-likelihood, as a share of the base's."""

    step: float
    base: float
    plain: float

    def within(self, bound: "Distance") -> bool:
        """Whether none of the three is beyond its bound."""
        return self.step <= bound.step and self.base <= bound.base and self.plain <= bound.plain

    def share_to(self, far: "Distance", bound: "Distance", begin: tuple[float, "Distance"] | None) -> float:
        """The share of the straight way to `far` at which the first of the three is expected to meet its
        bound: at most 1, and 0 where one is no number. With `begin`, where the same line began (as a share,
        below 0) and how far it was there, by a parabola through all three points. Else the root of a small KL
        is about a length, which on a line is at most what lies between those at its ends, and `plain` is
        taken to hold itself so."""
        if begin is None:
            ends = zip(self._lengths(), far._lengths(), bound._lengths(), strict=True)
            met = [_meets(here, there, most, 0.0) for here, there, most in ends if not there <= most]
        else:
            at, first = begin
            points = zip(astuple(first), astuple(self), astuple(far), astuple(bound), strict=True)
            met = [
                _meets(here, there, most, _bend(at, then, here, there))
                for then, here, there, most in points
                if not there <= most
            ]
        return min((share if share > 0 else 0.0 for share in met), default=1.0)

    def widened_to(self, begin: "Distance") -> "Distance":
        """As a bound, but that `begin` is within it."""
        return Distance(max(self.step, begin.step), max(self.base, begin.base), max(self.plain, begin.plain))

    def _lengths(self) -> tuple[float, float, float]:
        return max(self.step, 0.0) ** 0.5, max(self.base, 0.0) ** 0.5, self.plain


def _bend(at: float, then: float, here: float, there: float) -> float:
    """Half of the second derivative of the parabola through `then` at `at`, `here` at 0 and `there` at 1."""
    return (there - here - (here - then) / -at) / (1 - at)


def _meets(here: float, there: float, most: float, bend: float) -> float:
    """Where between 0 and 1 here + (there - here) t + bend t (t - 1) is `most`; here ≤ most < there."""
    slope, left = there - here - bend, most - here
    below = slope + math.sqrt(max(slope * slope + 4 * bend * left, 0.0))
    return 2 * left / below if below > 0 else 0.0


class KeepNear(TrainerCallback):
    """Measures how far the policy has gone, every few steps, and ends the training where it leaves a bound.
    `begin`: how far it is before any step.

    The last step is then gone back until it is within (the line search of TRPO, arXiv 1502.05477, appendix
    C), not by halves but to where it is expected to be (`Distance.share_to`). A policy that begins outside is
    held to where it begins. A measurement is (step, Distance); `cut`: whether it had to be.

    Where all steps together went less far than `reach`, a share of the bound on the KL of a round, the
    parameters go on along the same line to where that KL is expected: TRPO's step is as long as its bound
    allows, whatever the gradient's size, while Adam's first steps from an adapter at zero are short where
    they do not agree. It is at most `FURTHEST` times as far, and inside all bounds. `stretched`: how many
    times it is.

    Where they go further than their share of the steps is of that reach, the way is shortened to it, and the
    learning rate by as much from there on: Adam's steps are as long where gradients are noise as where they
    agree, and from an adapter that has learnt before, the first few replies' would be a round's whole way. (A
    learning rate by KL as in Rudin et al. 2021, arXiv 2109.11978, but by what is left of the way.) `slowed`:
    what is left of the learning rate.

    `restore` brings texts back to where they are to the base (`workers.policy.holding`), before the first
    step where they are near their bound, before a bound is taken to be left, and at the end before the way is
    gone on with, `restores` times. It is told whether no step of training came since the last time, and the
    share of what they lost that they are to be given back, so that they keep `ROOM` of their bound: a policy
    that is to learn when to end a reply cannot while every text ends as to the base. `told` hears which
    of the restorations at the end begins, from 0, and of how many.

    StageError where a step made a parameter infinite or no number: from there is no way back.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        measure: Callable[[], Distance],
        begin: Distance,
        bound: Distance,
        every: int,
        reach: float = 0.0,
        restore: Callable[[bool, float], None] | None = None,
        restores: int = 0,
        told: Callable[[int, int], None] = lambda number, of: None,
    ) -> None:
        self._model, self._told = model, told
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._measure, self._every = measure, every
        self._restore, self._restores = restore, 0 if restore is None else restores
        self._restored_at = -1  # step
        self._begin = begin
        self._began = self._copy()
        self._origin = self._kept, self._there = self._began, self._begin
        self._room = bound.plain * ROOM
        self._given, self._share = bound, reach
        self._hold_to_begin()
        self.measured = [(0, self._begin)]
        self.cut = False
        self.stretched = 1.0
        self.slowed = 1.0

    def _hold_to_begin(self) -> None:
        """The bounds, and the KL that the way is to come to, from where the policy begins."""
        self._bound = self._given.widened_to(self._begin)
        left = (self._bound.step - self._begin.step) / AHEAD**2
        self._reach = min(self._share * self._given.step, left)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if not self._restores or self._begin.plain <= self._room:
            return
        if self._restored(0) and self.measured[-1][1].plain < self._begin.plain:
            self._keep()
            self._began, self._begin = self._kept, self._there
            self._hold_to_begin()
        else:
            self._back_to_kept(0)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        if self.slowed < 1:
            for group in given["optimizer"].param_groups:
                group["lr"] = self.slowed * args.learning_rate

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step % self._every and state.global_step < state.max_steps:
            return
        assert_finite(self._model)
        step = int(state.global_step)
        within = self._within(step)
        if self._ahead(step, state.max_steps):
            within = self._within(step)
        if not within and not self._restored(step):
            self.cut = True
            if self._go_back(step) == 0 and self._kept is self._began is not self._origin[0]:
                self._kept, self._there = self._origin  # texts alone are not worth another policy
                self._back_to_kept(step)
            control.should_training_stop = True
            return
        self._keep()
        if step < state.max_steps:
            return
        for turn in range(self._restores):
            self._told(turn, self._restores)
            if not self._restored(step):
                self._back_to_kept(step)
            self._keep()
            self._go_on(step)
            self._keep()
        if not self._restores:
            self._go_on(step)

    def _keep(self) -> None:
        self._kept, self._there = self._copy(), self.measured[-1][1]

    def _restored(self, step: int) -> bool:
        """Whether it is within, once texts are restored."""
        if self._restore is None:
            return False
        plain = self.measured[-1][1].plain
        self._restore(self._restored_at == step, 1 - self._room / plain if plain > self._room else 0.0)
        self._restored_at = step
        return self._within(step)

    def _within(self, step: int) -> bool:
        found = self._measure()
        self.measured.append((step, found))
        return found.within(self._bound)

    def _ahead(self, step: int, steps: int) -> bool:
        """Whether it was further than is due by `step`, and has gone back to there."""
        gone = self.measured[-1][1].step - self._begin.step
        due = (step / steps) ** 2 * self._reach
        if due <= 0 or not AHEAD**2 * due < gone < math.inf:
            return False
        share = math.sqrt(due / gone)
        self._go(share, self._copy())
        self.slowed *= share
        return True

    def _go_on(self, step: int) -> None:
        power = RESTORED if self._restored_at == step else 2
        times = further(self._there.step - self._begin.step, self._reach, power)
        times = min(times, FURTHEST / self.stretched)
        if times <= HARDLY:
            return
        self._go(times, self._kept)
        if not self._within(step):
            times = 1 + (times - 1) * self._go_back(step, began_at=-1 / (times - 1))
        self.stretched *= times

    def _go_back(self, step: int, began_at: float | None = None) -> float:
        """From where it is towards where it was last within, until it is; the share that is left of the way
        from there. `began_at`: the share of it, below 0, where the policy began, if that is on the line."""
        far, share, most = self._copy(), 1.0, BACK
        while share > NEAREST:
            began = None if began_at is None else (began_at / share, self._begin)
            met = self._there.share_to(self.measured[-1][1], self._bound, began)
            share = max(share * min(BACK * met, most), NEAREST)
            most = 0.5  # what was expected was no guide
            self._go(share, far, self._kept)
            if self._within(step):
                return share
        self._back_to_kept(step)
        return 0.0

    def _back_to_kept(self, step: int) -> None:
        self._set(self._kept)
        self.measured.append((step, self._there))

    def _go(self, times: float, to: Sequence[Tensor], begin: Sequence[Tensor] | None = None) -> None:
        """`times` the way to there from `begin`, or from where the policy began."""
        begin = self._began if begin is None else begin
        self._set([first + times * (last - first) for first, last in zip(begin, to, strict=True)])

    def _copy(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self._trained]

    def _set(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._trained, values, strict=True):
                parameter.copy_(value)


def further(kl: float, reach: float, power: int) -> float:
    """How many times as far to go for a KL of `reach`, which grows with the way to the `power`, where `kl`
    was come to; from 1 to `FURTHEST`."""
    if kl >= reach or reach <= 0:
        return 1.0
    return min(FURTHEST, math.pow(reach / max(kl, 1e-9), 1 / power))
