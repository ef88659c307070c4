"""The words of feedback as frozen types, without I/O. Times are Unix seconds, durations seconds."""

import hashlib
import time
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Reasons = Annotated[
    list[Reason], Field(max_length=20), AfterValidator(lambda given: list(dict.fromkeys(given)))
]
Text = Annotated[str, StringConstraints(max_length=20_000)]
Source = Literal["human", "import"]
TAG_LENGTH = 40


class Thumb(StrEnum):
    up = "up"
    down = "down"


class Winner(StrEnum):
    a = "a"
    b = "b"
    tie = "tie"
    both_bad = "both_bad"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> bytes:
        return orjson.dumps(self.model_dump(mode="json"))


class Completion(Frozen):
    """One served reply. `messages` and `reply` are None where the user asked to store no text, `reply` also
    where what came could not be read; an empty reply is "". `routed`: whether the draw of a trial chose the
    version, and showed it alone; not who asked, nor a pair."""

    id: str
    policy: str
    messages: list[dict[str, Any]] | None
    reply: str | None
    finish_reason: str | None = Field(description="None: broken off; never trained on")
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sampling: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    key_id: str
    user: str | None = None
    conversation: str
    pair_id: str | None = None
    routed: bool = False
    created: float
    first_token: float | None = Field(None, description="Of a stream: seconds to its first byte")
    duration: float

    @property
    def trainable(self) -> bool:
        """Whether what was asked and what was said are known, until the reply ended or was cut. An empty one
        ended at once; but where there were tools it may have called one."""
        if self.messages is None or self.reply is None:
            return False
        if not self.reply:
            return self.finish_reason == "stop" and not self.sampling.get("tools")
        return self.finish_reason in ("stop", "length")


@dataclass(frozen=True, slots=True)
class Opened:
    """A reply that has begun: what a rating has to know of it before it is logged."""

    id: str
    policy: str
    user: str | None
    created: float
    tag: str | None = None


class Rating(Frozen):
    completion_id: str
    rater: str
    rating: Thumb
    reasons: list[str] = []
    comment: str | None = None
    correction: str | None = None
    created: float
    source: Source = "human"


class Pair(Frozen):
    """Two completions of the same messages, side by side; `a` and `b` are completion ids."""

    id: str
    a: str
    b: str
    policy_a: str
    policy_b: str
    created: float
    expires: float | None

    @classmethod
    def named(cls, policies: dict[str, str], created: float) -> Self:
        """The pair of two completions: id → policy version.

        The sides follow the ids' order, so that a rater who changes his mind meets the same pair.
        """
        a, b = sorted(policies)
        return cls(
            id="pair-" + content_hash([a, b]),
            a=a,
            b=b,
            policy_a=policies[a],
            policy_b=policies[b],
            created=created,
            expires=None,
        )


class Comparison(Frozen):
    pair_id: str
    rater: str
    winner: Winner
    strength: float = 0.0
    reasons: list[str] = []
    comment: str | None = None
    created: float
    source: Source = "human"


class ImportedPrompt(Frozen):
    """Messages that end with a user's turn, from a data set: something to sample replies to."""

    messages: list[dict[str, Any]]
    conversation: str
    created: float


class FeedbackRequest(Frozen):
    completion_id: Identifier
    rating: Thumb
    reasons: Reasons = []
    comment: Text | None = None
    correction: Text | None = None
    user: Identifier | None = None


class ComparisonRequest(Frozen):
    """Either a blind pair and its winner, which then stands, or two completions of the same messages."""

    pair_id: Identifier | None = None
    winner: Winner | None = None
    chosen: Identifier | None = None
    rejected: Identifier | None = None
    strength: float = Field(0.0, ge=0, le=1, description="0: hardly better, 1: far better")
    reasons: Reasons = []
    comment: Text | None = None
    user: Identifier | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        blind = self.pair_id is not None and self.winner is not None
        named = self.chosen is not None and self.rejected is not None
        given = [
            name for name in ("pair_id", "winner", "chosen", "rejected") if getattr(self, name) is not None
        ]
        if len(given) != 2 or not (blind or named):
            raise ValueError("send either pair_id and winner, or chosen and rejected")
        if named and self.chosen == self.rejected:
            raise ValueError("chosen and rejected are the same completion")
        return self


def new_id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def now() -> float:
    return time.time()


def content_hash(value: object) -> str:
    """A stable name for a JSON value: 32 hex digits of SHA-256 over its sorted form."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def tag_of(metadata: dict[str, Any]) -> str | None:
    """What the caller's `metadata.tag` says: a word or two, such as the place in a product that a chat comes
    from, by which feedback can be looked at. White space counts as one space; anything else that cannot be
    one line of at most TAG_LENGTH characters is no tag."""
    given = metadata.get("tag")
    tag = " ".join(given.split()) if isinstance(given, str) else ""
    return tag if tag.isprintable() and 0 < len(tag) <= TAG_LENGTH else None


def conversation_of(messages: list[Any], metadata: dict[str, Any]) -> str:
    """The caller's `metadata.conversation_id`, else everything up to the first user turn, hashed.

    Turns of one conversation share its opening, so they land on the same side of a split.
    """
    if given := metadata.get("conversation_id"):
        return str(given)
    opening = []
    for message in messages:
        opening.append(message)
        if isinstance(message, dict) and message.get("role") == "user":
            break
    return "conv-" + content_hash(opening)
