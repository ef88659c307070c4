"""From what people said to rows that a stage can train on. Pure; no Redis, no torch."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

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
    """The distinct prompts of logged completions, those that end with a user turn, and of data sets."""
    distinct: dict[str, Prompt] = {}
    for completion in completions:
        messages = completion.messages
        if completion.trainable and messages and _is_text(messages) and messages[-1]["role"] == "user":
            held_out = is_held_out(completion.conversation, holdout)
            distinct.setdefault(content_hash(messages), Prompt(messages, completion.conversation, held_out))
    for prompt in imported:
        held_out = is_held_out(prompt.conversation, holdout)
        distinct.setdefault(
            content_hash(prompt.messages), Prompt(prompt.messages, prompt.conversation, held_out)
        )
    return list(distinct.values())


def is_held_out(conversation: str, share: float) -> bool:
    """Whether a conversation belongs to the holdout: the same answer for ever, on every machine."""
    draw = int.from_bytes(hashlib.sha256(conversation.encode()).digest()[:8], "big")
    return draw / 2**64 < share


def for_judge(label: Label) -> bool:
    """A third of the conversations, the same in every cycle, so that neither a reward's member nor the
    policy ever learns from what the judge learns from."""
    return hashlib.sha256(f"judge:{label.conversation}".encode()).digest()[0] % 3 == 0


def _rows(said: Said) -> Iterator[Label]:
    a, b = said.a, said.b
    if not _usable(a) or (b is not None and not _usable(b)):
        return
    if isinstance(said.label, Rating):
        yield _thumb(a, said.label, 1.0 if said.label.rating is Thumb.up else 0.0)
        if said.label.correction:
            yield _comparison(a, said.label, said.label.correction, a.reply, ("stop", a.finish_reason), 1.0)
    elif said.label.winner is Winner.both_bad:
        for side in (a, b):
            assert side is not None
            yield _thumb(side, said.label, 0.0)
    else:
        assert b is not None
        reasons = (a.finish_reason, b.finish_reason)
        target = TARGETS[said.label.winner]
        yield _comparison(a, said.label, a.reply, b.reply, reasons, target, said.label.strength)


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
    a: str | None,
    b: str | None,
    reasons: tuple[str | None, str | None],
    target: float,
    margin: float = 0.0,
) -> Label:
    return Label(
        kind="comparison",
        messages=completion.messages or [],
        a=a or "",
        b=b or "",
        target=target,
        margin=margin,
        a_finish=reasons[0] or "stop",
        b_finish=reasons[1] or "stop",
        rater=label.rater,
        conversation=completion.conversation,
        policy=completion.policy,
        time=label.created,
        source=label.source,
    )


def _usable(completion: Completion) -> bool:
    return completion.trainable and _is_text(completion.messages or [])


def _is_text(messages: list[dict[str, Any]]) -> bool:
    return all(isinstance(message.get("content"), str) for message in messages)
