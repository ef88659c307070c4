"""Pages of the gateway: headers on each, who may open them, nothing without a session."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from feedback.caller import Role
from tests.conftest import Gateway

HTML = {"Accept": "text/html"}


@contextmanager
def signed_in(gateway: Gateway, key: str, **fields: str) -> Iterator[httpx.Client]:
    """A browser without scripts, signed in."""
    with httpx.Client(base_url=gateway.url, headers=HTML) as browser:
        assert browser.post("/signin", data={"key": key, **fields}).status_code == 303
        yield browser


@pytest.mark.parametrize("path", ["/", "/signin", "/operate"])
def test_pages_come_with_their_policy_and_are_kept_nowhere(steady, path):
    with signed_in(steady, steady.operator_key) as browser:
        answer = browser.get(path)
    assert answer.status_code == 200
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "<script>" not in answer.text
    assert " style=" not in answer.text
    assert " onclick=" not in answer.text


def test_the_frame_says_who_is_signed_in_and_where_they_may_go(steady):
    with signed_in(steady, steady.key(Role.viewer, "team"), name="Ann") as browser:
        page = browser.get("/").text
    assert "Ann" in page
    assert "Key: team" in page
    assert 'href="/dashboard"' in page
    assert 'href="/operate"' not in page


def test_the_sign_in_says_where_keys_come_from(steady):
    answer = httpx.post(steady.url + "/signin", data={"key": "tw-wrong"}, headers=HTML)
    assert "An operator makes keys: <code>thumbwheel keys add</code>.</p>" in answer.text
    assert "`" not in answer.text
    assert "<code>.thumbwheel</code> of the clone" in answer.text
    assert "<code>THUMBWHEEL_HOME</code>" in answer.text


def test_files_of_pages_need_no_key(steady):
    answer = httpx.get(steady.url + "/static/signin.js")
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
    assert httpx.get(steady.url + "/static/nothing.js").status_code == 404


def test_a_page_is_no_route_of_the_api(steady):
    with steady.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    assert all(path.startswith("/v1/") for path in paths)
