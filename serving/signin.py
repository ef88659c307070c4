"""Signing in with a key and out again: `/signin`, `/signout`, and `/session` for who is signed in.

The key is looked at once; what the browser keeps is a new session's signed cookie. Each person who uses a
key has a `user` of their own, from the name they gave, else from a second cookie that stays in the browser:
so raters who share a key are not one rater.
"""

import hashlib
import re
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, RedirectResponse, Response

from feedback.caller import Caller, caller_of
from feedback.pages.renderer import Pages
from feedback.pages.visitor import visitor_of
from feedback.types import now
from serving.auth import KeyView, authenticate
from serving.errors import BadRequest, Forged, Unauthorized
from serving.sessions import COOKIE, Session, Sessions, SessionView

BROWSER = "thumbwheel_browser"
YEAR = 365 * 24 * 3600
LONGEST_NAME = 60
ALIVE = re.compile(r"[0-9a-f]{32}")


def signin_router(pages: Pages, keys: KeyView, sessions: Sessions, view: SessionView) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/signin")
    async def form(request: Request, next: str = "/") -> Response:
        return pages.show(request, "signin.html", next=local(next), name="", wrong=None)

    @router.post("/signin")
    async def sign_in(request: Request) -> Response:
        _refuse_other_sites(request)
        fields = _fields(await request.body())
        after, name = local(fields.get("next", "/")), _plain(fields.get("name", ""))
        try:
            caller = authenticate(keys.keys, f"Bearer {fields.get('key', '').strip()}")
        except Unauthorized as error:
            return pages.show(request, "signin.html", status=401, next=after, name=name, wrong=str(error))
        browser = request.cookies.get(BROWSER, "")
        browser = browser if ALIVE.fullmatch(browser) else secrets.token_hex(16)
        session = _new_session(caller, name, browser)
        answer = RedirectResponse(after, 303, {"Cache-Control": "no-store"})
        how: dict[str, Any] = {
            "httponly": True,
            "samesite": "strict",
            "secure": request.url.scheme == "https",
        }
        answer.set_cookie(COOKIE, view.seal(session), max_age=view.lifetime, **how)
        answer.set_cookie(BROWSER, browser, max_age=YEAR, **how)
        return answer

    @router.post("/signout")
    async def sign_out(request: Request) -> Response:
        session: Session | None = request.scope.get("session")
        if session is not None:
            await run_in_threadpool(sessions.end, session.id, now() + view.lifetime)
            view.ended = {*view.ended, session.id}
        answer = Response(status_code=204)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    @router.get("/session")
    async def who(request: Request) -> JSONResponse:
        """Asked by the sign-in page: a link from elsewhere arrives without the (strict) cookie."""
        caller, visitor = caller_of(request), visitor_of(request)
        body = {"key": caller.name, "role": caller.role.name, "name": visitor.name if visitor else None}
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    return router


def local(path: str) -> str:
    """A path on this site to go to after signing in; what could lead elsewhere becomes `/`.

    Browsers read `\\` as `/` and drop tabs and line ends, so `/\\t/evil.example` would be another site.
    """
    plain = path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path
    if not plain or " " in path or len(path) > 2000:
        return "/"
    parts = urlsplit(path)
    return path if not parts.scheme and not parts.netloc else "/"


def _new_session(caller: Caller, name: str, browser: str) -> Session:
    person = f"name {name.casefold()}" if name else f"browser {browser}"
    user = "web-" + hashlib.sha256(person.encode()).hexdigest()[:20]
    return Session(id=secrets.token_hex(16), key_id=caller.key_id, user=user, name=name)


def _plain(name: str) -> str:
    """A name on one line, without what cannot be seen."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())[:LONGEST_NAME].strip()


def _fields(body: bytes) -> dict[str, str]:
    try:
        return {name: values[0] for name, values in parse_qs(body.decode(), max_num_fields=10).items()}
    except ValueError as error:
        raise BadRequest("The form cannot be read. Reload the page and try again.") from error


def _refuse_other_sites(request: Request) -> None:
    """Another site must not sign a browser in under a key of its own choosing."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:  # not sent over plain HTTP, but for this machine
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if foreign:
        raise Forged("This sign-in was sent by another site. Open /signin here and sign in.")
