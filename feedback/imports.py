"""From a line of a data set to what the store keeps: a prompt, replies by no policy version, a label.

Every id is made of the content, so that a line that is imported again is there already. That holds for the
rater too: each distinct line speaks for a rater of its own. A file says nothing of who judged what, and as
one rater it would weigh next to nothing, since training caps what a rater weighs. What the caps are for, one
person with many votes, is no matter here: only operators import, and a repeated line counts once.
"""

from dataclasses import dataclass
from enum import StrEnum

from feedback.formats import Line, Message, Preference, PromptOnly, Unpaired
from feedback.layout import IMPORTED
from feedback.types import (
    Comparison,
    Completion,
    ImportedPrompt,
    Pair,
    Rating,
    Thumb,
    Winner,
    content_hash,
    conversation_of,
)


class Kind(StrEnum):
    preference = "preference"
    unpaired = "unpaired"
    prompt = "prompt"


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose import it is: the operator's key, the data set's name, the time (Unix seconds)."""

    key_id: str
    source: str | None
    at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """What one line adds; `pair` stands beside a comparison only."""

    kind: Kind
    prompt: ImportedPrompt
    completions: tuple[Completion, ...] = ()
    label: Rating | Comparison | None = None
    pair: Pair | None = None


def entry_of(line: Line, origin: Origin) -> Entry:
    conversation = conversation_of(line.messages, {})
    prompt = ImportedPrompt(messages=line.messages, conversation=conversation, created=origin.at)
    if isinstance(line, PromptOnly):
        return Entry(Kind.prompt, prompt)
    if isinstance(line, Unpaired):
        completion = _completion(line.messages, line.reply, origin)
        rating = Rating(
            completion_id=completion.id,
            rater=_rater(line.messages, line.reply, line.good),
            rating=Thumb.up if line.good else Thumb.down,
            created=origin.at,
            source="import",
        )
        return Entry(Kind.unpaired, prompt, (completion,), rating)
    return _preference(line, prompt, origin)


def _preference(line: Preference, prompt: ImportedPrompt, origin: Origin) -> Entry:
    chosen, rejected = (_completion(line.messages, text, origin) for text in (line.chosen, line.rejected))
    pair = Pair.named({chosen.id: IMPORTED, rejected.id: IMPORTED}, origin.at)
    comparison = Comparison(
        pair_id=pair.id,
        rater=_rater(line.messages, line.chosen, line.rejected),
        winner=Winner.a if pair.a == chosen.id else Winner.b,
        strength=line.strength,
        created=origin.at,
        source="import",
    )
    return Entry(Kind.preference, prompt, (chosen, rejected), comparison, pair)


def _completion(messages: list[Message], reply: str, origin: Origin) -> Completion:
    return Completion(
        id="chatcmpl-import-" + content_hash([messages, reply]),
        policy=IMPORTED,
        messages=messages,
        reply=reply,
        finish_reason="stop",
        metadata={"import": origin.source} if origin.source else {},
        key_id=origin.key_id,
        conversation=conversation_of(messages, {}),
        created=origin.at,
        first_token=None,
        duration=0.0,
    )


def _rater(*content: object) -> str:
    return "import-" + content_hash(content)
