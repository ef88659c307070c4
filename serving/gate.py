"""The gate before every route: an API key in a header, or a signed-in browser's cookie.

With a cookie each write has to repeat the session's CSRF token in a header, which no other site can read; a
key in a header needs none, since no browser sends it by itself. Who opens a page without being signed in is
led to the sign-in and back.
"""

import hmac
from typing import Any
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from feedback.caller import Caller, Role
from feedback.pages.visitor import Visitor
from serving.auth import KeyView, authenticate
from serving.errors import Forged, Unauthorized
from serving.sessions import COOKIE, SIGNED_OUT, SessionView

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/signin"})
OPEN_FOLDER = "/static/"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """ASGI middleware: whoever passes has a caller in `scope["caller"]`; from a cookie, a visitor too."""

    def __init__(self, app: ASGIApp, keys: KeyView, sessions: SessionView, refuse: Any) -> None:
        self._app = app
        self._keys = keys
        self._sessions = sessions
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                self._admit(scope)
            except Unauthorized as error:
                answer = _to_signin(scope) if _wants_page(scope) else self._refuse(error)
                await answer(scope, receive, send)
                return
            except Forged as error:
                await self._refuse(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        connection = HTTPConnection(scope)
        header, cookie = connection.headers.get("authorization"), connection.cookies.get(COOKIE)
        if header is not None or not cookie:
            scope["caller"] = authenticate(self._keys.keys, header)
            return
        session = self._sessions.open(cookie)
        key = self._keys.keys.get(session.key_id)
        if key is None or key.revoked is not None:
            raise Unauthorized(SIGNED_OUT)
        csrf = self._sessions.csrf(session)
        given = connection.headers.get("x-csrf-token", "").encode()
        if scope["method"] not in SAFE and not hmac.compare_digest(csrf.encode(), given):
            raise Forged("This needs the session's CSRF token in the header `X-CSRF-Token`. Reload the page.")
        scope["session"] = session
        scope["caller"] = Caller(key_id=key.id, name=key.name, role=Role[key.role])
        scope["visitor"] = Visitor(name=session.name, user=session.user, csrf=csrf)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _wants_page(scope: Scope) -> bool:
    """Whether it is a person who opens an address, not a program that calls a route."""
    headers = HTTPConnection(scope).headers
    asks_for_html = "text/html" in headers.get("accept", "")
    return scope["method"] == "GET" and asks_for_html and "authorization" not in headers


def _to_signin(scope: Scope) -> RedirectResponse:
    here = HTTPConnection(scope).url
    target = here.path + (f"?{here.query}" if here.query else "")
    return RedirectResponse(f"/signin?next={quote(target, safe='')}", 303, {"Cache-Control": "no-store"})
