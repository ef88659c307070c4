"""One update of the policy: scores.parquet, and people's labels → adapter/, probe.json, curve.json.

    python -m workers.stages.optimise DIR

On replies that the engines sampled, with their token ids and log-probabilities: `rloo`, `grpo` (policy
gradients with a leave-one-out or a group baseline), `online_dpo` (the best of K against the worst),
`best_of_n` (SFT on the best). On what people said: `dpo` (their comparisons), `kto` (their thumbs). Each is
TRL's trainer (see `workers.policy.trainers`), may take a share of SFT on well-rated replies, and is held near
the base on plain texts. The reference is always the base, never the last adapter, so KL does not start again
with every cycle.

How far the policy goes is measured on a few of the samples and on the reference texts all the while, and
bounded (see `KeepNear`). It stays where it is, and metrics.json says why (`held`), where even a small step
leaves the bounds and where no rewards differ.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from serving.methods import Method
from workers.methods.config import Config
from workers.methods.gradients import grpo, rloo
from workers.methods.preferences import dpo, online_dpo
from workers.methods.round import Made, NothingToLearn, Part, Round
from workers.methods.single import best_of_n, kto
from workers.packing import install
from workers.policy import data as policy_data
from workers.policy.holding import Held
from workers.policy.model import assert_moved, assert_trainable, trainable_hash
from workers.policy.trainers import Aside, Distance, KeepNear, Plain, Rated
from workers.references import read_plain
from workers.stage import Stage, StageError, run, write_json

METHODS: dict[Method, Callable[[Round], Made]] = {
    Method.rloo: rloo,
    Method.grpo: grpo,
    Method.online_dpo: online_dpo,
    Method.dpo: dpo,
    Method.kto: kto,
    Method.best_of_n: best_of_n,
}


def main(config: Config, stage: Stage) -> dict[str, Any]:
    stage.progress(0, 100, "loading the policy")
    work = Round(config, stage)
    before = trainable_hash(work.model)
    work.tell(Part.read, 0)
    figures, why_held = learn(work, before)
    stage.progress(95, 100, "writing the adapter")
    work.model.save_pretrained(str(stage.path("adapter")))
    write_json(stage.path("probe.json"), probe(work))
    return figures | {
        "method": config.method,
        "held": why_held,
        "replies": len(work.data.samples),
        "earlier": sum(not sample.fresh for sample in work.data.samples),
        "kl_base_before": kl_before(work),
        "trainable": assert_trainable(work.model),
        "hash_before": before,
        "hash_after": trainable_hash(work.model),
    }


def learn(work: Round, before: str) -> tuple[dict[str, Any], str | None]:
    """Figures of the training, and why the policy stayed where it was, if it did. `before`: its hash."""
    try:
        trainer, figures = METHODS[work.config.method](work)
    except NothingToLearn as why:
        return {}, str(why)
    guard, figures = _train(work, trainer, figures)
    if not math.isfinite(figures["loss"]):
        raise StageError("the policy's loss is not finite: lower the learning rate")
    after = trainable_hash(work.model)
    if not guard.cut:
        assert_moved(before, after)
    return figures, held(work.config) if before == after else None


class Told(TrainerCallback):
    """Says which step is being made, and what follows the last one, which takes a while."""

    def __init__(self, work: Round) -> None:
        self._work = work

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        step, of = state.global_step, state.max_steps
        doing = f"step {step + 1} of {of}" if step < of else "measuring how far it went"
        self._work.tell(Part.learn, step / of, doing)

    def turn(self, number: int, of: int) -> None:
        """Of plain texts that are restored, and of what is then left of the way."""
        self._work.tell(
            Part.hold, number / of, f"restoring plain texts and going on, turn {number + 1} of {of}"
        )


def held(config: Config) -> str:
    """Why a policy stayed where it was, though it was trained."""
    return (
        f"even a small step leaves the bounds: a KL of {config.pace.max_kl_step} nats a token from the "
        f"policy that sampled, of {config.max_kl_base} from the base, plain text {config.max_nll_rise:.1%} "
        "less likely (THUMBWHEEL_OPTIMISE_MAX_KL_STEP, …_MAX_KL_BASE, THUMBWHEEL_EVALUATE_MAX_NLL_RISE)"
    )


def _train(work: Round, trainer: Any, figures: dict[str, Any]) -> tuple[KeepNear, dict[str, Any]]:
    model, config = work.model, work.config
    if "ref" in model.peft_config:
        model.delete_adapter("ref")  # TRL's copy of the adapter; without it the reference is the base
    install(model.get_base_model(), config.budget)
    trainable = assert_trainable(model)
    bound = Distance(config.pace.max_kl_step, config.max_kl_base, config.max_nll_rise)
    reach = config.reach if config.method in (Method.rloo, Method.grpo) else 0.0
    trainer.asides, texts, beside = asides(work)
    figures |= beside
    restore = None if texts is None or config.restores == 0 else texts.restore
    begin, every = work.distance_before(), config.check_every
    told = Told(work)
    guard = KeepNear(model, work.distance, begin, bound, every, reach, restore, config.restores, told.turn)
    trainer.add_callback(told)
    trainer.add_callback(guard)
    loss = float(trainer.train().training_loss)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    write_json(work.stage.path("curve.json"), curve(steps, guard))
    last = guard.measured[-1][1]
    return guard, figures | {
        "loss": loss,
        "steps": trainer.state.global_step,
        "optimised": trainable,
        "grad_norm": max(float(entry["grad_norm"]) for entry in steps),
        "kl_step": last.step,
        "kl_base": last.base,
        "nll_rise": last.plain,
        "cut_short": guard.cut,
        "stretched": guard.stretched,
        "slowed": guard.slowed,
        "last": {key: value for key, value in steps[-1].items() if isinstance(value, int | float)},
    }


def asides(work: Round) -> tuple[list[Aside], Held | None, dict[str, Any]]:
    """What is learnt beside the samples, the plain texts that are held, and figures for metrics.json."""
    config, pad_id = work.config, work.tokenizer.pad_token_id
    found: list[Aside] = []
    held = None
    figures = {}
    if config.sft_weight > 0:
        rated = policy_data.well_rated(work.labels, work.tokens, config.seed)
        figures["rated"] = len(rated)
        if rated:
            size = max(1, config.pace.batch // 4)
            found.append(Rated(rated, config.sft_weight, size, pad_id, config.seed))
    if config.plain_weight > 0:
        plain = work.read_texts(read_plain())
        base = work.base(plain)
        found.append(Plain(plain, base, config.plain_weight, config.plain_batch, pad_id, config.seed))
        held = Held(work.model.get_base_model(), plain, base, config.budget)
    return found, held, figures


_CURVE = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "rewards/chosen": "reward",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
}


def curve(steps: Sequence[dict[str, Any]], guard: KeepNear) -> list[dict[str, Any]]:
    """Step by step what was logged; `kl` (to the base), `kl_step` and `nll_rise` where they were measured."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in steps:
        named = {name: entry[key] for key, name in _CURVE.items() if key in entry}
        rows[entry["step"]] = {"step": entry["step"], **named}
    for step, distance in guard.measured:
        rows.setdefault(step, {"step": step}).update(
            kl=distance.base, kl_step=distance.step, nll_rise=distance.plain
        )
    return [rows[step] for step in sorted(rows)]


def kl_before(work: Round) -> float:
    """KL(policy that sampled ‖ base), nats a token: the mean log ratio of its own samples, where the base's
    are known."""
    ratios = [
        torch.tensor(sample.logprobs) - base
        for sample, base in zip(work.data.samples, work.data.reference, strict=True)
        if len(base) and sample.fresh
    ]
    return float(torch.cat(ratios).mean())


def probe(work: Round) -> list[dict[str, Any]]:
    """A few replies with their log-probabilities under the new adapter and under the base, for `publish` to
    compare."""
    data, count = work.data, work.config.probes
    rows = sorted(range(len(data.samples)), key=lambda row: abs(len(data.samples[row].token_ids) - 32))[
        :count
    ]
    work.model.eval()
    replies = [work.reply(row) for row in rows]
    # The reference of a sample may be the engine's own, and it is the engine that is to be compared.
    return [
        {
            "prompt_token_ids": reply.prompt,
            "token_ids": reply.tokens,
            "logprobs": work.mine([reply])[0].tolist(),
            "base_logprobs": work.base([reply])[0].tolist(),
        }
        for reply in replies
    ]


if __name__ == "__main__":
    run(Config, main)
