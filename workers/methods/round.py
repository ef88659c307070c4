"""What a method works with."""

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from workers.datasets import for_judge
from workers.device import device
from workers.labels import Label, Sample, read_labels, read_scores
from workers.methods.config import Config
from workers.packing import Reply
from workers.policy import data as policy_data
from workers.policy import objectives as policy_objectives
from workers.policy.data import Rollouts, Tokens
from workers.policy.model import base_logprobs, load_policy, read_base, read_lower, reply_logprobs
from workers.policy.trainers import Distance
from workers.references import Reference, read_references
from workers.stage import Stage

Made = tuple[Any, dict[str, Any]]  # a trainer, and figures for metrics.json


class NothingToLearn(Exception):
    """No two replies to a prompt differ in reward, so the policy stays as it is."""


class Part(Enum):
    """The parts of a stage, as percentages of it where they begin and end, by the time that `grpo` takes."""

    read = (5, 35)
    learn = (35, 70)
    hold = (70, 95)


class Round:
    """What a method works with: the policy, the samples, and what people said."""

    def __init__(self, config: Config, stage: Stage) -> None:
        self.config, self.stage = config, stage
        self.tokenizer = AutoTokenizer.from_pretrained(config.base_model)
        torch.manual_seed(config.seed)
        self.model = load_policy(
            config.base_model, config.init, config.rank, config.targets, config.top_layers
        )
        self.data = policy_data.rollouts(read_scores(config.scores))
        self.labels = _not_the_judges([] if config.labels is None else read_labels(config.labels))
        self.tokens = Tokens(self.tokenizer)
        self.watched = _spread(self.data, config.watched)
        self.refer_to(self.watched)
        self.texts = self.read_texts(read_references())
        self._texts_base = self.base(self.texts)

    def tell(self, part: Part, share: float, doing: str | None = None) -> None:
        """How much of a part of the stage is done, and what is being done."""
        begin, end = part.value
        what = f"{self.config.method} on {len(self.data.samples)} replies"
        done = round(begin + share * (end - begin))
        self.stage.progress(done, 100, f"{what}: {doing}" if doing else what)

    def reply(self, row: int) -> Reply:
        sample = self.data.samples[row]
        return Reply(sample.prompt_token_ids, sample.token_ids)

    def read_texts(self, texts: Sequence[Reference]) -> list[Reply]:
        return [self.tokens.reply(text.messages, text.reply, "stop") for text in texts]

    def refer_to(self, rows: Sequence[int]) -> None:
        """Let the samples `rows` have the base's log-probabilities, once each."""
        rows = [row for row in rows if not len(self.data.reference[row])]
        self._remember(rows, self.base([self.reply(row) for row in rows]))

    def read(self, rows: Sequence[int]) -> list[Tensor]:
        """`refer_cheaply_to`, and what the base sees before each token of the samples `rows`, (t, d) each:
        the state that goes into the lowest adapter, or its last one where more than half of the layers are
        above; then it tells the log-probabilities too."""
        replies = [self.reply(row) for row in rows]

        def told(done: int) -> None:
            self.tell(Part.read, done / len(rows), f"reading {done} of {len(rows)} replies")

        states = read_lower(self.model, replies, self.config.budget, told)
        if states is None:
            found = read_base(self.model, replies, self.config.budget, told)
            self._remember(rows, [logprobs for logprobs, _ in found])
            return [states for _, states in found]
        self.refer_cheaply_to(rows)
        return states

    def refer_cheaply_to(self, rows: Sequence[int]) -> None:
        """`refer_to`, but the base reads only what others sampled: of its own replies the engines have said
        how likely they were."""
        data = self.data
        known = [row for row in rows if self._by_base(data.samples[row]) and not len(data.reference[row])]
        self._remember(known, [torch.tensor(data.samples[row].logprobs) for row in known])
        self.refer_to(rows)

    def _by_base(self, sample: Sample) -> bool:
        """Without an adapter all new ones are, whatever a table from before `by_base` says."""
        return sample.by_base or (sample.fresh and self.config.init is None)

    def _remember(self, rows: Sequence[int], logprobs: Sequence[Tensor]) -> None:
        reference = list(self.data.reference)
        for row, found in zip(rows, logprobs, strict=True):
            reference[row] = found
        self.data = replace(self.data, reference=reference)

    def base(self, replies: Sequence[Reply]) -> list[Tensor]:
        prompts, tokens = [reply.prompt for reply in replies], [reply.tokens for reply in replies]
        return base_logprobs(self.model, prompts, tokens, self.config.budget)

    def mine(self, replies: Sequence[Reply]) -> list[Tensor]:
        prompts, tokens = [reply.prompt for reply in replies], [reply.tokens for reply in replies]
        return reply_logprobs(self.model, prompts, tokens, self.config.budget)

    def arguments(self) -> dict[str, Any]:
        """Of every method's trainer. TRL's defaults ask for bfloat16 autocast and checkpointing, which a CPU
        cannot use."""
        return {
            "output_dir": str(self.stage.path("trainer")),
            "use_cpu": device().type == "cpu",
            "bf16": False,
            "gradient_checkpointing": False,
            "gradient_accumulation_steps": 1,
            "learning_rate": self.config.pace.learning_rate,
            "lr_scheduler_type": "constant",
            "warmup_steps": 0,
            "max_grad_norm": self.config.max_grad_norm,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,  # else a NaN is told as the mean of the others
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "remove_unused_columns": False,
            "seed": self.config.seed,
        }

    def distance(self) -> Distance:
        """How far the policy is from the one that sampled and from the base, by the watched replies and the
        reference texts."""
        return self._distance(self.mine([*(self.reply(row) for row in self.watched), *self.texts]))

    def distance_before(self) -> Distance:
        """`distance` before any step: a policy without an adapter is still the base, which has been asked."""
        if self.config.init is not None:
            return self.distance()
        return self._distance([*(self.data.reference[row] for row in self.watched), *self._texts_base])

    def _distance(self, said: Sequence[Tensor]) -> Distance:
        """`said`: the policy's log-probabilities of the watched replies, then of the texts."""
        now = torch.cat(list(said[: len(self.watched)]))
        sampled = torch.cat([torch.tensor(self.data.samples[row].logprobs) for row in self.watched])
        base = torch.cat([self.data.reference[row] for row in self.watched])
        return Distance(
            step=float(policy_objectives.kl_k3(now - sampled)),
            base=float(policy_objectives.kl_weighted(now - base, now - sampled)),
            plain=_nll(said[len(self.watched) :]) / _nll(self._texts_base) - 1,
        )


def _not_the_judges(labels: Sequence[Label]) -> list[Label]:
    """Without those that the judge learns from: it could not judge a policy that learnt them too."""
    return [label for label in labels if not for_judge(label)]


def _nll(logprobs: Sequence[Tensor]) -> float:
    """Nats a token."""
    return -float(torch.cat(list(logprobs)).mean())


def _spread(data: Rollouts, count: int) -> list[int]:
    """At most `count` samples of the policy that is updated, of as many prompts as there are."""
    fresh = [row for row, sample in enumerate(data.samples) if sample.fresh]
    return fresh[:: max(1, len(fresh) // count)][:count]
