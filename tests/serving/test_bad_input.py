"""Bad input of every kind: the right status, OpenAI's shape, a sentence, nothing changed, and never a 500."""

import json

import httpx
import pytest
from redis import Redis

from tests.conftest import MESSAGES, Gateway, chat

CHAT, PAIRS = "/v1/chat/completions", "/v1/pairs"
JSON = {"Content-Type": "application/json"}
BODIES: dict[tuple[str, str], dict] = {
    ("POST", CHAT): {"model": "policy", "messages": MESSAGES},
    ("POST", PAIRS): {"messages": MESSAGES},
    ("POST", "/v1/feedback"): {"completion_id": "chatcmpl-none", "rating": "up"},
    ("POST", "/v1/comparisons"): {"pair_id": "pair-none", "winner": "a"},
    ("POST", "/v1/policies/policy-v0/promote"): {"reason": "why not"},
    ("POST", "/v1/rollback"): {"reason": "why not", "to": "policy-v9"},
    ("POST", "/v1/jobs"): {"kind": "cycle"},
    ("POST", "/v1/jobs/job-none/cancel"): {"reason": "why not"},
    ("POST", "/v1/learning"): {"paused": True, "reason": "why not"},
    ("POST", "/v1/keys"): {"name": "somebody", "role": "user"},
    ("POST", "/v1/import"): {"lines": [{"number": 1, "record": {"prompt": "Hello?"}}]},
    ("DELETE", "/v1/keys/none"): {"reason": "why not"},
    ("POST", "/v1/release"): {"reason": "why not", "watch": 0, "canary": 1, "share": 0.1},
    ("POST", "/v1/release/abort"): {"reason": "why not"},
    ("POST", "/v1/policies/policy-v0/canary"): {"reason": "why not", "share": 0.1},
    ("POST", "/v1/policies/policy-v0/drop"): {"reason": "why not"},
}
ROUTES = list(BODIES)
OWN = [route for route in ROUTES if route[1] not in (CHAT, PAIRS)]  # those whose fields are all ours
LOG = ("tw:completion", "tw:count", "tw:change", "tw:served")


def body_is_optional(route: tuple[str, str]) -> bool:
    return route[0] == "DELETE"


HOSTILE = [
    None,
    True,
    -1,
    1.5,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "x" * 300,
    "\ud800",
    "\0",
    [],
    ["a"],
    {},
    [[]],
    [None],
]


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.store.FLUSH_WAIT", 0.0)
    monkeypatch.setattr("serving.chat.ENGINE_WAIT", 0.2)


@pytest.fixture
def client(steady: Gateway):
    with steady.client() as client:
        yield client


@pytest.fixture
def unchanged(steady: Gateway):
    """Whatever the test does, the store is the same afterwards, but for the log of other tests' chats."""
    before = state(steady.redis)
    yield
    assert state(steady.redis) == before


def state(redis: Redis) -> dict[str, object]:
    read = {"hash": redis.hgetall, "stream": redis.xlen, "zset": redis.zcard, "string": redis.get}
    read |= {"set": redis.smembers, "list": redis.llen}
    return {key: read[redis.type(key)](key) for key in redis.scan_iter("*") if not key.startswith(LOG)}


def refusal(answer: httpx.Response, status: int, code: str | None = None) -> dict:
    """The error of a refused request, once it is seen to be one in OpenAI's shape."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].endswith((".", "`", ")"))
    assert len(error["message"]) > 15
    if code:
        assert error["code"] == code
    return error


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", ROUTES, ids="".join)
@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"\0",
        b'{"model": "policy", "messages": NaN}',
        b'{"a": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 3000,
    ],
    ids=lambda raw: repr(raw[:20]),
)
def test_what_is_not_a_json_object_is_refused(client, route, raw):
    refusal(client.request(*route, content=raw, headers=JSON), 400, "invalid_value")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", [route for route in ROUTES if not body_is_optional(route)], ids="".join)
def test_null_is_refused_where_a_body_is_needed(client, route):
    refusal(client.request(*route, content=b"null", headers=JSON), 400, "invalid_value")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", OWN, ids="".join)
@pytest.mark.parametrize("name", ["surprise", "\ud800", "reason\0"], ids=ascii)
def test_unknown_fields_are_refused_by_name(client, route, name):
    body = json.dumps({**BODIES[route], name: 1})
    refusal(client.request(*route, content=body, headers=JSON), 400, "invalid_value")


@pytest.mark.parametrize("route", ROUTES, ids="".join)
def test_hostile_values_never_make_a_500(client, route):
    """Each field of each route, with each hostile value: done or refused, with a reason."""
    fields = {
        **BODIES[route],
        **dict.fromkeys(("user", "metadata", "stream", "n", "stop", "strength", "reasons")),
    }
    for name in fields:
        for value in HOSTILE:
            body = json.dumps({**BODIES[route], name: value})
            answer = client.request(*route, content=body, headers=JSON)
            assert answer.status_code < 500, (name, value, answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", [route for route in OWN if not body_is_optional(route)], ids="".join)
def test_a_missing_field_is_named(client, route):
    error = refusal(client.request(*route, json={}), 400)
    assert "missing" in error["message"] or "send either" in error["message"]


NEEDS_REASON = [route for route, body in BODIES.items() if "reason" in body and not body_is_optional(route)]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", NEEDS_REASON, ids="".join)
@pytest.mark.parametrize("reason", ["", " ", " \t\n", None, "x" * 1001], ids=ascii)
def test_a_reason_says_something(client, route, reason):
    error = refusal(client.request(*route, json={**BODIES[route], "reason": reason}), 400, "invalid_value")
    assert error["param"] == "reason"


NUMBERS = [
    (("POST", "/v1/release"), "watch"),
    (("POST", "/v1/release"), "canary"),
    (("POST", "/v1/release"), "share"),
    (("POST", "/v1/policies/policy-v0/canary"), "share"),
    (("POST", "/v1/comparisons"), "strength"),
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("route", "name"), NUMBERS, ids=str)
@pytest.mark.parametrize("number", ["1e999", "Infinity", "-Infinity", "NaN"])
def test_numbers_are_finite(client, route, name, number):
    body = json.dumps({**BODIES[route], name: "here"}).replace('"here"', number)
    error = refusal(client.request(*route, content=body, headers=JSON), 400, "invalid_value")
    assert error["param"] == name


@pytest.mark.parametrize("depth", [200, 245, 249, 253, 254, 255, 900, 1100])
@pytest.mark.parametrize("where", ["messages", "metadata", "tools"])
def test_deep_nesting_is_answered_or_refused_and_holds_up_no_log(client, monkeypatch, depth, where):
    monkeypatch.setattr("feedback.store.FLUSH_WAIT", 3.0)
    nest = "[" * depth + "]" * depth
    nested = f'[{{"role": "user", "content": {nest}}}]' if where == "messages" else f'{{"x": {nest}}}'
    extra = "" if where == "messages" else f', "messages": {json.dumps(MESSAGES)}'
    body = f'{{"model": "policy", "{where}": {nested}{extra}}}'
    answer = client.post(CHAT, content=body, headers=JSON)
    assert answer.status_code in (200, 400), answer.text
    rating = {"completion_id": chat(client)["id"], "rating": "up"}
    assert client.post("/v1/feedback", json=rating).status_code == 200, "the log goes on"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", ROUTES, ids="".join)
def test_a_body_over_the_limit_is_refused(client, route):
    large = json.dumps({**BODIES[route], "comment": "x" * (1 << 20)}).encode()
    refusal(client.request(*route, content=large, headers=JSON), 413, "body_too_large")
    parts = iter([large[:5000], large[5000:]])  # sent in chunks, without a content-length
    refusal(client.request(*route, content=parts, headers=JSON), 413, "body_too_large")


def test_a_body_just_under_the_limit_is_taken(client):
    body = {"model": "policy", "messages": [{"role": "user", "content": ""}]}
    room = (1 << 20) - len(json.dumps(body))
    body["messages"][0]["content"] = "x" * room
    assert client.post(CHAT, content=json.dumps(body), headers=JSON).status_code == 200
    body["messages"][0]["content"] = "x" * (room + 1)
    refusal(client.post(CHAT, content=json.dumps(body), headers=JSON), 413)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "nonsense"])
def test_a_body_of_another_type_says_which_to_send(client, kind):
    body = json.dumps({"completion_id": "chatcmpl-none", "rating": "up"})
    answer = client.post("/v1/feedback", content=body, headers={"Content-Type": kind})
    assert "Content-Type: application/json" in refusal(answer, 400)["message"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", CHAT, {"model": "gpt-4", "messages": MESSAGES}, 404, "model_not_found"),
        ("POST", CHAT, {"model": "policy-v77", "messages": MESSAGES}, 404, "model_not_found"),
        ("POST", CHAT, {"messages": MESSAGES}, 400, "invalid_value"),
        ("POST", CHAT, {"model": "policy"}, 400, "invalid_value"),
        ("POST", CHAT, {"model": "policy", "messages": ["hello"]}, 400, "invalid_value"),
        ("POST", CHAT, {"model": "policy", "messages": MESSAGES, "n": 17}, 400, "invalid_value"),
        ("POST", CHAT, {"model": "policy", "messages": MESSAGES, "user": 7}, 400, "invalid_value"),
        ("POST", PAIRS, {"model": "gpt-4", "messages": MESSAGES}, 404, "model_not_found"),
        ("POST", "/v1/feedback", {"completion_id": "no", "rating": "up"}, 404, "completion_not_found"),
        (
            "POST",
            "/v1/feedback",
            {"completion_id": "no", "rating": "up", "user": "a"},
            404,
            "completion_not_found",
        ),
        ("POST", "/v1/feedback", {"completion_id": "no", "rating": "meh"}, 400, "invalid_value"),
        ("GET", "/v1/feedback/no", None, 404, "completion_not_found"),
        ("DELETE", "/v1/feedback/no", None, 404, "completion_not_found"),
        ("POST", "/v1/comparisons", {"pair_id": "no", "winner": "a"}, 404, "pair_not_found"),
        ("POST", "/v1/comparisons", {"pair_id": "no", "winner": "c"}, 400, "invalid_value"),
        ("POST", "/v1/comparisons", {"chosen": "x", "rejected": "y"}, 404, "completion_not_found"),
        ("POST", "/v1/comparisons", {"chosen": "x", "rejected": "x"}, 400, "invalid_value"),
        ("POST", "/v1/comparisons", {"pair_id": "p", "winner": "a", "strength": 2}, 400, "invalid_value"),
        ("GET", "/v1/completions/no", None, 404, "completion_not_found"),
        ("GET", "/v1/policies/no", None, 404, "version_not_found"),
        ("GET", "/v1/rewards/no", None, 404, "version_not_found"),
        ("POST", "/v1/policies/no/promote", {"reason": "x"}, 404, "version_not_found"),
        ("POST", "/v1/policies/policy-v0/promote", {"reason": "x"}, 409, "conflict"),
        ("POST", "/v1/policies/policy-v0/promote", {}, 400, "invalid_value"),
        ("POST", "/v1/rollback", {"reason": "x", "to": "policy-v9"}, 404, "version_not_found"),
        ("POST", "/v1/rollback", {"reason": "x", "to": "policy-v0"}, 409, "conflict"),
        ("POST", "/v1/rollback", {"reason": "x"}, 409, "conflict"),
        ("POST", "/v1/rollback", {}, 400, "invalid_value"),
        ("POST", "/v1/learning", {"paused": True}, 400, "invalid_value"),
        ("POST", "/v1/learning", {"paused": False}, 400, "invalid_value"),
        ("GET", "/v1/jobs/no", None, 404, "job_not_found"),
        ("POST", "/v1/jobs/no/cancel", {"reason": "x"}, 404, "job_not_found"),
        ("POST", "/v1/jobs/no/cancel", {}, 400, "invalid_value"),
        ("POST", "/v1/jobs", {"kind": "tidy"}, 400, "invalid_value"),
        ("POST", "/v1/keys", {"name": "x", "role": "king"}, 400, "invalid_value"),
        ("DELETE", "/v1/keys/no", None, 404, "key_not_found"),
        ("GET", "/v1/nowhere", None, 404, "path_not_found"),
        ("PUT", "/v1/feedback", {}, 405, "method_not_allowed"),
        ("GET", CHAT, None, 405, "method_not_allowed"),
        ("DELETE", "/v1/jobs", None, 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_or_cannot_be(client, method, path, body, status, code):
    refusal(client.request(method, path, json=body), status, code)


PAGES = [
    "after=garbage",
    "after=",
    "after=%00",
    "after=%ff",
    "after=-",
    "after=%2B",
    "after=99999999999999999999-1",
    "after=" + "9" * 300,
    "limit=0",
    "limit=-1",
    "limit=201",
    "limit=ten",
    "limit=99999999999999999999999",
    "limit=",
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", ["/v1/audit", "/v1/jobs", "/v1/policies", "/v1/rewards"])
def test_pages_that_cannot_be_turned(client, path):
    for query in PAGES:
        error = refusal(client.get(f"{path}?{query}"), 400, "invalid_value")
        assert error["param"] == query.partition("=")[0]


@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "-1", "yesterday", "99999999999999999999"])
@pytest.mark.parametrize("name", ["since", "until"])
def test_times_that_are_none(client, name, value):
    answer = client.get("/v1/stats/hours", params={"policy": "policy-v0", name: value})
    assert refusal(answer, 400)["param"] == name


ODD = [
    "%00",
    "%ff",
    "%F0%9F%98%80",
    "%ED%A0%80",
    "a%20b",
    "'",
    '"',
    "*",
    "{}",
    "%0a",
    "x" * 5000,
    "-v",
    "policy-v",
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "path",
    [
        "GET /v1/feedback/{}",
        "DELETE /v1/feedback/{}",
        "GET /v1/policies/{}",
        "POST /v1/policies/{}/promote",
        "POST /v1/policies/{}/canary",
        "GET /v1/rewards/{}",
        "GET /v1/jobs/{}",
        "POST /v1/jobs/{}/cancel",
        "GET /v1/completions/{}",
        "DELETE /v1/keys/{}",
    ],
)
def test_odd_names_in_paths_are_not_found(client, path):
    method, _, pattern = path.partition(" ")
    body = {"reason": "why not"} if method == "POST" else None
    for odd in ODD:
        refusal(client.request(method, pattern.replace("{}", odd), json=body), 404)


def test_completions_of_different_messages_do_not_compare(client, steady, monkeypatch):
    monkeypatch.setattr("feedback.store.FLUSH_WAIT", 3.0)
    one = chat(client)["id"]
    two = chat(client, messages=[{"role": "user", "content": "And of Spain?"}])["id"]
    unstored = chat(client, store=False)["id"]
    before = steady.redis.xlen("tw:events")
    answer = client.post("/v1/comparisons", json={"chosen": one, "rejected": two})
    assert "same messages" in refusal(answer, 400, "not_comparable")["message"]
    answer = client.post("/v1/comparisons", json={"chosen": one, "rejected": unstored})
    assert "store: false" in refusal(answer, 400, "not_comparable")["message"]
    assert steady.redis.xlen("tw:events") == before
