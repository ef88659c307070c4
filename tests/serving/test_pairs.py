"""Blind pairs: what they hide, what they count, what becomes of them."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from feedback.caller import Role
from feedback.layout import pair_key
from feedback.types import Pair
from tests.conftest import MESSAGES, Gateway
from tests.servers import eventually

ASK = {"messages": MESSAGES}


def ask(client, **more):
    answer = client.post("/v1/pairs", json={**ASK, **more})
    assert answer.status_code == 200, answer.text
    return answer


def chooses(client, pair_id, winner, **more):
    return client.post("/v1/comparisons", json={"pair_id": pair_id, "winner": winner, **more})


def choose(client, pair_id, winner, **more):
    answer = chooses(client, pair_id, winner, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_too_late(answer):
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "pair_answered"), answer.text
    assert "versions of this pair have been shown" in answer.json()["error"]["message"]


@pytest.fixture
def rivals(gateway: Gateway):
    """A gateway whose champion has a challenger."""
    gateway.publish("policy-v1")
    with gateway.client() as client:
        assert client.post("/v1/policies/policy-v1/canary", json={"reason": "a test"}).status_code == 200
        eventually(lambda: "policy-v1" in client.get("/v1/models").text)
        eventually(lambda: "policy-v1" in gateway.engine.adapters)
        yield gateway


def test_a_pair_gives_two_replies_and_says_nothing_of_who_wrote_them(client, gateway):
    answer = ask(client, user="ann")
    body = answer.json()
    assert set(body) == {"id", "object", "created", "expires", "a", "b"}
    message = {"role": "assistant", "content": "A fine answer."}
    assert body["a"] == body["b"] == {"message": message, "finish_reason": "stop"}
    assert body["expires"] - body["created"] == 3600
    told = answer.text + str(answer.headers)
    assert "policy" not in told
    assert "chatcmpl" not in told


def test_the_choice_reveals_and_its_winner_stands(client, gateway):
    pair_id = ask(client).json()["id"]
    first = choose(client, pair_id, "a", strength=1.0, reasons=["shorter"])
    assert first["preferred"] == first["a"]["policy"] == "policy-v0"
    assert first["a"]["completion_id"] != first["b"]["completion_id"]
    events = gateway.redis.xlen("tw:events")
    for other in ("b", "tie", "both_bad"):
        assert_too_late(chooses(client, pair_id, other))
    row = client.get("/v1/stats/policies").json()
    assert (row["data"][0]["ties"], row["data"][0]["wins"], row["labels"]) == (0, 1, 1)
    [stands] = client.get(f"/v1/comparisons/{pair_id}").json()["data"]
    assert (stands["winner"], stands["strength"], stands["reasons"]) == ("a", 1.0, ["shorter"])
    assert gateway.redis.xlen("tw:events") == events


def test_what_goes_with_a_choice_can_be_changed_and_said_again(client):
    pair_id = ask(client).json()["id"]
    first = choose(client, pair_id, "a", strength=1.0)
    again = choose(client, pair_id, "a", strength=1.0)
    assert {**again, "created": None} == {**first, "created": None}
    choose(client, pair_id, "a", strength=0.1, reasons=["shorter"], comment="after all")
    [stands] = client.get(f"/v1/comparisons/{pair_id}").json()["data"]
    assert (stands["strength"], stands["reasons"], stands["comment"]) == (0.1, ["shorter"], "after all")
    assert client.get("/v1/stats/policies").json()["labels"] == 1


@pytest.mark.parametrize("winner", ["a", "b"])
def test_a_pair_takes_one_rater(client, gateway, winner):
    """Who shares a key may have seen the versions; so may a viewer with another one."""
    pair_id = ask(client).json()["id"]
    choose(client, pair_id, "a", user="ann")
    assert_too_late(chooses(client, pair_id, winner, user="bob"))
    with gateway.client(gateway.key(Role.user)) as other:
        assert_too_late(chooses(other, pair_id, winner))
    assert client.get("/v1/stats/policies").json()["data"][0]["wins"] == 1


def test_of_many_at_once_one_has_chosen(client, gateway):
    pair_id = ask(client).json()["id"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: chooses(client, pair_id, "ab"[n % 2], user=f"u{n}"), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *7 * [409]]
    assert client.get("/v1/stats/policies").json()["labels"] == 1


def test_the_rater_is_who_asked_for_the_pair(client):
    pair_id = ask(client, user="ann").json()["id"]
    assert choose(client, pair_id, "a")["rater"] == choose(client, pair_id, "a", user="ann")["rater"]


def test_no_counter_tells_the_versions_before_the_choice(rivals):
    """How long each side is, its readers see."""

    def row(policy):
        rows = client.get("/v1/stats/dashboard", params={"tag": "x1"}).json()["policies"]
        return next((row for row in rows if row["policy"] == policy), {"completions": 0})

    def tokens():
        data = client.get("/v1/stats/policies").json()["data"]
        return {counts["policy"]: counts["tokens"] for counts in data}

    versions = ("policy-v0", "policy-v1")
    with rivals.client() as client:
        pair_id = ask(client, metadata={"tag": "x1"}).json()["id"]
        eventually(lambda: all(row(policy)["completions"] == 1 for policy in versions))
        assert [row(policy)["tokens"] for policy in versions] == [0, 0]
        assert tokens() == dict.fromkeys(versions, 0)
        choose(client, pair_id, "a")
        assert [(row(policy)["tokens"], row(policy)["rated"]) for policy in versions] == [(5, 1), (5, 1)]
        assert tokens() == dict.fromkeys(versions, 5)
        choose(client, pair_id, "a", strength=1.0)
        assert tokens() == dict.fromkeys(versions, 5)


def test_no_metric_tells_how_long_a_version_took(rivals):
    """How long a side took beside how long it is, which everybody sees."""
    with rivals.client() as client:
        ask(client)
        text = httpx.get(str(client.base_url) + "/metrics").text
    timed = [line for line in text.splitlines() if line.startswith("thumbwheel_reply_seconds_count")]
    assert timed == ['thumbwheel_reply_seconds_count{policy="pair"} 2.0']


def test_the_challenger_meets_the_champion_on_shuffled_sides(rivals):
    with rivals.client() as client:
        sides = set()
        for _ in range(30):
            told = choose(client, ask(client).json()["id"], "a")
            sides.add((told["a"]["policy"], told["b"]["policy"]))
            if len(sides) == 2:
                break
    assert sides == {("policy-v0", "policy-v1"), ("policy-v1", "policy-v0")}, "both orders come up"


def test_an_exact_version_meets_itself(rivals):
    with rivals.client() as client:
        told = choose(client, ask(client, model="policy-v1").json()["id"], "a")
    assert {told["a"]["policy"], told["b"]["policy"]} == {"policy-v1"}


def test_both_completions_are_logged_with_their_pair(client):
    body = ask(client, metadata={"conversation_id": "c1"}).json()
    told = choose(client, body["id"], "b")
    for side in ("a", "b"):
        path = f"/v1/completions/{told[side]['completion_id']}"
        entry = eventually(lambda path=path: (a := client.get(path)).status_code == 200 and a.json())
        assert (entry["pair_id"], entry["conversation"]) == (body["id"], "c1")


def test_a_seed_does_not_make_both_sides_the_same(client, gateway):
    ask(client, seed=7)
    assert sorted(request["seed"] for request in gateway.engine.requests) == [7, 8]


def test_an_expired_pair_is_refused_and_nothing_changes(client, gateway):
    pair_id = ask(client).json()["id"]
    stored = Pair.model_validate_json(gateway.redis.hget(pair_key(pair_id), "body"))
    late = stored.model_copy(update={"expires": time.time() - 1})
    gateway.redis.hset(pair_key(pair_id), "body", late.to_json())
    answer = client.post("/v1/comparisons", json={"pair_id": pair_id, "winner": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "pair_expired")
    assert "Ask for a new one" in answer.json()["error"]["message"]
    assert client.get("/v1/stats/policies").json()["labels"] == 0


def test_an_engine_that_fails_gives_no_pair(client, gateway):
    gateway.engine.status = 500
    answer = client.post("/v1/pairs", json=ASK)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")
    assert not list(gateway.redis.scan_iter("tw:pair:*"))


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"stream": True}, "stream"),
        ({"n": 2}, "n"),
        ({"store": False}, "store"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_a_pair_cannot_be(client, more, param):
    answer = client.post("/v1/pairs", json={**ASK, **more})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
