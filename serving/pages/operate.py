"""The operations page."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from feedback.caller import Role
from feedback.pages.renderer import Pages
from serving.jobs import Kind
from serving.methods import Method
from serving.modes import Mode, Undecided


def operate_page_router(pages: Pages) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/operate")
    async def operate(request: Request) -> Response:
        return pages.show(
            request,
            "operate.html",
            role=Role.operator,
            kinds=sorted(Kind),
            methods=list(Method),
            modes=list(Mode),
            undecided=list(Undecided),
        )

    return router
