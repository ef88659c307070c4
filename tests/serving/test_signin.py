"""A browser's session: what starts it, what it may do, and everything that ends it."""

import re
from collections.abc import Iterator

import httpx
import pytest
from itsdangerous import BadSignature

from feedback.caller import Role
from serving.errors import Unauthorized
from serving.sessions import COOKIE, SECRET, Session, SessionView
from serving.signin import BROWSER, local
from tests.conftest import MESSAGES, Gateway, chat, running_gateway
from tests.servers import eventually

HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
def browser(steady: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=steady.url, headers=HTML) as client:
        yield client


def sign_in(browser: httpx.Client, key: str, **fields: str) -> httpx.Response:
    return browser.post("/signin", data={"key": key, **fields})


def meta(browser: httpx.Client, name: str) -> str:
    found = re.search(f'<meta name="{name}" content="([^"]+)">', browser.get("/").text)
    assert found is not None
    return found[1]


def test_a_good_key_opens_a_session_and_is_not_kept_in_it(steady, browser):
    answer = sign_in(browser, steady.operator_key, next="/operate?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/operate?x=1")
    cookies = [header.lower() for header in answer.headers.get_list("set-cookie")]
    assert len(cookies) == 2
    for cookie in cookies:
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "; secure" not in cookie
    assert "max-age=604800" in cookies[0]
    assert steady.operator_key.rpartition("-")[2] not in str(cookies)
    assert browser.get("/").status_code == 200
    assert browser.get("/session").json() == {"key": "operator", "role": "operator", "name": ""}


def test_behind_https_the_cookies_are_secure(steady, browser):
    browser.headers["X-Forwarded-Proto"] = "https"
    answer = sign_in(browser, steady.operator_key)
    assert all("; secure" in cookie.lower() for cookie in answer.headers.get_list("set-cookie"))


@pytest.mark.parametrize("key", ["", "nonsense", "tw-a-b", "tw-00000000-" + "0" * 48, "é" * 500])
def test_a_wrong_key_opens_nothing_and_loses_nothing(browser, key):
    answer = sign_in(browser, key, name="Ann <b>", next="/dashboard")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "wrong or revoked" in answer.text
    assert 'value="Ann &lt;b&gt;"' in answer.text
    assert 'value="/dashboard"' in answer.text


def test_who_is_not_signed_in_is_led_there_and_back(steady, browser):
    answer = browser.get("/dashboard?hours=24&x=a%20b")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/signin?next=%2Fdashboard%3Fhours%3D24%26x%3Da%2520b"
    form = browser.get(answer.headers["location"])
    assert 'value="/dashboard?hours=24&amp;x=a%20b"' in form.text
    assert browser.get("/v1/models", headers={"Accept": "application/json"}).status_code == 401


@pytest.mark.parametrize(
    "path",
    ["https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
     "/\n/evil.example", "javascript:alert(1)", "evil.example", "", " /x", "/x y", "/" + "x" * 3000,
     "///evil.example", "/\u2028/evil.example"],
)  # fmt: skip
def test_a_hostile_next_leads_nowhere_but_home(steady, browser, path):
    assert local(path) == "/"
    assert sign_in(browser, steady.operator_key, next=path).headers["location"] == "/"
    assert 'name="next" id="next" value="/">' in browser.get("/signin", params={"next": path}).text


@pytest.mark.parametrize("path", ["/", "/dashboard", "/operate?job=job-1&x=%2F%2Fy", "/a//b"])
def test_a_path_of_ours_is_kept(path):
    assert local(path) == path


def test_a_write_with_the_cookie_needs_the_pages_token(steady, browser):
    sign_in(browser, steady.operator_key)
    body = {"model": "policy", "messages": MESSAGES}
    with httpx.Client(base_url=steady.url, cookies=browser.cookies) as other:
        for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": "é"}):
            raw = {name: value.encode() for name, value in headers.items()}
            answer = other.post("/v1/chat/completions", json=body, headers=raw)
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "csrf_token_wrong"
        answer = other.delete("/v1/feedback/x")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "csrf_token_wrong")
        good = {"X-CSRF-Token": meta(browser, "csrf")}
        assert other.post("/v1/chat/completions", json=body, headers=good).status_code == 200


def test_a_token_of_another_session_is_none(steady, browser):
    sign_in(browser, steady.operator_key)
    other = meta(browser, "csrf")
    sign_in(browser, steady.operator_key)
    assert meta(browser, "csrf") != other
    assert browser.post("/signout", headers={"X-CSRF-Token": other}).status_code == 403


def test_a_key_in_the_header_needs_no_token_and_goes_first(steady, browser):
    sign_in(browser, steady.operator_key)
    with steady.client() as client:
        client.cookies.update(browser.cookies)
        assert chat(client)["model"] == "policy-v0"
    wrong = {"Authorization": "Bearer tw-wrong"}
    assert browser.get("/v1/models", headers=wrong).status_code == 401


def test_a_session_reaches_as_far_as_its_key(steady, browser):
    sign_in(browser, steady.key(Role.user))
    assert browser.get("/v1/models").status_code == 200
    assert browser.get("/v1/policies").status_code == 403


def test_a_revoked_key_ends_its_sessions_at_once(steady, browser):
    with steady.client() as operator:
        made = operator.post("/v1/keys", json={"name": "short-lived"}).json()
        sign_in(browser, made["key"])
        assert browser.get("/").status_code == 200
        operator.delete(f"/v1/keys/{made['id']}")
    assert browser.get("/").status_code == 303


def test_signing_out_ends_the_cookie_itself(steady, browser):
    sign_in(browser, steady.operator_key)
    stolen = {COOKIE: browser.cookies[COOKIE]}
    answer = browser.post("/signout", headers={"X-CSRF-Token": meta(browser, "csrf")})
    assert answer.status_code == 204
    assert COOKIE not in browser.cookies
    assert browser.get("/").status_code == 303
    assert httpx.get(steady.url + "/v1/models", cookies=stolen).status_code == 401


def test_a_session_works_and_ends_on_every_gateway(gateway, valkey, engine_server):
    urls = [engine_server.url]
    with (
        running_gateway(valkey.url, gateway.home, gateway.engine, urls, refresh=60.0) as second,
        httpx.Client(base_url=gateway.url, headers=HTML) as here,
    ):
        sign_in(here, gateway.operator_key)
        with httpx.Client(base_url=second.url, headers=HTML, cookies=here.cookies) as there:
            assert there.get("/").status_code == 200
            token = meta(there, "csrf")
            assert here.post("/signout", headers={"X-CSRF-Token": token}).status_code == 204
            eventually(lambda: there.get("/").status_code == 303, seconds=2)


@pytest.mark.parametrize(
    "spoil", [lambda c: c[:-1], lambda c: "x" + c, lambda c: c.replace(".", "", 1), lambda _: "{}"]
)
def test_a_forged_cookie_is_none(steady, browser, spoil):
    sign_in(browser, steady.operator_key)
    forged = {COOKIE: spoil(browser.cookies[COOKIE])}
    assert httpx.get(steady.url + "/v1/models", cookies=forged).status_code == 401


def test_a_cookie_has_its_time_and_belongs_to_one_service(monkeypatch):
    view, session = SessionView(lifetime=60), Session("s", "key", "web-1", "Ann")
    cookie = view.seal(session)
    assert view.open(cookie) == session
    with pytest.raises(Unauthorized) as refused:
        SessionView(lifetime=60).open(cookie)
    assert isinstance(refused.value.__cause__, BadSignature)
    view.lifetime = -1
    with pytest.raises(Unauthorized):
        view.open(cookie)


def test_the_secret_is_made_once_and_shared(steady):
    assert re.fullmatch("[0-9a-f]{64}", str(steady.redis.get(SECRET)))


def test_a_session_is_new_at_each_sign_in(steady, browser):
    """A cookie that somebody else planted beforehand is not the session that the person then has."""
    sign_in(browser, steady.operator_key)
    planted = browser.cookies[COOKIE]
    sign_in(browser, steady.operator_key)
    assert browser.cookies[COOKIE] != planted


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"},
     {"Origin": "null"}],
)  # fmt: skip
def test_another_site_cannot_sign_a_browser_in(steady, browser, headers):
    answer = browser.post("/signin", data={"key": steady.operator_key}, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_our_own_page_can(steady, browser):
    headers = {"Origin": steady.url, "Sec-Fetch-Site": "same-origin"}
    assert browser.post("/signin", data={"key": steady.operator_key}, headers=headers).status_code == 303
    answer = browser.post("/signin", data={"key": steady.operator_key}, headers={"Origin": steady.url})
    assert answer.status_code == 303


def test_people_who_share_a_key_are_raters_of_their_own(steady):
    users = []
    for name in ("Ann", " ann ", "Bob", "", ""):
        with httpx.Client(base_url=steady.url, headers=HTML) as browser:
            sign_in(browser, steady.operator_key, name=name)
            users.append(meta(browser, "user"))
    assert users[0] == users[1]
    assert len(set(users)) == 4
    assert all(re.fullmatch("web-[0-9a-f]{20}", user) for user in users)


def test_without_a_name_a_browser_stays_who_it_is(steady, browser):
    sign_in(browser, steady.operator_key)
    user = meta(browser, "user")
    sign_in(browser, steady.operator_key)
    assert meta(browser, "user") == user
    browser.cookies.set(BROWSER, "not one of ours")
    sign_in(browser, steady.operator_key)
    assert meta(browser, "user") != user


def test_a_hostile_name_is_text(steady, browser):
    sign_in(browser, steady.operator_key, name="<script>alert(1)</script>\n\x00 \u202e" + "x" * 500)
    page = browser.get("/").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; x" in page


def test_a_form_that_cannot_be_read_is_refused(browser):
    for body in (b"\xff\xfe", b"&".join(b"a%d=1" % n for n in range(50))):
        answer = browser.post("/signin", content=body)
        assert answer.status_code == 400
