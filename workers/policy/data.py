"""What the policy learns from, as token ids: the engines' scored samples, and people's labels. Torch; for
stages only."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from workers.labels import Label, Message, Sample, Score, by_prompt
from workers.packing import Reply
from workers.stage import StageError

MAX_PROMPT = 1024  # tokens; a longer prompt loses its beginning
MAX_REPLY = 512  # tokens; a longer reply loses its end, and its end of turn


@dataclass(frozen=True)
class Rollouts:
    """Scored samples with the base's log-probabilities, one tensor a reply (empty where not needed).
    `so_far`: what the reward model makes of a reply on its way and whole, where it was asked."""

    samples: list[Sample]
    rewards: list[float]
    so_far: list[list[float]]
    reference: list[Tensor]


@dataclass(frozen=True)
class Preference:
    """The same prompt, and the reply that people like better."""

    chosen: Reply
    rejected: Reply


@dataclass(frozen=True)
class Thumb:
    reply: Reply
    up: bool


def rollouts(scored: Sequence[tuple[Sample, Score]]) -> Rollouts:
    return Rollouts(
        [sample for sample, _ in scored],
        [score.reward for _, score in scored],
        [score.so_far for _, score in scored],
        [torch.empty(0)] * len(scored),
    )


def groups_of(data: Rollouts) -> list[list[int]]:
    """Rows of each prompt."""
    return list(by_prompt(data.samples, list(range(len(data.samples)))).values())


def full_groups(data: Rollouts) -> tuple[list[list[int]], int]:
    """The first k rows of each prompt that has as many, and k: the replies to the most answered prompt of
    this round, or of earlier ones where there is none of this. StageError below two.

    Earlier jobs may have sampled more replies a prompt, or fewer; what is new is learnt from whatever they
    did.
    """
    groups = groups_of(data)
    fresh = [rows for rows in groups if data.samples[rows[0]].fresh]
    k = max(map(len, fresh or groups), default=0)
    if k < 2:
        raise StageError("a baseline needs at least 2 replies a prompt")
    return [rows[:k] for rows in groups if len(rows) >= k], k


def best_and_worst(data: Rollouts, pairs: int) -> list[tuple[int, int]]:
    """Of each prompt the best reply with the worst, then the second best with the second worst, …, at most
    `pairs`; only those that differ, in reward and in words."""
    found = []
    for rows in groups_of(data):
        ranked = sorted(rows, key=data.rewards.__getitem__)
        for place in range(min(pairs, len(ranked) // 2)):
            worst, best = ranked[place], ranked[-1 - place]
            differ = data.samples[best].token_ids != data.samples[worst].token_ids
            if differ and data.rewards[best] > data.rewards[worst]:
                found.append((best, worst))
    return found


def best_of(data: Rollouts) -> list[int]:
    """The best reply of each prompt whose replies differ in reward."""
    best = [max(rows, key=data.rewards.__getitem__) for rows in groups_of(data)]
    worst = [min(rows, key=data.rewards.__getitem__) for rows in groups_of(data)]
    return [b for b, w in zip(best, worst, strict=True) if data.rewards[b] > data.rewards[w]]


class Tokens:
    """Turns what people rated into token ids, as the engines would have read and written them: an empty reply
    that was not cut is its end of turn alone."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def reply(self, messages: list[Message], text: str, finish: str) -> Reply:
        prompt = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        tokens = self._tokenizer.encode(text, add_special_tokens=False)
        whole = finish == "stop" and len(tokens) < MAX_REPLY
        end = [cast(int, self._tokenizer.eos_token_id)] if whole else []
        return Reply(cast(list[int], prompt)[-MAX_PROMPT:], [*tokens[:MAX_REPLY], *end])


def preferences(labels: Sequence[Label], tokens: Tokens, seed: int) -> list[Preference]:
    """People's choices between two replies, without ties, each drawn by its weight."""
    found = []
    choices = [label for label in labels if label.kind == "comparison" and label.target != 0.5]
    for label in _by_weight(choices, seed):
        a = tokens.reply(label.messages, label.a, label.a_finish)
        b = tokens.reply(label.messages, label.b or "", label.b_finish or "stop")
        if a.tokens and b.tokens:
            found.append(Preference(a, b) if label.target > 0.5 else Preference(b, a))
    return found


def thumbs(labels: Sequence[Label], tokens: Tokens, seed: int) -> list[Thumb]:
    """People's thumbs, each drawn by its weight among those of its side: some of either, where there are."""
    given = [label for label in labels if label.kind == "thumb"]
    found = [
        Thumb(tokens.reply(label.messages, label.a, label.a_finish), up)
        for up in (True, False)
        for label in _by_weight([label for label in given if (label.target > 0.5) is up], seed)
    ]
    return [thumb for thumb in found if thumb.reply.tokens]


def well_rated(labels: Sequence[Label], tokens: Tokens, seed: int) -> list[Reply]:
    """Replies with a thumb up, chosen ones, and corrections."""
    up = [thumb.reply for thumb in thumbs(labels, tokens, seed) if thumb.up]
    return up + [preference.chosen for preference in preferences(labels, tokens, seed)]


def _by_weight(labels: Sequence[Label], seed: int) -> list[Label]:
    """Each as often as its weight holds the mean one, rounded up or down by chance, so that caps on raters
    hold here too: about as many as there are, and at least one unless none weighs anything."""
    chance, whole = random.Random(seed), sum(label.weight for label in labels)
    if whole == 0:
        return []
    each = len(labels) / whole
    return [label for label in labels for _ in range(int(each * label.weight + chance.random()))]
