"""The Parquet tables that stages hand to each other, as frozen rows. No torch."""

import json
from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from feedback.types import content_hash

Message = dict[str, Any]
T = TypeVar("T")

LABELS = pa.schema(
    [
        ("kind", pa.string()),
        ("messages", pa.string()),
        ("a", pa.string()),
        ("b", pa.string()),
        ("a_finish", pa.string()),
        ("b_finish", pa.string()),
        ("target", pa.float64()),
        ("margin", pa.float64()),
        ("weight", pa.float64()),
        ("rater", pa.string()),
        ("conversation", pa.string()),
        ("policy", pa.string()),
        ("b_policy", pa.string()),
        ("time", pa.float64()),
        ("source", pa.string()),
        ("principle", pa.string()),
    ]
)
PROMPTS = pa.schema([("messages", pa.string()), ("conversation", pa.string()), ("holdout", pa.bool_())])
SAMPLES = pa.schema(
    [
        ("prompt_id", pa.int64()),
        ("messages", pa.string()),
        ("reply", pa.string()),
        ("prompt_token_ids", pa.list_(pa.int32())),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float32())),
        ("finish_reason", pa.string()),
        ("fresh", pa.bool_()),
        ("by_base", pa.bool_()),
    ]
)
SCORES = SAMPLES.append(pa.field("reward", pa.float64())).append(pa.field("std", pa.float64()))
SCORES = SCORES.append(pa.field("members", pa.list_(pa.float64())))
SCORES = SCORES.append(pa.field("terms", pa.map_(pa.string(), pa.float64())))
SCORES = SCORES.append(pa.field("so_far", pa.list_(pa.float32())))


@dataclass(frozen=True)
class Label:
    """One thing that a person said. `target`: P(a better than b), or 1 for a thumb up and 0 for a thumb down.

    `margin` ≥ 0 is how much better: the strength of a comparison, from 0 to 1, in units of the reward, which
    are logits. `weight` is 1 on average over people's labels (workers.reward.weights). `a_finish` and
    `b_finish` are the replies' finish reasons; a reply cut at `length` is shown to the reward model without
    its end of turn. `policy` and `b_policy` wrote them; a person's correction is no policy's, "". `source` is
    human, ai or import; `principle` is the rule that an AI judged by.
    """

    kind: Literal["comparison", "thumb"]
    messages: list[Message]
    a: str
    b: str | None
    target: float
    margin: float = 0.0
    weight: float = 1.0
    a_finish: str = "stop"
    b_finish: str | None = None
    rater: str = ""
    conversation: str = ""
    policy: str = ""
    b_policy: str | None = None
    time: float = 0.0
    source: str = "human"
    principle: str = ""

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """A row of the table; columns that are missing or null take their defaults."""
        known = {field.name for field in fields(cls)}
        given = {key: value for key, value in row.items() if key in known and value is not None}
        return cls(**{"b": None, **given, "messages": json.loads(row["messages"])})


@dataclass(frozen=True)
class Prompt:
    """Messages that end with a user turn."""

    messages: list[Message]
    conversation: str
    holdout: bool


@dataclass(frozen=True)
class Sample:
    """One reply that an engine sampled. `token_ids` holds the end of turn where `finish_reason` is "stop";
    `logprobs[i]` is log p(token_ids[i] | all before) under the policy that wrote it, nats, at temperature
    1. `fresh`: sampled in this round; else in an earlier job, by the same policy, an ancestor of it, or a
    candidate to follow one.
    `by_base`: the base itself wrote it, as far as is known."""

    prompt_id: int
    messages: list[Message]
    reply: str
    prompt_token_ids: list[int]
    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str
    fresh: bool = True
    by_base: bool = False


@dataclass(frozen=True)
class Score:
    """What one sample is worth to the optimiser: `reward`, the weighted sum of `terms` (workers.terms).

    The term `model` = mean of `members` - λ·`std`; without other terms it is the reward. `so_far`: what the
    members' mean makes of the reply as if it ended before its first token, its second, …, and whole; empty
    where nobody asked.
    """

    reward: float
    std: float
    members: list[float]
    terms: dict[str, float] = field(default_factory=dict)
    so_far: list[float] = field(default_factory=list)


def read_labels(path: Path) -> list[Label]:
    return [Label.from_row(row) for row in pq.read_table(path).to_pylist()]


def write_labels(path: Path, labels: Iterable[Label]) -> None:
    _write(path, [_with_json_messages(asdict(label)) for label in labels], LABELS)


def newest(labels: Iterable[Label], count: int) -> list[Label]:
    """The last `count` labels that were given, oldest first."""
    return sorted(labels, key=lambda label: label.time)[-count:]


def read_prompts(path: Path, holdout: bool) -> list[Prompt]:
    """The prompts of one side of the split."""
    rows = pq.read_table(path).to_pylist()
    return [
        Prompt(json.loads(row["messages"]), row["conversation"], holdout)
        for row in rows
        if row["holdout"] == holdout
    ]


def write_prompts(path: Path, prompts: Iterable[Prompt]) -> None:
    _write(path, [_with_json_messages(asdict(prompt)) for prompt in prompts], PROMPTS)


def read_samples(path: Path) -> list[Sample]:
    return [_sample(row) for row in pq.read_table(path).to_pylist()]


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    _write(path, [_with_json_messages(asdict(sample)) for sample in samples], SAMPLES)


def read_earlier(paths: Iterable[Path], after: int, most: int, asked: Set[str]) -> list[Sample]:
    """Samples of earlier rounds, `most` at the most, in whole groups, whose prompts are numbered from `after`
    on. None to messages whose hash is among those `asked` in the holdout, as they may be since then."""
    found: list[Sample] = []
    for path in paths:
        groups = by_prompt(samples := read_samples(path), samples)
        for group in groups.values():
            if content_hash(group[0].messages) in asked:
                continue
            if len(found) + len(group) > most:
                return found
            found += [replace(sample, prompt_id=after, fresh=False) for sample in group]
            after += 1
    return found


def read_scores(path: Path) -> list[tuple[Sample, Score]]:
    rows = pq.read_table(path).to_pylist()
    return [(_sample(row), _score(row)) for row in rows]


def write_scores(path: Path, samples: Sequence[Sample], scores: Sequence[Score]) -> None:
    """Samples and what they were given, row by row. ValueError unless there are as many of each."""
    pairs = zip(samples, scores, strict=True)
    _write(path, [_with_json_messages(asdict(sample)) | asdict(score) for sample, score in pairs], SCORES)


def by_prompt(samples: Sequence[Sample], values: Sequence[T]) -> dict[int, list[T]]:
    """`values`, one a sample, grouped by the samples' prompt, in order of first appearance."""
    groups: dict[int, list[T]] = {}
    for sample, value in zip(samples, values, strict=True):
        groups.setdefault(sample.prompt_id, []).append(value)
    return groups


def _sample(row: dict[str, Any]) -> Sample:
    given = {field.name: row[field.name] for field in fields(Sample) if field.name in row}
    return Sample(**{**given, "messages": json.loads(row["messages"])})


def _score(row: dict[str, Any]) -> Score:
    terms, so_far = row.get("terms") or (), row.get("so_far") or []
    return Score(row["reward"], row["std"], row["members"], dict(terms), so_far)


def _with_json_messages(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "messages": json.dumps(row["messages"], ensure_ascii=False)}


def _write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
