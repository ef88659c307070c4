"""Importing people's preference data: lines of TRL data sets, in batches, by an operator.

tw:import:<id>   hash  what the batches of one import have come to so far: imported, already, bad
"""

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field
from redis import Redis
from starlette.concurrency import run_in_threadpool

from feedback.caller import Caller, operator
from feedback.formats import BadLine, parse
from feedback.imports import Entry, Kind, Origin, entry_of
from feedback.store import FeedbackStore
from feedback.types import Frozen, Identifier, Text, new_id, now
from serving.audit import Action, Audit

Operator = Annotated[Caller, Depends(operator)]
Why = Annotated[Text, Field(min_length=1, max_length=1000)]
KEPT = 24 * 3600  # seconds that the figures of an import which was broken off are kept
MOST_LINES = 1000


class ImportLine(Frozen):
    number: int = Field(ge=1, le=2**53, description="Of the line in its file, for messages")
    record: Any = Field(description="The line: an object of one of TRL's types")


class ImportRequest(Frozen):
    lines: list[ImportLine] = Field(max_length=MOST_LINES)
    id: Identifier | None = Field(None, description="The same for all batches of one import")
    more: bool = Field(False, description="Whether other batches of this import follow")
    source: Identifier | None = Field(None, description="The data set's name")
    bad: int = Field(0, ge=0, le=2**53, description="More bad lines, which the sender did not send: no JSON")
    dry_run: bool = False
    reason: Why | None = None


@dataclass(frozen=True, slots=True)
class Imports:
    """Takes batches. The audit log has an import's beginning, where it has several, and its end."""

    redis: Redis
    store: FeedbackStore
    audit: Audit

    async def take(self, body: ImportRequest, caller: Caller) -> dict[str, Any]:
        """Import the good lines of a batch. Comes back once they are on the store's disk.

        Lines that were exported from this very store are there already, under the names that they have here.
        """
        import_id = body.id or new_id("import")
        read, errors = await run_in_threadpool(_read, body, caller)
        own = await self.store.known([name for name, _ in read if name])
        entries = [entry for name, entry in read if name not in own]
        if not body.dry_run:
            await run_in_threadpool(self._begin, import_id, body, caller)
        there = await self.store.bring_in(entries, body.dry_run)
        new = Counter(entry.kind for entry, was in zip(entries, there, strict=True) if not was)
        figures = {
            "imported": new.total(),
            "already": sum(there) + len(read) - len(entries),
            "bad": len(errors) + body.bad,
        }
        if not body.dry_run:
            await run_in_threadpool(self._end, import_id, body, caller, figures)
        return {
            "object": "import",
            "id": import_id,
            "dry_run": body.dry_run,
            "imported": {kind.value: new[kind] for kind in Kind},
            "already": figures["already"],
            "errors": errors,
        }

    def _begin(self, import_id: str, body: ImportRequest, caller: Caller) -> None:
        if body.more and self.redis.hsetnx(_key(import_id), "imported", 0):
            self.redis.expire(_key(import_id), KEPT)
            self._say(import_id, body, caller, state="begun")

    def _end(self, import_id: str, body: ImportRequest, caller: Caller, figures: dict[str, int]) -> None:
        with self.redis.pipeline() as pipe:
            for name, count in figures.items():
                pipe.hincrby(_key(import_id), name, count)
            pipe.expire(_key(import_id), KEPT)
            totals = pipe.execute()[: len(figures)]
        if not body.more:
            facts = dict(zip(figures, totals, strict=True))
            self._say(import_id, body, caller, state="finished", **facts)
            self.redis.delete(_key(import_id))

    def _say(self, import_id: str, body: ImportRequest, caller: Caller, **facts: str | int) -> None:
        after = {"id": import_id, "name": body.source, **facts}
        self.audit.write(Action(caller.name, "feedback.import", body.reason, after=after))


def imports_router(imports: Imports) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.post("/import")
    async def take(body: ImportRequest, caller: Operator) -> dict[str, Any]:
        return await imports.take(body, caller)

    return router


def _read(body: ImportRequest, caller: Caller) -> tuple[list[tuple[str | None, Entry]], list[dict[str, Any]]]:
    """What the good lines add, with the completion that each names, if any; what is wrong with the rest."""
    origin = Origin(caller.key_id, body.source, now())
    entries: list[tuple[str | None, Entry]] = []
    errors: list[dict[str, Any]] = []
    for line in body.lines:
        try:
            entry = entry_of(parse(line.record), origin)
            name = line.record.get("completion_id")
            entries.append((name if isinstance(name, str) else None, entry))
        except BadLine as error:
            errors.append({"line": line.number, "message": str(error)})
    return entries, errors


def _key(import_id: str) -> str:
    return f"tw:import:{import_id}"
