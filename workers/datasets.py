"""From what people said to rows that a stage can train on. Pure; no Redis, no torch."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import chain
from typing import Any, NamedTuple, TypeGuard

from feedback.reader import Said
from feedback.types import Comparison, Completion, ImportedPrompt, Rating, Thumb, Winner, content_hash
from workers.labels import Label, Prompt

TARGETS = {Winner.a: 1.0, Winner.b: 0.0, Winner.tie: 0.5}


def labels_of(said: Iterable[Said]) -> list[Label]:
    """One row a label; a correction is one more (it beats what it corrects), `both_bad` is two thumbs down.

    Replies that broke off, or whose text was not stored, are never trained on.
    """
    return [row for label in said for row in _rows(label)]


def prompts_of(
    completions: Iterable[Completion], holdout: float, imported: Iterable[ImportedPrompt] = ()
) -> list[Prompt]:
    """The distinct prompts of logged completions, those that end with a user turn, and of data sets; held out
    where any conversation that asks it is."""
    logged = (
        (completion.messages, completion.conversation)
        for completion in completions
        if completion.trainable and _asks(completion.messages)
    )
    distinct: dict[str, Prompt] = {}
    for messages, conversation in chain(logged, ((one.messages, one.conversation) for one in imported)):
        key, prompt = (
            content_hash(messages),
            Prompt(messages, conversation, is_held_out(conversation, holdout)),
        )
        if key not in distinct or (prompt.holdout and not distinct[key].holdout):
            distinct[key] = prompt
    return list(distinct.values())


def asked_in_holdout(labels: Iterable[Label], prompts: Iterable[Prompt], share: float) -> set[str]:
    """The hashes of messages that are measured on, by held-out labels or held-out prompts.

    Two conversations may ask the same and be on two sides. Then it is not learnt from: what is measured would
    have been trained on.
    """
    held = (label.messages for label in labels if is_held_out(label.conversation, share))
    return {content_hash(messages) for messages in chain(held, (p.messages for p in prompts if p.holdout))}


def split(labels: Iterable[Label], asked: Set[str], share: float) -> tuple[list[Label], list[Label]]:
    """Labels to learn from, none of them on messages that are `asked` in the holdout, and held-out ones."""
    train, holdout = [], []
    for label in labels:
        if is_held_out(label.conversation, share):
            holdout.append(label)
        elif content_hash(label.messages) not in asked:
            train.append(label)
    return train, holdout


def only_on_their_side(prompts: Iterable[Prompt], asked: Set[str]) -> list[Prompt]:
    """Held-out prompts, and of the others those that are not `asked` in the holdout."""
    return [prompt for prompt in prompts if prompt.holdout or content_hash(prompt.messages) not in asked]


def is_held_out(conversation: str, share: float) -> bool:
    """Whether a conversation belongs to the holdout: the same answer for ever, on every machine."""
    draw = int.from_bytes(hashlib.sha256(conversation.encode()).digest()[:8], "big")
    return draw / 2**64 < share


def for_judge(label: Label) -> bool:
    """Whether the judge learns from it, and nobody else."""
    return is_for_judge(label.conversation)


def is_for_judge(conversation: str) -> bool:
    """A third of the conversations, the same in every cycle, so that neither a reward's member nor the
    policy ever learns from what the judge learns from."""
    return hashlib.sha256(f"judge:{conversation}".encode()).digest()[0] % 3 == 0


def by_learner(labels: Sequence[Label]) -> tuple[list[Label], list[Label]]:
    """What the judge learns from, and what the others do."""
    judge = [label for label in labels if for_judge(label)]
    return judge, [label for label in labels if not for_judge(label)]


def _rows(said: Said) -> Iterator[Label]:
    a, b = said.a, said.b
    if not _usable(a) or (b is not None and not _usable(b)):
        return
    if isinstance(said.label, Rating):
        yield _thumb(a, said.label, 1.0 if said.label.rating is Thumb.up else 0.0)
        if said.label.correction:
            written = _Side("", said.label.correction, "stop")
            yield _comparison(a, said.label, (written, _side(a)), 1.0)
    elif said.label.winner is Winner.both_bad:
        for side in (a, b):
            assert side is not None
            yield _thumb(side, said.label, 0.0)
    else:
        assert b is not None
        target, strength = TARGETS[said.label.winner], said.label.strength
        yield _comparison(a, said.label, (_side(a), _side(b)), target, strength)


class _Side(NamedTuple):
    """One of the two of a comparison; `policy` is "" where a person wrote it."""

    policy: str
    reply: str
    finish: str


def _side(completion: Completion) -> _Side:
    return _Side(completion.policy, completion.reply or "", completion.finish_reason or "stop")


def _thumb(completion: Completion, label: Rating | Comparison, target: float) -> Label:
    return Label(
        kind="thumb",
        messages=completion.messages or [],
        a=completion.reply or "",
        b=None,
        target=target,
        a_finish=completion.finish_reason or "stop",
        rater=label.rater,
        conversation=completion.conversation,
        policy=completion.policy,
        time=label.created,
        source=label.source,
    )


def _comparison(
    completion: Completion,
    label: Rating | Comparison,
    sides: tuple[_Side, _Side],
    target: float,
    margin: float = 0.0,
) -> Label:
    a, b = sides
    return Label(
        kind="comparison",
        messages=completion.messages or [],
        a=a.reply,
        b=b.reply,
        target=target,
        margin=margin,
        a_finish=a.finish,
        b_finish=b.finish,
        rater=label.rater,
        conversation=completion.conversation,
        policy=a.policy,
        b_policy=b.policy,
        time=label.created,
        source=label.source,
    )


def _usable(completion: Completion) -> bool:
    return completion.trainable and _is_text(completion.messages or [])


def _asks(messages: list[dict[str, Any]] | None) -> TypeGuard[list[dict[str, Any]]]:
    return (
        messages is not None and len(messages) > 0 and _is_text(messages) and messages[-1]["role"] == "user"
    )


def _is_text(messages: list[dict[str, Any]]) -> bool:
    return all(isinstance(message.get("content"), str) for message in messages)
