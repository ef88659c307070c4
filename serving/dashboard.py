"""The feedback dashboard: its page, and feedback's figures with what only serving knows beside them.

That is when the champion changed, which the audit log has, and how far each reward model agrees with people,
which stands in its metrics.
"""

from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from feedback.caller import Role
from feedback.dashboard import Dashboard
from feedback.pages.renderer import Pages
from feedback.stats_routes import Looking, Viewer
from serving.audit import Audit
from serving.registry import PROMOTE, ROLLBACK, Registry, Version

MOST_ACTIONS = 500  # of the audit log, looked through for changes of the champion
MOST_REWARDS = 12


@dataclass(frozen=True, slots=True)
class Board:
    dashboard: Dashboard
    audit: Audit
    registry: Registry

    def marks(self, since: float, until: float) -> list[dict[str, Any]]:
        """When the champion changed, oldest first."""
        actions = self.audit.between(since, until, MOST_ACTIONS)
        return [
            {
                "time": action["when"],
                "kind": "promotion" if action["what"] == PROMOTE else "rollback",
                "from": action["before"],
                "to": action["after"],
                "who": action["who"],
                "why": action["why"],
            }
            for action in reversed(actions)
            if action["what"] in (PROMOTE, ROLLBACK)
        ]

    def rewards(self) -> dict[str, Any]:
        """How often each of the newest reward models ordered people's held-out pairs as they did."""
        versions = list(self.registry.rewards().values())[-MOST_REWARDS:]
        live = self.registry.aliases().reward
        return {"live": live, "data": [_agreement(version) for version in versions]}


def dashboard_router(pages: Pages, board: Board) -> APIRouter:
    router = APIRouter()

    # Not async: the figures are counted in a thread, beside the streams of others.
    @router.get("/v1/stats/dashboard", response_class=JSONResponse)
    def figures(_: Viewer, look: Looking) -> Response:
        found = board.dashboard.show(look)
        marks = board.marks(look.window.first, look.window.end)
        body = {**found, "marks": marks, "rewards": board.rewards()}
        # Made of plain types alone: what FastAPI would look through once more takes a third of the time.
        return Response(orjson.dumps(body), media_type="application/json")

    @router.get("/dashboard", include_in_schema=False)
    def page(request: Request) -> Response:
        return pages.show(request, "dashboard.html", role=Role.viewer, charts=True)

    return router


def _agreement(version: Version) -> dict[str, Any]:
    found = version.metrics.get("holdout", {})
    names = ("pair_accuracy", "pair_accuracy_interval", "pairs", "thumb_auroc", "thumbs")
    return {"reward": version.id, "created": version.created, **{name: found.get(name) for name in names}}
