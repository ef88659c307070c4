"""Labels as lines of files: JSON that `import` takes again, and CSV that spreadsheets take. Pure.

In JSON a decided comparison is TRL's preference type and a thumb its unpaired type (see `formats`), with
columns beside them that say who, when and of which version. A tie, or a choice between equal replies, has a
`prompt` alone, as no type of TRL fits; where no text was stored there is no prompt either. `policy` wrote the
reply, or the chosen one.
"""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from feedback.reader import Said
from feedback.types import Comparison, Completion, Rating, Thumb, Winner, tag_of

COLUMNS = (
    "kind", "time", "policy", "other_policy", "verdict", "strength", "reasons", "comment", "correction",
    "rater", "tag", "source", "conversation", "completion_id", "other_completion_id",
    "prompt", "reply", "other_reply",
)  # fmt: skip
# What a spreadsheet takes for a formula, or skips before one (OWASP, "CSV Injection"); full-width ones too.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
BOM = "\ufeff"  # by which a spreadsheet knows UTF-8


def json_line(said: Said) -> bytes:
    label = said.label
    if isinstance(label, Rating):
        record = _thumb_record(label, said.a)
    else:
        assert said.b is not None
        record = _pair_record(label, said.a, said.b)
    filled = {name: value for name, value in (record | _about(said)).items() if value not in (None, [])}
    return orjson.dumps(filled) + b"\n"


def csv_head() -> str:
    return BOM + _csv_line(COLUMNS)


def csv_line(said: Said) -> str:
    label, (a, b) = said.label, _winner_first(said)
    row = {
        **_about(said),
        "kind": "thumb" if isinstance(label, Rating) else "comparison",
        "time": datetime.fromtimestamp(label.created, UTC).isoformat(timespec="milliseconds"),
        "verdict": _verdict(label),
        "strength": label.strength if isinstance(label, Comparison) else None,
        "reasons": "; ".join(label.reasons),
        "prompt": _last(a),
        "reply": a.reply,
        "other_reply": b.reply if b else None,
    }
    return _csv_line(_cell(row.get(column)) for column in COLUMNS)


def _thumb_record(label: Rating, completion: Completion) -> dict[str, Any]:
    record: dict[str, Any] = {"label": label.rating is Thumb.up}
    if completion.messages is not None and _has_words(completion):
        record |= {"prompt": completion.messages, "completion": [_assistant(completion)]}
    return record


def _pair_record(label: Comparison, a: Completion, b: Completion) -> dict[str, Any]:
    record: dict[str, Any] = {"prompt": a.messages, "winner": label.winner.value}
    known = _has_words(a) and _has_words(b)
    if known and label.winner in (Winner.a, Winner.b) and a.reply != b.reply:
        chosen, rejected = (a, b) if label.winner is Winner.a else (b, a)
        record |= {
            "chosen": [_assistant(chosen)],
            "rejected": [_assistant(rejected)],
            "margin": label.strength,
        }
    elif known:
        record["replies"] = [a.reply, b.reply]
    return record


def _has_words(completion: Completion) -> bool:
    """Whether what was said is known, be it nothing: not so of what called a tool, or broke off at once."""
    return bool(completion.reply) or completion.trainable


def _winner_first(said: Said) -> tuple[Completion, Completion | None]:
    """The reply that is rated or was chosen, and the other one of a pair; undecided, as they stood."""
    label = said.label
    if isinstance(label, Comparison) and label.winner is Winner.b and said.b is not None:
        return said.b, said.a
    return said.a, said.b


def _about(said: Said) -> dict[str, Any]:
    """What both kinds of file say of a label, by the names of COLUMNS."""
    label, (a, b) = said.label, _winner_first(said)
    return {
        "policy": a.policy,
        "other_policy": b.policy if b else None,
        "reasons": label.reasons,
        "comment": label.comment,
        "correction": label.correction if isinstance(label, Rating) else None,
        "rater": label.rater,
        "tag": tag_of(said.a.metadata),
        "source": label.source,
        "conversation": a.conversation,
        "completion_id": a.id,
        "other_completion_id": b.id if b else None,
        "created": label.created,
    }


def _verdict(label: Rating | Comparison) -> str:
    if isinstance(label, Rating):
        return label.rating.value
    return label.winner.value if label.winner in (Winner.tie, Winner.both_bad) else "preferred"


def _assistant(completion: Completion) -> dict[str, Any]:
    return {"role": "assistant", "content": completion.reply}


def _last(completion: Completion) -> str | None:
    """The last message's text; what is not plain text, as JSON."""
    if not completion.messages:
        return None
    content = completion.messages[-1].get("content")
    return content if isinstance(content, str) else orjson.dumps(content).decode()


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return "'" + text if text.lstrip(" ").startswith(FORMULA) else text


def _csv_line(cells: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL).writerow(cells)
    return line.getvalue()
