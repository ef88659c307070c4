"""From a template to a page: with who is looking, what they may open, and headers that forbid the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

from feedback.caller import Caller, Role
from feedback.pages.assets import Assets
from feedback.pages.headers import page_headers
from feedback.pages.visitor import visitor_of

HERE = Path(__file__).parent
# path, what it is called, who may open it
NAVIGATION = (
    ("/", "Chat", Role.user),
    ("/dashboard", "Feedback", Role.viewer),
    ("/operate", "Operations", Role.operator),
)


class Pages:
    """Templates and static files of this folder, and of others' folders that have `templates`, `static`."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        rooms = [HERE, *folders]
        self.assets = Assets([room / "static" for room in rooms if (room / "static").is_dir()])
        self._templates = Environment(
            loader=FileSystemLoader([room / "templates" for room in rooms]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["asset"] = self.assets.url

    def show(
        self,
        request: Request,
        template: str,
        role: Role = Role.user,
        status: int = 200,
        charts: bool = False,
        **context: Any,
    ) -> HTMLResponse:
        """A page for callers who reach a role; for others one that says what it takes, with 403."""
        caller: Caller | None = request.scope.get("caller")
        if caller is not None and caller.role < role:
            template, status, context = "forbidden.html", 403, {"needed": role.name}
        links = [(path, name) for path, name, least in NAVIGATION if caller and caller.role >= least]
        page = self._templates.get_template(template).render(
            caller=caller, visitor=visitor_of(request), links=links, here=request.url.path, **context
        )
        return HTMLResponse(page, status, page_headers(charts))
