"""One line of a TRL data set → what it says. Pure.

TRL's types (its documentation, "Dataset formats and types"), each as plain strings or as lists of messages:

    preference    {prompt, chosen, rejected}, or {chosen, rejected} that begin with the same prompt
    unpaired      {prompt, completion, label: true or false}
    prompt-only   {prompt}

A column that is null counts as missing, since that is how rows of mixed types are written. `margin` is read
as the strength of a preference (at most 1), and a `system` string as the first message; other columns are
passed over, but for those that change what the model would have seen (`tools`, images). What is kept has to
be what we serve: text messages that end with a user's turn, and one reply to them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROLES = ("system", "user", "assistant")
NOT_TEXT = ("tools", "images", "image", "videos", "audios")

Message = dict[str, str]
Columns = Mapping[str, Any]


class BadLine(ValueError):
    """The message says what is wrong with the line."""


@dataclass(frozen=True, slots=True)
class Preference:
    """`strength` is from 0 (hardly better) to 1 (far better)."""

    messages: list[Message]
    chosen: str
    rejected: str
    strength: float = 0.0


@dataclass(frozen=True, slots=True)
class Unpaired:
    messages: list[Message]
    reply: str
    good: bool


@dataclass(frozen=True, slots=True)
class PromptOnly:
    messages: list[Message]


Line = Preference | Unpaired | PromptOnly


def parse(record: object) -> Line:
    """What a line says, once its JSON was read. Raises BadLine."""
    if not isinstance(record, dict):
        raise BadLine("it is not a JSON object")
    given = {key: value for key, value in record.items() if value is not None}
    for name in NOT_TEXT:
        if given.get(name):
            raise BadLine(f"it has `{name}`; only plain text can be imported")
    if "chosen" in given or "rejected" in given:
        return _preference(_with(given, "preference", ("chosen", "rejected"), not_with="completion"))
    if "completion" in given or "label" in given:
        return _unpaired(_with(given, "unpaired", ("prompt", "completion", "label")))
    if "prompt" in given:
        return PromptOnly(_conversation(given))
    raise BadLine(
        "it is of none of TRL's types: {prompt, chosen, rejected}, {prompt, completion, label} or {prompt}"
    )


def shared_prompt(chosen: str, rejected: str) -> str:
    """The beginning that two plain strings share, without the space before what differs, as
    trl.data_utils.extract_prompt has it."""
    shared = chosen[: _shared(chosen, rejected)]
    return shared[:-1] if shared.endswith(" ") else shared


def _shared(one: Sequence[object], other: Sequence[object]) -> int:
    """How many items two sequences have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _with(given: Columns, kind: str, needed: tuple[str, ...], not_with: str | None = None) -> Columns:
    missing = [f"`{name}`" for name in needed if name not in given]
    if missing:
        raise BadLine(f"{' and '.join(missing)} is missing: a line of the type {kind} needs it")
    if not_with in given:
        raise BadLine(f"it has both `{needed[0]}` and `{not_with}`: is it a pair, or one reply?")
    return given


def _preference(given: Columns) -> Preference:
    chosen, rejected = given["chosen"], given["rejected"]
    if chosen == rejected:
        raise BadLine("`chosen` and `rejected` are the same")
    if isinstance(chosen, str) and isinstance(rejected, str):
        line = _plain_preference(given, chosen, rejected)
    elif isinstance(chosen, list) and isinstance(rejected, list):
        line = _conversational_preference(given)
    else:
        raise BadLine("`chosen` and `rejected` must be two strings or two lists of messages")
    if line.chosen == line.rejected:
        raise BadLine("`chosen` and `rejected` are the same")
    return line


def _plain_preference(given: Columns, chosen: str, rejected: str) -> Preference:
    if "prompt" not in given:
        prompt = shared_prompt(chosen, rejected)
        if not prompt.strip():
            raise BadLine("there is no `prompt`, and `chosen` and `rejected` do not begin with the same one")
        given = {**given, "prompt": prompt}
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    return Preference(
        _conversation(given), _plain(chosen, "chosen"), _plain(rejected, "rejected"), _strength(given)
    )


def _conversational_preference(given: Columns) -> Preference:
    """The prompt is all that both have in common, so that it may also lie within them."""
    chosen, rejected = _messages(given["chosen"], "chosen"), _messages(given["rejected"], "rejected")
    prompt = given.get("prompt", [])
    # As in trl.data_utils.maybe_extract_prompt, a `prompt` may repeat what both begin with.
    if isinstance(prompt, str):
        before = _prompt(prompt) if chosen[0]["role"] == "assistant" else []
    else:
        before = _messages(prompt, "prompt") if "prompt" in given else []
        if chosen[: len(before)] == before == rejected[: len(before)]:
            before = []
    chosen, rejected = before + chosen, before + rejected
    same = _shared(chosen, rejected)
    if any(len(tail) != 1 or tail[0]["role"] != "assistant" for tail in (chosen[same:], rejected[same:])):
        raise BadLine(
            "`chosen` and `rejected` differ in more than their last message: only two replies of the "
            "assistant to the same messages can be compared"
        )
    messages = _ending_with_user(_with_system(given, chosen[:same]))
    return Preference(messages, chosen[same]["content"], rejected[same]["content"], _strength(given))


def _unpaired(given: Columns) -> Unpaired:
    label = given["label"]
    if not isinstance(label, bool):
        raise BadLine("`label` must be true or false")
    return Unpaired(_conversation(given), _completion(given["completion"]), label)


def _completion(completion: object) -> str:
    if isinstance(completion, str):
        return _plain(completion, "completion")
    messages = _messages(completion, "completion")
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise BadLine("`completion` must be one message of the assistant: put what came before into `prompt`")
    return messages[0]["content"]


def _conversation(given: Columns) -> list[Message]:
    """The messages of the column `prompt`."""
    return _ending_with_user(_with_system(given, _prompt(given["prompt"])))


def _prompt(prompt: object) -> list[Message]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": _plain(prompt, "prompt")}]
    return _messages(prompt, "prompt")


def _with_system(given: Columns, messages: list[Message]) -> list[Message]:
    system = given.get("system")
    if not isinstance(system, str) or not system or (messages and messages[0]["role"] == "system"):
        return messages
    return [{"role": "system", "content": _unicode(system, "system")}, *messages]


def _ending_with_user(messages: list[Message]) -> list[Message]:
    if not messages or messages[-1]["role"] != "user":
        raise BadLine("the prompt must end with a message of the user")
    return messages


def _messages(value: object, column: str) -> list[Message]:
    if not isinstance(value, list):
        raise BadLine(f"`{column}` must be a string or a list of messages")
    if not value:
        raise BadLine(f"`{column}` is empty")
    return [_message(message, f"{column}[{number}]") for number, message in enumerate(value)]


def _message(message: object, place: str) -> Message:
    if not isinstance(message, dict):
        raise BadLine(f"`{place}` must be an object with a `role` and a `content`")
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise BadLine(f"`{place}.role` must be one of {', '.join(ROLES)}")
    if message.get("tool_calls"):
        raise BadLine(f"`{place}` calls a tool; only plain text can be imported")
    if not isinstance(content, str):
        raise BadLine(f"`{place}.content` must be a string; only plain text can be imported")
    says_nothing = role == "system" or (role == "assistant" and content == "")  # an export's empty reply
    if not content.strip() and not says_nothing:
        raise BadLine(f"`{place}.content` is empty")
    return {"role": role, "content": _unicode(content, f"{place}.content")}


def _plain(text: object, column: str) -> str:
    """A plain string without the white space around it, which only glued prompt and reply together."""
    if not isinstance(text, str):
        raise BadLine(f"`{column}` must be a string or a list of messages")
    if not (stripped := text.strip()):
        raise BadLine(f"`{column}` is empty")
    return _unicode(stripped, column)


def _unicode(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadLine(f"`{place}` holds half a character (a lone surrogate)") from None
    return text


def _strength(given: Columns) -> float:
    margin = given.get("margin", 0.0)
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < math.inf:
        raise BadLine("`margin` must be a number that is not negative")
    return 1.0 if margin > 1 else float(margin)
