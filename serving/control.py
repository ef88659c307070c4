"""Operators' routes: versions, jobs, learning, keys, engines, audit."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Query
from pydantic import StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from feedback.caller import Caller, Role, caller_of, operator, viewer
from feedback.store import FeedbackStore
from feedback.types import Frozen, Identifier
from serving.audit import Action, Audit
from serving.auth import Keys
from serving.dispatch import Dispatcher
from serving.errors import BadRequest, Conflict, UnknownPlot
from serving.fleet import Fleet, Loaded, Wanted
from serving.jobfolders import JobFolders
from serving.jobs import ACTIVE, Jobs, Kind
from serving.loading import bring_up
from serving.methods import Method
from serving.registry import BASE, Aliases, Registry, Version
from serving.releases import Releases
from serving.router import Router

AnyCaller = Annotated[Caller, Depends(caller_of)]
Viewer = Annotated[Caller, Depends(viewer)]
Operator = Annotated[Caller, Depends(operator)]
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[Identifier | None, Query(description="The last id of the page before")]
Lines = Annotated[int, Query(ge=1, le=2000)]
StageName = Annotated[str | None, Query(max_length=100, description="As the job names it")]
Plot = Literal[
    "reward.png", "reward.json", "training.png", "training.json", "reliability.png", "reliability.json"
]
Why = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]


class JobRequest(Frozen):
    kind: Kind
    method: Method | None = None
    reason: Why | None = None


class ReasonRequest(Frozen):
    reason: Why


class RollbackRequest(Frozen):
    reason: Why
    to: Identifier | None = None


class LearningRequest(Frozen):
    paused: bool
    reason: Why


class KeyRequest(Frozen):
    name: Identifier
    role: Literal["user", "viewer", "operator"] = "user"


class RevokeRequest(Frozen):
    reason: Why | None = None


NO_REASON = RevokeRequest()


@dataclass(frozen=True, slots=True)
class Control:
    """What the operators' routes work on. `refresh` makes this gateway see a change at once."""

    registry: Registry
    jobs: Jobs
    folders: JobFolders
    keys: Keys
    audit: Audit
    dispatcher: Dispatcher
    store: FeedbackStore
    router: Router
    fleet: Fleet
    releases: Releases
    refresh: Callable[[], Awaitable[None]]

    async def bring_up(self, version: Version) -> list[Loaded]:
        path = self.registry.directory(version)
        if path is None:
            return []
        engines = [state.engine for state in self.fleet.states]
        return await bring_up(engines, Wanted(version.id, path, version.probe))

    async def moved(self, aliases: Aliases, engines: list[Loaded]) -> dict[str, Any]:
        """What a move of the champion is answered with, once this gateway routes by it."""
        release = await run_in_threadpool(self.releases.settle)
        await self.refresh()
        self.fleet.brought_up(aliases.champion, engines)
        trial = None if release.trial is None else release.trial.told()
        return {**asdict(aliases), "trial": trial, "engines": [asdict(engine) for engine in engines]}


def control_router(control: Control) -> APIRouter:
    router = APIRouter(prefix="/v1")
    for add in (_models, _versions, _moves, _jobs, _learning, _keys, _watching):
        add(router, control)
    return router


def _models(router: APIRouter, control: Control) -> None:
    @router.get("/models")
    async def models(_: AnyCaller) -> dict[str, Any]:
        versions = control.router.view.versions
        data = [
            {
                "id": name,
                "object": "model",
                "created": int(versions[name].created) if name in versions else 0,
                "owned_by": "thumbwheel",
            }
            for name in control.router.models()
        ]
        return {"object": "list", "data": data}

    @router.get("/completions/{completion_id}")
    async def completion(completion_id: str, _: Viewer) -> dict[str, Any]:
        found = await control.store.completion(completion_id)
        return {"object": "completion", **found.model_dump(mode="json")}


def _versions(router: APIRouter, control: Control) -> None:
    registry = control.registry

    @router.get("/policies")
    def policies(_: Viewer, limit: Limit = 100, after: Cursor = None) -> dict[str, Any]:
        return _page(registry.policies(), limit, after, **asdict(registry.aliases()))

    @router.get("/policies/{version}")
    def policy(version: str, _: Viewer) -> dict[str, Any]:
        return {"object": "policy", **_with_plots(registry, registry.policy(version))}

    @router.get("/policies/{version}/plots/{name}", response_class=FileResponse)
    def policy_plot(version: str, name: Plot, _: Viewer) -> FileResponse:
        return _plot(registry, registry.policy(version), name)

    @router.get("/rewards")
    def rewards(_: Viewer, limit: Limit = 100, after: Cursor = None) -> dict[str, Any]:
        return _page(registry.rewards(), limit, after, live=registry.aliases().reward)

    @router.get("/rewards/{version}")
    def reward(version: str, _: Viewer) -> dict[str, Any]:
        return {"object": "reward", **_with_plots(registry, registry.reward(version))}

    @router.get("/rewards/{version}/plots/{name}", response_class=FileResponse)
    def reward_plot(version: str, name: Plot, _: Viewer) -> FileResponse:
        return _plot(registry, registry.reward(version), name)


def _moves(router: APIRouter, control: Control) -> None:
    registry = control.registry

    @router.post("/policies/{version}/promote")
    async def promote(version: str, body: ReasonRequest, caller: Operator) -> dict[str, Any]:
        found = await run_in_threadpool(registry.policy, version)
        if (await run_in_threadpool(registry.aliases)).champion == version:
            raise Conflict(f"{version} is the champion already.")
        engines = await control.bring_up(found)
        aliases = await run_in_threadpool(lambda: registry.promote(version, who=caller.name, why=body.reason))
        return {"object": "promotion", **await control.moved(aliases, engines)}

    @router.post("/rollback")
    async def rollback(body: RollbackRequest, caller: Operator) -> dict[str, Any]:
        aliases = await run_in_threadpool(registry.aliases)
        to = body.to or aliases.previous
        if to is None:
            raise Conflict(f"There is nothing to roll back to: {aliases.champion} has no previous version.")
        found = await run_in_threadpool(registry.policy, to)
        if to == aliases.champion:
            raise Conflict(f"{to} is the champion already.")
        # An engine that has it was probed: a rollback does not wait for the others, which mend themselves.
        engines = [] if control.fleet.having(to) else await control.bring_up(found)
        moved = await run_in_threadpool(lambda: registry.roll_back(to, who=caller.name, why=body.reason))
        return {"object": "rollback", "from": aliases.champion, **await control.moved(moved, engines)}


def _jobs(router: APIRouter, control: Control) -> None:
    jobs, folders, audit = control.jobs, control.folders, control.audit

    @router.post("/jobs")
    def start(body: JobRequest, caller: Operator) -> dict[str, Any]:
        params = {} if body.method is None else {"method": body.method}
        job = jobs.create(body.kind, by=caller.name, params=params)
        audit.write(Action(caller.name, "job.start", body.reason, after={"id": job.id, "kind": job.kind}))
        control.dispatcher.announce(job.id)
        return job.as_dict()

    @router.get("/jobs")
    def some(_: Viewer, limit: Limit = 20, after: Cursor = None) -> dict[str, Any]:
        found, more = jobs.page(limit, after)
        return {"object": "list", "data": [job.as_dict() for job in found], "has_more": more}

    @router.get("/jobs/{job_id}")
    def one(job_id: str, _: Viewer) -> dict[str, Any]:
        return jobs.get(job_id).as_dict()

    @router.get("/jobs/{job_id}/log")
    def log(job_id: str, _: Viewer, lines: Lines = 200, stage: StageName = None) -> dict[str, Any]:
        """What a stage printed last, the newest by default, where this gateway shares the worker's folder."""
        found = folders.tail(jobs.get(job_id), lines, stage)
        return {"object": "job.log", "id": job_id, **asdict(found)}

    @router.get("/jobs/{job_id}/stages/{stage}")
    def stage(job_id: str, stage: str, _: Viewer) -> dict[str, Any]:
        """What a stage measured and drew, so that a candidate that was turned away can be looked at too."""
        found = folders.result(jobs.get(job_id), stage)
        return {"object": "job.stage", "id": job_id, **asdict(found)}

    @router.get("/jobs/{job_id}/stages/{stage}/plots/{name}", response_class=FileResponse)
    def stage_plot(job_id: str, stage: str, name: Plot, _: Viewer) -> FileResponse:
        return FileResponse(folders.plot(jobs.get(job_id), stage, name))

    @router.post("/jobs/{job_id}/cancel")
    def cancel(job_id: str, body: ReasonRequest, caller: Operator) -> dict[str, Any]:
        before = jobs.get(job_id).told()
        job = jobs.cancel(job_id, body.reason)
        audit.write(Action(caller.name, "job.cancel", body.reason, before=before, after=job.told()))
        return job.as_dict()


def _learning(router: APIRouter, control: Control) -> None:
    registry = control.registry

    @router.get("/learning")
    def state(_: Viewer) -> dict[str, Any]:
        return {"object": "learning", **asdict(registry.learning())}

    @router.post("/learning")
    def pause(body: LearningRequest, caller: Operator) -> dict[str, Any]:
        learning = registry.pause_learning(body.paused, caller.name, body.reason)
        return {"object": "learning", **asdict(learning)}


def _keys(router: APIRouter, control: Control) -> None:
    keys = control.keys

    @router.get("/keys")
    def listed(_: Operator) -> dict[str, Any]:
        return {"object": "list", "data": [key.as_dict() for key in keys.all().values()]}

    @router.post("/keys")
    async def add(body: KeyRequest, caller: Operator) -> dict[str, Any]:
        key, text = await run_in_threadpool(keys.add, body.name, Role[body.role], caller.name)
        await control.refresh()
        return {"object": "key", **key.as_dict(), "key": text}

    @router.delete("/keys/{key_id}")
    async def revoke(key_id: str, caller: Operator, body: RevokeRequest = NO_REASON) -> dict[str, Any]:
        if key_id == caller.key_id:
            raise Conflict("A key cannot revoke itself; use another operator's key.")
        key = await run_in_threadpool(keys.revoke, key_id, caller.name, body.reason)
        await control.refresh()
        return {"object": "key", **key.as_dict()}


def _watching(router: APIRouter, control: Control) -> None:
    @router.get("/audit")
    def log(_: Viewer, limit: Limit = 50, after: Cursor = None) -> dict[str, Any]:
        actions, more = control.audit.page(limit, after)
        return {"object": "list", "data": actions, "has_more": more}

    @router.get("/engines")
    async def engines(_: Viewer) -> dict[str, Any]:
        return {"object": "list", "data": [state.as_dict() for state in control.fleet.states]}

    @router.get("/status")
    def status(_: Viewer) -> dict[str, Any]:
        """Everything at a glance: who answers, the engines, what is being learnt."""
        active = [job for job in control.jobs.active() if job.state in ACTIVE]
        return {
            "object": "status",
            **asdict(control.registry.aliases()),
            "engines": [state.as_dict() for state in control.fleet.states],
            "learning": asdict(control.registry.learning()),
            "jobs": [job.as_dict() for job in active],
            "base": BASE,
        }


def _with_plots(registry: Registry, version: Version) -> dict[str, Any]:
    """A version, and the names of the pictures that were made with it."""
    folder = registry.directory(version)
    names = [name for name in get_args(Plot) if name.endswith(".png")]
    there = [name for name in names if folder is not None and (folder / "plots" / name).is_file()]
    return {**version.as_dict(), "plots": there}


def _plot(registry: Registry, version: Version, name: str) -> FileResponse:
    """A plot that was made with a version, as a picture or as data. UnknownPlot where there is none."""
    folder = registry.directory(version)
    if folder is None or not (folder / "plots" / name).is_file():
        raise UnknownPlot(f"{version.id} has no plot {name!r}.", "name")
    return FileResponse(folder / "plots" / name)


def _page(versions: dict[str, Version], limit: int, after: str | None, **more: Any) -> dict[str, Any]:
    """The newest versions first, those older than `after`."""
    names = list(reversed(versions))
    if after is not None:
        if after not in versions:
            raise BadRequest(f"There is no version {after!r} to list after.", "after")
        names = names[names.index(after) + 1 :]
    data = [versions[name].as_dict() for name in names[:limit]]
    return {"object": "list", "data": data, "has_more": len(names) > limit, **more}
