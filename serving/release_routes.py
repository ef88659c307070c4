"""Operators' routes of release control: what is on trial, by which rules, and who decides."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field, model_validator
from starlette.concurrency import run_in_threadpool

from feedback.types import Frozen
from serving.canary.rule import Rule
from serving.control import Control, Operator, ReasonRequest, Viewer, Why
from serving.modes import Mode, Undecided
from serving.releases import Release

Share = Annotated[float, Field(gt=0, le=0.5, description="Of the traffic")]
RULE = Rule()


class RulesRequest(Frozen):
    """What is left out stays as it is."""

    reason: Why
    mode: Mode | None = None
    share: Share | None = None
    canary: Annotated[float, Field(gt=0, description="Seconds")] | None = None
    undecided: Undecided | None = None
    watch: Annotated[float, Field(ge=0, description="Seconds")] | None = None
    pinned: bool | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> "RulesRequest":
        if not self.changes:
            raise ValueError(
                f"name what to change: {', '.join(sorted(set(RulesRequest.model_fields) - {'reason'}))}"
            )
        return self

    @property
    def changes(self) -> dict[str, Any]:
        return self.model_dump(exclude={"reason"}, exclude_none=True)


class CanaryRequest(Frozen):
    reason: Why
    share: Share | None = None


def release_router(control: Control) -> APIRouter:
    router = APIRouter(prefix="/v1")
    releases = control.releases

    async def answer(release: Release) -> dict[str, Any]:
        await control.refresh()
        return _told(release)

    @router.get("/release")
    def state(_: Viewer) -> dict[str, Any]:
        return _told(releases.state())

    @router.post("/release")
    async def rules(body: RulesRequest, caller: Operator) -> dict[str, Any]:
        changed = await run_in_threadpool(releases.set_rules, caller.name, body.reason, body.changes)
        return await answer(changed)

    @router.post("/policies/{version}/canary")
    async def canary(version: str, body: CanaryRequest, caller: Operator) -> dict[str, Any]:
        found = await run_in_threadpool(control.registry.policy, version)
        await control.bring_up(found)
        begun = await run_in_threadpool(releases.begin, version, caller.name, body.reason, body.share)
        return await answer(begun)

    @router.post("/release/abort")
    async def abort(body: ReasonRequest, caller: Operator) -> dict[str, Any]:
        return await answer(await run_in_threadpool(releases.end, caller.name, body.reason))

    @router.post("/policies/{version}/drop")
    async def drop(version: str, body: ReasonRequest, caller: Operator) -> dict[str, Any]:
        return await answer(await run_in_threadpool(releases.drop, version, caller.name, body.reason))

    return router


def _told(release: Release) -> dict[str, Any]:
    """`decides`: the evidence from which on raters, or a guard, decide."""
    return {
        "object": "release",
        "rules": asdict(release.rules),
        "trial": None if release.trial is None else asdict(release.trial),
        "waiting": list(release.waiting),
        "decides": {"raters": 1 / RULE.alpha, "guards": 1 / RULE.guard_alpha},
    }
