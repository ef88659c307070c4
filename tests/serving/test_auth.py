"""Keys: roles on every route, stored hashed, refused at once when revoked."""

import os

import httpx
import pytest

from feedback.caller import Role
from serving.audit import Audit
from serving.auth import KEYS, Keys, authenticate
from serving.errors import Unauthorized
from tests.conftest import MESSAGES, Gateway

ROUTES = {
    "POST /v1/chat/completions": Role.user,
    "POST /v1/pairs": Role.user,
    "GET /v1/models": Role.user,
    "POST /v1/feedback": Role.user,
    "GET /v1/feedback/x": Role.user,
    "DELETE /v1/feedback/x": Role.user,
    "POST /v1/comparisons": Role.user,
    "GET /v1/completions/x": Role.viewer,
    "GET /v1/policies": Role.viewer,
    "GET /v1/policies/x": Role.viewer,
    "GET /v1/policies/x/plots/x": Role.viewer,
    "GET /v1/rewards": Role.viewer,
    "GET /v1/rewards/x": Role.viewer,
    "GET /v1/rewards/x/plots/x": Role.viewer,
    "GET /v1/jobs": Role.viewer,
    "GET /v1/jobs/x": Role.viewer,
    "GET /v1/jobs/x/log": Role.viewer,
    "GET /v1/jobs/x/stages/x": Role.viewer,
    "GET /v1/jobs/x/stages/x/plots/x": Role.viewer,
    "GET /v1/learning": Role.viewer,
    "GET /v1/stats/policies": Role.viewer,
    "GET /v1/stats/hours": Role.viewer,
    "GET /v1/stats/days": Role.viewer,
    "GET /v1/stats/dashboard": Role.viewer,
    "GET /v1/stats/matrix": Role.viewer,
    "GET /v1/stats/reasons": Role.viewer,
    "GET /v1/stats/sides": Role.viewer,
    "GET /v1/stats/raters": Role.viewer,
    "GET /v1/stats/comments": Role.viewer,
    "GET /v1/stats/labels": Role.viewer,
    "GET /v1/stats/tags": Role.viewer,
    "GET /v1/stats/sources": Role.viewer,
    "GET /v1/stats/export": Role.viewer,
    "GET /v1/stats/live": Role.viewer,
    "GET /v1/completions/x/ratings": Role.viewer,
    "GET /v1/comparisons/x": Role.viewer,
    "GET /v1/audit": Role.viewer,
    "GET /v1/engines": Role.viewer,
    "GET /v1/status": Role.viewer,
    "GET /v1/release": Role.viewer,
    "POST /v1/release": Role.operator,
    "POST /v1/release/abort": Role.operator,
    "POST /v1/policies/x/canary": Role.operator,
    "POST /v1/policies/x/drop": Role.operator,
    "POST /v1/policies/x/promote": Role.operator,
    "POST /v1/rollback": Role.operator,
    "POST /v1/jobs": Role.operator,
    "POST /v1/jobs/x/cancel": Role.operator,
    "POST /v1/learning": Role.operator,
    "POST /v1/import": Role.operator,
    "GET /v1/keys": Role.operator,
    "POST /v1/keys": Role.operator,
    "DELETE /v1/keys/x": Role.operator,
}


@pytest.fixture(scope="module")
def keys(steady: Gateway) -> dict[Role, str]:
    return {role: steady.key(role, name=role.name) for role in Role}


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_needs_its_role(steady, keys, route, monkeypatch):
    monkeypatch.setattr("feedback.store.FLUSH_WAIT", 0.0)
    method, _, path = route.partition(" ")
    for role in Role:
        with steady.client(keys[role]) as client, client.stream(method, path) as answer:
            if answer.is_error:  # what is good may be a stream without an end
                answer.read()
        if role < ROUTES[route]:
            assert answer.status_code == 403, (role, answer.text)
            error = answer.json()["error"]
            assert (error["type"], error["code"]) == ("permission_error", "role_not_sufficient")
            assert ROUTES[route].name in error["message"]
        else:
            assert answer.status_code not in (401, 403, 405, 500), (role, path)


def test_every_route_is_in_the_table(steady):
    with steady.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
    listed = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    tabled = {tuple(part if part != "x" else "{}" for part in route.split("/")) for route in ROUTES}
    known = {tuple("{}" if part.startswith("{") else part for part in route.split("/")) for route in listed}
    assert known <= tabled


@pytest.mark.parametrize("route", [*ROUTES, "GET /openapi.json", "GET /v1/nowhere", "GET /"])
def test_without_a_key_nothing_is_told(steady, route):
    method, _, path = route.partition(" ")
    answer = httpx.request(method, steady.url + path)
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert "Authorization: Bearer" in error["message"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_need_no_key(steady, path):
    assert httpx.get(steady.url + path).status_code == 200


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer x", "Bearer tw-", "Bearer tw--", "Bearer tw-a-b", "Basic {key}", "{key}",
     "Bearer x{key}", "Bearer {key}x", "Bearer {cut}", "Bearer {key} {key}", "Bearer " + "x" * 5000],
)  # fmt: skip
def test_a_wrong_key_is_refused(steady, header):
    text = header.format(key=steady.operator_key, cut=steady.operator_key[:-1])
    answer = httpx.get(steady.url + "/v1/models", headers={"Authorization": text})
    assert answer.status_code == 401


def test_a_bearer_is_a_bearer_in_any_case(steady):
    headers = {"authorization": f"bearer {steady.operator_key}"}
    assert httpx.get(steady.url + "/v1/models", headers=headers).status_code == 200


def test_keys_are_stored_hashed_and_shown_once(steady, keys):
    stored = str(steady.redis.hgetall(KEYS)) + str(steady.redis.xrange("tw:audit"))
    for key in (*keys.values(), steady.operator_key):
        assert key.rpartition("-")[2] not in stored
    with steady.client() as client:
        listed = client.get("/v1/keys")
    assert "hash" not in listed.text
    assert {row["name"] for row in listed.json()["data"]} >= {"operator", "user", "viewer"}
    file = steady.home / "keys" / "operator"
    assert os.stat(file).st_mode & 0o777 == 0o600


def test_a_revoked_key_is_refused_at_once(steady):
    with steady.client() as operator:
        made = operator.post("/v1/keys", json={"name": "short-lived", "role": "viewer"}).json()
        with steady.client(made["key"]) as client:
            assert client.get("/v1/status").status_code == 200
            revoked = operator.request("DELETE", f"/v1/keys/{made['id']}", json={"reason": "leaked"})
            assert revoked.json()["revoked"] is not None
            assert client.get("/v1/models").status_code == 401
            chat = client.post("/v1/chat/completions", json={"model": "policy", "messages": MESSAGES})
            assert chat.status_code == 401
        again = operator.delete(f"/v1/keys/{made['id']}")
        assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
        last = operator.get("/v1/audit", params={"limit": 1}).json()["data"][0]
    assert (last["who"], last["what"], last["why"]) == ("operator", "key.revoke", "leaked")
    key = {"id": made["id"], "name": "short-lived", "role": "viewer"}
    assert (last["before"], last["after"]) == ({**key, "state": "valid"}, {**key, "state": "revoked"})


def test_an_operator_cannot_lock_itself_out(steady):
    with steady.client() as operator:
        own = steady.operator_key.split("-")[1]
        answer = operator.delete(f"/v1/keys/{own}")
        assert (answer.status_code, operator.get("/v1/status").status_code) == (409, 200)


def test_the_first_operator_key_is_made_once_or_given(redis, tmp_path):
    keys, path = Keys(redis), tmp_path / "keys" / "operator"
    keys.ensure_operator(None, path)
    first = path.read_text()
    keys.ensure_operator(None, path)
    assert path.read_text() == first
    assert len(keys.all()) == 1
    keys.ensure_operator("tw-mine-" + "5" * 40, path)
    assert [key.id for key in keys.all().values()][1:] == ["mine"]
    with pytest.raises(ValueError, match="tw-<id>-<secret"):
        keys.ensure_operator("secret", path)


def test_a_revoked_operator_key_in_the_file_is_replaced(redis, tmp_path, caplog):
    keys, path = Keys(redis), tmp_path / "keys" / "operator"
    keys.ensure_operator(None, path)
    first = path.read_text().strip()
    old = first.split("-")[1]
    keys.revoke(old, who="ann", why="leaked")
    for _ in range(2):
        keys.ensure_operator(None, path)
    second = path.read_text().strip()
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["operator"]
    assert caplog.messages == [f"the operator's key {old} is revoked; {path} holds a new one"]
    assert authenticate(keys.all(), f"Bearer {second}").role is Role.operator
    with pytest.raises(Unauthorized):
        authenticate(keys.all(), f"Bearer {first}")
    assert len(keys.all()) == 2
    last = Audit(redis).page(1, None)[0][0]
    assert (last["what"], last["why"]) == ("key.add", f"instead of {old}, which is revoked")


def test_a_revoked_operator_key_that_is_given_is_refused(redis, tmp_path):
    keys, path, given = Keys(redis), tmp_path / "keys" / "operator", "tw-mine-" + "5" * 40
    keys.ensure_operator(given, path)
    keys.revoke("mine", who="ann", why="leaked")
    with pytest.raises(ValueError, match=r"THUMBWHEEL_OPERATOR_KEY is the key mine, which is revoked.*unset"):
        keys.ensure_operator(given, path)
    assert keys.all()["mine"].revoked is not None
    assert not path.exists()
