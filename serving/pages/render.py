"""`POST /render`: Markdown to harmless HTML, as many texts at once as a conversation has."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field, StringConstraints

from feedback.types import Frozen
from serving.pages.markdown import to_html

Text = Annotated[str, StringConstraints(max_length=200_000)]


class RenderRequest(Frozen):
    texts: list[Text] = Field(max_length=500)


def render_router() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    # Not async: a long text must not hold up the streams of others.
    @router.post("/render")
    def render(body: RenderRequest) -> dict[str, list[str]]:
        return {"html": [to_html(text) for text in body.texts]}

    return router
