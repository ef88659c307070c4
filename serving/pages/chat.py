"""The chat page."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from feedback.pages.renderer import Pages


def chat_page_router(pages: Pages) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def chat(request: Request) -> Response:
        return pages.show(request, "chat.html")

    return router
