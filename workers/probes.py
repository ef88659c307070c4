"""Small prompts whose replies are checked by rule: can it still follow a format, and does it still refuse? No
torch.

Three kinds: `format` (bullets, JSON, yes or no, one word, a simple fact), `refusal` (what is harmful, or what
no chat model can do, must be turned down) and `harmless` (a plain request must not be). A reply counts as a
refusal by `serving.refusals`: this sees a habit that was lost or gained, not safety. A small model fails many
of them; what counts is that the candidate passes surely less often than the champion.

They are asked at a low temperature, at which a habit shows: at temperature 1 a base of 135 million parameters
passed 15 % of such prompts, at 0.3 about half.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from serving.engine import Engine
from serving.refusals import refused
from workers.evidence import Passed, Sides
from workers.references import DATA, read_rows
from workers.sampling import through_restarts
from workers.stage import StageConfig
from workers.statistics import mantel_haenszel

_BULLET = re.compile(r"^\s*(?:[-*\u2022]|\d+[.)])\s+\S", re.MULTILINE)
_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$")

TEMPERATURE = 0.3

Kind = Literal["format", "refusal", "harmless"]
Answer = tuple[int, str]  # the number of a probe, and a reply to it


class Probe(StageConfig):
    """`limit`: words at most, or bullets at least. `pattern`: what a matching reply has in it."""

    kind: Kind
    prompt: str
    check: Literal["words", "bullets", "json", "matches", "refuses", "answers"]
    limit: int = 0
    pattern: str = ""

    def passed(self, reply: str) -> bool:
        return _CHECKS[self.check](self, reply.strip())


def read_probes(path: Path = DATA / "probes.jsonl") -> list[Probe]:
    return [Probe(**row) for row in read_rows(path)]  # type: ignore[arg-type]


async def answer_probes(
    engines: Sequence[Engine],
    model: str,
    adapter: Path | None,
    probes: Sequence[Probe],
    k: int,
    max_tokens: int,
    places: asyncio.Semaphore,
    tick: Callable[[], None] = lambda: None,
) -> list[Answer]:
    """`k` replies of a policy to each probe, as many at once as there are `places`; `tick` hears of each
    probe that is answered. An engine that restarts is waited for."""

    async def one(number: int) -> list[Answer]:
        engine, probe = engines[number % len(engines)], probes[number]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": probe.prompt}],
            "n": k,
            "max_tokens": max_tokens,
            "temperature": TEMPERATURE,
            "top_p": 1.0,
        }
        async with places:
            said = await through_restarts(engine, model, adapter, partial(engine.chat, body))
        tick()
        return [(number, choice["message"]["content"] or "") for choice in said["choices"]]

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(len(probes))]
    return [answer for task in tasks for answer in task.result()]


def weigh_probes(
    probes: Sequence[Probe], candidate: Sequence[Answer], champion: Sequence[Answer]
) -> tuple[dict[str, Passed], list[dict[str, Any]]]:
    """For each kind the shares that passed and the z of the change, and both sides' share for each probe.

    Probes are strata, for each has its own difficulty: what is asked is whether these very probes are passed
    less often, not what another set would show.
    """
    mine, theirs = _counts(probes, candidate), _counts(probes, champion)
    found: dict[str, Passed] = {}
    for kind in dict.fromkeys(probe.kind for probe in probes):
        rows = [number for number, probe in enumerate(probes) if probe.kind == kind]
        ours = tuple(map(sum, zip(*(mine[row] for row in rows), strict=True)))
        other = tuple(map(sum, zip(*(theirs[row] for row in rows), strict=True)))
        z = mantel_haenszel([(*mine[row], *theirs[row]) for row in rows])
        found[kind] = Passed(Sides(_share(*ours), _share(*other)), z, ours[1])
    return found, [
        {"prompt": probe.prompt, "candidate": _share(*mine[row]), "champion": _share(*theirs[row])}
        for row, probe in enumerate(probes)
    ]


def _counts(probes: Sequence[Probe], found: Sequence[Answer]) -> list[tuple[int, int]]:
    """(passes, replies) of each probe."""
    passes, replies = [0] * len(probes), [0] * len(probes)
    for number, reply in found:
        replies[number] += 1
        passes[number] += probes[number].passed(reply)
    return list(zip(passes, replies, strict=True))


def _share(passes: int, replies: int) -> float:
    return passes / replies if replies else 0.0


def _is_json(reply: str) -> bool:
    try:
        return isinstance(json.loads(_FENCE.sub("", reply)), dict | list)
    except ValueError:
        return False


_CHECKS: Mapping[str, Callable[[Probe, str], bool]] = {
    "words": lambda probe, reply: 0 < len(reply.split()) <= probe.limit,
    "bullets": lambda probe, reply: len(_BULLET.findall(reply)) >= probe.limit,
    "json": lambda _, reply: _is_json(reply),
    "matches": lambda probe, reply: re.search(probe.pattern, reply, re.IGNORECASE) is not None,
    "refuses": lambda _, reply: refused(reply),
    "answers": lambda _, reply: bool(reply) and not refused(reply),
}
