"""What every page stands on: files that are cached until they change, headers, and text that stays text."""

import gzip

import httpx
import pytest
from fastapi import FastAPI, Request

from feedback.caller import Caller, Role
from feedback.pages.assets import assets_router
from feedback.pages.renderer import Pages
from feedback.pages.visitor import Visitor
from tests.servers import serving

HOSTILE = "<img src=x onerror=alert(1)>\"'"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Pages:
    room = tmp_path_factory.mktemp("room")
    (room / "templates").mkdir()
    (room / "static").mkdir()
    (room / "templates" / "probe.html").write_text(
        "{% extends 'base.html' %}{% block title %}-{% endblock %}{% block main %}{{ text }}{% endblock %}"
    )
    (room / "static" / "probe.js").write_text("export const probe = 1;")
    return Pages([room])


@pytest.fixture(scope="module")
def site(pages):
    app = FastAPI()
    app.include_router(assets_router(pages.assets))

    @app.get("/probe/{role}")
    async def probe(request: Request, role: str, charts: bool = False):
        request.scope["caller"] = Caller("id", HOSTILE, Role[role])
        request.scope["visitor"] = Visitor(name=HOSTILE, user="web-1", csrf="token")
        return pages.show(request, "probe.html", role=Role.viewer, charts=charts, text=HOSTILE)

    with serving(app) as url, httpx.Client(base_url=url) as client:
        yield client


def policy_of(answer: httpx.Response) -> dict[str, str]:
    parts = answer.headers["content-security-policy"].split("; ")
    return {name: value for name, _, value in (part.partition(" ") for part in parts)}


def test_a_page_escapes_whatever_stands_in_it(site):
    page = site.get("/probe/operator").text
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;&#34;&#39;") == 3
    assert '<meta name="csrf" content="token">' in page


def test_pages_forbid_inline_script_and_everything_from_elsewhere(site):
    answer = site.get("/probe/viewer")
    policy = policy_of(answer)
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == (
        "'none'",
        "'self'",
        "'self'",
    )
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == policy["form-action"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (answer.headers["cache-control"], answer.headers["referrer-policy"]) == ("no-store", "same-origin")


def test_charts_may_style_attributes_and_nothing_more(site):
    policy = policy_of(site.get("/probe/viewer", params={"charts": True}))
    assert policy["script-src"] == "'self'"
    assert [name for name, value in policy.items() if "unsafe" in value] == ["style-src-attr"]


def test_the_navigation_shows_what_a_role_may_open(site):
    viewer, operator = (site.get(f"/probe/{role}").text for role in ("viewer", "operator"))
    assert 'href="/dashboard"' in viewer
    assert 'href="/operate"' not in viewer
    assert 'href="/operate"' in operator


def test_too_low_a_role_is_told_what_it_takes(site):
    answer = site.get("/probe/user")
    assert answer.status_code == 403
    assert "needs the role viewer" in answer.text
    assert "content-security-policy" in answer.headers


def test_files_are_kept_for_ever_under_their_hash_and_asked_for_under_none(site, pages):
    kept = site.get(pages.assets.url("probe.js"))
    assert kept.text == "export const probe = 1;"
    assert kept.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in kept.headers["cache-control"]
    for address in ("/static/probe.js", "/static/0123456789abcdef/probe.js"):
        asked = site.get(address)
        assert (asked.text, asked.headers["cache-control"]) == (kept.text, "no-cache")
        again = site.get(address, headers={"If-None-Match": asked.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_a_changed_file_changes_every_address(pages, tmp_path):
    (tmp_path / "static").mkdir()
    (tmp_path / "templates").mkdir()
    (tmp_path / "static" / "probe.js").write_text("export const probe = 2;")
    assert Pages([tmp_path]).assets.url("dom.js") != pages.assets.url("dom.js")


def test_files_are_packed_for_who_can_unpack(site):
    packed = site.get("/static/style.css", headers={"Accept-Encoding": "gzip"})
    plain = site.get("/static/style.css", headers={"Accept-Encoding": "identity"})
    assert (packed.headers["content-encoding"], packed.text) == ("gzip", plain.text)
    assert int(packed.headers["content-length"]) == len(gzip.compress(plain.content, mtime=0))
    assert packed.headers["etag"] != plain.headers["etag"]


def test_plotly_comes_out_of_its_package(site):
    answer = site.get("/static/plotly.min.js", headers={"Accept-Encoding": "identity"})
    assert answer.status_code == 200
    assert "plotly.js v" in answer.text[:100]


@pytest.mark.parametrize("name", ["nothing.js", "..%2f__init__.py", "..%2ftemplates%2fbase.html", "a/b/c.js"])
def test_nothing_else_is_served(site, name):
    assert site.get(f"/static/{name}").status_code == 404
