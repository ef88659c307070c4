"""HTTP of the dashboard's figures, each also alone; downloads; and the way down to conversations."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from starlette.responses import StreamingResponse

from feedback import figures
from feedback.caller import Caller, viewer
from feedback.conversations import Conversations
from feedback.dashboard import Dashboard, Look
from feedback.download import Download, Format
from feedback.errors import NoBeginning
from feedback.filters import MOST_DAYS, Filter
from feedback.labels import Page
from feedback.layout import DAY, HOUR
from feedback.live import Live
from feedback.stats import Stats
from feedback.types import Identifier, Reason, Source, now

Viewer = Annotated[Caller, Depends(viewer)]
Time = Annotated[float | None, Query(ge=0, le=2**40, description="Unix seconds")]
Versions = Annotated[str | None, Query(max_length=2000, description="By commas; else all")]
Limit = Annotated[int, Query(ge=1, le=200)]
Event = Annotated[str, Query(pattern=r"^\d{1,15}-\d{1,15}$", description="`next` of the page before")]
MAX_HOURS = 24 * 90
MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl; charset=utf-8"}
STREAMED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def look_of(
    versions: Versions = None,
    since: Time = None,
    until: Time = None,
    tag: Identifier | None = None,
    source: Source | None = None,
) -> Look:
    named = frozenset(name.strip() for name in (versions or "").split(",") if name.strip())
    if until is not None and since is None:
        raise NoBeginning("A stretch of time that ends needs a beginning too: give `since`.", "since")
    end = now() if until is None else min(until, now())
    return Look(Filter(named, tag, source), since, end)


Looking = Annotated[Look, Depends(look_of)]


def stats_router(
    stats: Stats, dashboard: Dashboard, conversations: Conversations, download: Download, live: Live
) -> APIRouter:
    router = APIRouter(prefix="/v1")
    _by_time(router, stats)
    _figures(router, stats, dashboard)
    _said(router, dashboard)
    _down(router, conversations)

    @router.get("/stats/export")
    def export(_: Viewer, look: Looking, format: Format = "jsonl") -> StreamingResponse:
        name = f'attachment; filename="feedback.{format}"'
        headers = {**STREAMED, "Content-Disposition": name}
        return StreamingResponse(download.lines(look, format), media_type=MEDIA[format], headers=headers)

    @router.get("/stats/live")
    async def changes(_: Viewer) -> StreamingResponse:
        """Server-sent events: `change`, at most once a second."""
        return StreamingResponse(live.events(), media_type="text/event-stream", headers=STREAMED)

    return router


def _by_time(router: APIRouter, stats: Stats) -> None:
    @router.get("/stats/policies")
    def by_policy(_: Viewer) -> dict[str, Any]:
        data = [{"policy": policy, **counts.as_dict()} for policy, counts in stats.policies().items()]
        return {"object": "list", "data": data, "labels": stats.labels()}

    @router.get("/stats/hours")
    def by_hour(_: Viewer, policy: Identifier, since: Time = None, until: Time = None) -> dict[str, Any]:
        start, end = _stretch(since, until, DAY, MAX_HOURS * HOUR)
        hours = stats.hours(policy, start, end)
        return {"object": "list", "data": [{"hour": hour, **counts.as_dict()} for hour, counts in hours]}

    @router.get("/stats/days")
    def by_day(_: Viewer, policy: Identifier, since: Time = None, until: Time = None) -> dict[str, Any]:
        start, end = _stretch(since, until, 30 * DAY, MOST_DAYS * DAY)
        days = stats.days(policy, start, end)
        return {"object": "list", "data": [{"day": day, **counts.as_dict()} for day, counts in days]}


def _stretch(since: float | None, until: float | None, usual: float, most: float) -> tuple[float, float]:
    end = now() if until is None else min(until, now())
    return max(end - usual if since is None else since, end - most), end


def _figures(router: APIRouter, stats: Stats, dashboard: Dashboard) -> None:
    @router.get("/stats/matrix")
    def matrix(_: Viewer, look: Looking) -> dict[str, Any]:
        found = dashboard.tally(look)
        both = {"matrix": figures.matrix(found), "strengths": figures.ranking(found)}
        return {"object": "matrix", **look.as_dict(), **both}

    @router.get("/stats/reasons")
    def reasons(_: Viewer, look: Looking) -> dict[str, Any]:
        return {"object": "list", **look.as_dict(), "data": figures.reasons(dashboard.tally(look))}

    @router.get("/stats/sides")
    def sides(_: Viewer, look: Looking) -> dict[str, Any]:
        return {"object": "sides", **look.as_dict(), **figures.sides(dashboard.tally(look))}

    @router.get("/stats/raters")
    def raters(_: Viewer, look: Looking) -> dict[str, Any]:
        """Of all versions, tags and sources: by time alone, and by whole days."""
        return {"object": "raters", **look.as_dict(), **figures.raters(dashboard.loudest(look))}

    @router.get("/stats/tags")
    def tags(_: Viewer) -> dict[str, Any]:
        """Since ever."""
        data = [{"tag": tag, **figures.totals(found)} for tag, found in stats.totals_by_tag().items()]
        return {"object": "list", "data": data}

    @router.get("/stats/sources")
    def sources(_: Viewer) -> dict[str, Any]:
        """Since ever."""
        found = figures.sources(stats.heard())
        return {"object": "list", "data": [{"source": name, "labels": n} for name, n in found.items()]}


def _said(router: APIRouter, dashboard: Dashboard) -> None:
    """Labels one by one, the newest first; `next` is the `after` of the next page, if there is one."""

    @router.get("/stats/labels")
    def labels(
        _: Viewer, look: Looking, limit: Limit = 50, after: Event | None = None, reason: Reason | None = None
    ) -> dict[str, Any]:
        """With a comment or without. A page may be short, or empty, and have a next one all the same."""
        return _list(look, dashboard.labels(look, limit, after, reason))

    @router.get("/stats/comments")
    def comments(_: Viewer, look: Looking, limit: Limit = 50, after: Time = None) -> dict[str, Any]:
        return _list(look, dashboard.comments(look, limit, after))


def _list(look: Look, page: Page) -> dict[str, Any]:
    return {"object": "list", **look.as_dict(), "data": page.rows, "next": page.after}


def _down(router: APIRouter, conversations: Conversations) -> None:
    @router.get("/completions/{completion_id}/ratings")
    def ratings(completion_id: str, _: Viewer) -> dict[str, Any]:
        return {"object": "list", **conversations.ratings(completion_id)}

    @router.get("/comparisons/{pair_id}")
    def pair(pair_id: str, _: Viewer) -> dict[str, Any]:
        return {"object": "pair", **conversations.pair(pair_id)}
