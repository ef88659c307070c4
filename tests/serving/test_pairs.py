"""Blind pairs: what they hide, what they count, what becomes of them."""

import time

import pytest

from feedback.layout import pair_key
from feedback.types import Pair
from tests.conftest import MESSAGES, Gateway
from tests.servers import eventually

ASK = {"messages": MESSAGES}


def ask(client, **more):
    answer = client.post("/v1/pairs", json={**ASK, **more})
    assert answer.status_code == 200, answer.text
    return answer


def choose(client, pair_id, winner, **more):
    answer = client.post("/v1/comparisons", json={"pair_id": pair_id, "winner": winner, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


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


def test_the_choice_reveals_and_can_be_changed(client):
    pair_id = ask(client).json()["id"]
    first = choose(client, pair_id, "a", strength=1.0, reasons=["shorter"])
    assert first["preferred"] == first["a"]["policy"] == "policy-v0"
    assert first["a"]["completion_id"] != first["b"]["completion_id"]
    assert choose(client, pair_id, "tie")["preferred"] is None
    row = client.get("/v1/stats/policies").json()
    assert (row["data"][0]["ties"], row["data"][0]["wins"], row["labels"]) == (2, 0, 1)


def test_two_raters_judge_one_pair(client):
    pair_id = ask(client).json()["id"]
    raters = {choose(client, pair_id, "a", user=user)["rater"] for user in ("ann", "bob")}
    assert len(raters) == 2
    assert client.get("/v1/stats/policies").json()["data"][0]["wins"] == 2


def test_the_rater_is_who_asked_for_the_pair(client):
    pair_id = ask(client, user="ann").json()["id"]
    assert choose(client, pair_id, "a")["rater"] == choose(client, pair_id, "b", user="ann")["rater"]


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
