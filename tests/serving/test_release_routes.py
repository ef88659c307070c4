"""A canary seen from outside: who gets it, what a pair shows, what operators can do about it."""

from collections import Counter

import pytest

from feedback.caller import Role
from serving.modes import Rules
from serving.releases import Releases
from serving.served import Sums, read_served
from tests.conftest import MESSAGES, Gateway, chat, running_gateway
from tests.servers import eventually


@pytest.fixture
def client(gateway: Gateway):
    gateway.publish("policy-v1")
    gateway.publish("policy-v2")
    with gateway.client() as client:
        yield client


def canary(client, version="policy-v1", **more):
    answer = client.post(f"/v1/policies/{version}/canary", json={"reason": "a test", **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def versions_of(client, users: int) -> dict[str, str]:
    return {f"user-{n}": chat(client, user=f"user-{n}")["model"] for n in range(users)}


def test_a_share_of_the_users_get_the_canary_and_keep_it(client):
    canary(client, share=0.3)
    first = versions_of(client, 120)
    found = Counter(first.values())
    assert set(found) == {"policy-v0", "policy-v1"}
    assert 18 <= found["policy-v1"] <= 56, "30 % of 120, within four standard deviations"
    assert versions_of(client, 120) == first


def test_more_of_the_traffic_takes_it_from_nobody(client):
    canary(client, share=0.2)
    before = {user for user, model in versions_of(client, 60).items() if model == "policy-v1"}
    assert client.post("/v1/release", json={"share": 0.5, "reason": "more"}).status_code == 200
    after = {user for user, model in versions_of(client, 60).items() if model == "policy-v1"}
    assert before < after


def test_without_a_user_a_conversation_stays_with_one_version(client):
    canary(client, share=0.5)
    found = set()
    for number in range(20):
        opening = [{"role": "user", "content": f"Question {number}?"}]
        more = [*opening, {"role": "assistant", "content": "Hm."}, {"role": "user", "content": "And?"}]
        first, later = chat(client, messages=opening)["model"], chat(client, messages=more)["model"]
        assert first == later
        found.add(first)
    assert found == {"policy-v0", "policy-v1"}


def test_who_asks_for_a_version_by_name_gets_it(client):
    canary(client, share=0.5)
    for version in ("policy-v0", "policy-v1", "policy-v2"):
        assert chat(client, model=version)["model"] == version


def test_blind_pairs_are_drawn_champion_against_canary_and_do_not_tell(client):
    canary(client)
    sides = Counter()
    for _ in range(30):
        asked = client.post("/v1/pairs", json={"messages": MESSAGES, "user": "ann"})
        assert "policy" not in asked.text + str(asked.headers)
        chosen = client.post("/v1/comparisons", json={"pair_id": asked.json()["id"], "winner": "a"}).json()
        assert {chosen["a"]["policy"], chosen["b"]["policy"]} == {"policy-v0", "policy-v1"}
        sides[chosen["a"]["policy"]] += 1
    assert min(sides.values()) >= 3, "each is on either side"


def test_where_no_engine_can_serve_the_canary_everybody_gets_the_champion(client, gateway):
    canary(client, share=0.5)
    gateway.engine.logprob["policy-v1"] = float("nan")
    gateway.engine.restart()
    eventually(lambda: "policy-v1" not in client.get("/v1/models").text)
    assert set(versions_of(client, 20).values()) == {"policy-v0"}
    asked = client.post("/v1/pairs", json={"messages": MESSAGES}).json()
    chosen = client.post("/v1/comparisons", json={"pair_id": asked["id"], "winner": "a"}).json()
    assert chosen["a"]["policy"] == chosen["b"]["policy"] == "policy-v0"


def test_aborted_it_gets_nothing_any_more(client):
    canary(client, share=0.5)
    assert client.post("/v1/release/abort", json={"reason": "rude"}).json()["trial"] is None
    assert set(versions_of(client, 20).values()) == {"policy-v0"}
    assert client.get("/v1/policies").json()["challenger"] is None
    again = client.post("/v1/release/abort", json={"reason": "rude"})
    assert (again.status_code, again.json()["error"]["message"]) == (409, "Nothing is on trial.")


def test_promoted_it_answers_and_the_watch_keeps_some_with_the_version_before(client):
    client.post("/v1/release", json={"watch": 60, "share": 0.3, "reason": "a test"})
    canary(client)
    assert client.post("/v1/policies/policy-v1/promote", json={"reason": "better"}).status_code == 200
    state = client.get("/v1/release").json()
    assert (state["trial"]["kind"], state["trial"]["baseline"]) == ("watch", "policy-v0")
    found = Counter(versions_of(client, 120).values())
    assert found["policy-v1"] > found["policy-v0"] > 0
    assert client.post("/v1/rollback", json={"reason": "rude"}).status_code == 200
    assert set(versions_of(client, 20).values()) == {"policy-v0"}
    assert client.get("/v1/release").json()["trial"] is None


def test_every_move_has_a_reason_in_the_audit_log(client):
    canary(client)
    client.post("/v1/release", json={"pinned": True, "reason": "holidays"})
    client.post("/v1/release/abort", json={"reason": "rude"})
    actions = client.get("/v1/audit").json()["data"]
    assert [(a["what"], a["why"], a["who"]) for a in actions[:3]] == [
        ("canary.abort", "rude", "operator"),
        ("release.rules", "holidays", "operator"),
        ("canary.begin", "a test", "operator"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"reason": "nothing to change"},
        {"share": 0.1},
        {"share": 0.6, "reason": "too much"},
        {"share": 0, "reason": "too little"},
        {"mode": "never", "reason": "no such"},
        {"watch": -1, "reason": "no such"},
        {"canary": 0, "reason": "no such"},
    ],
)
def test_rules_that_cannot_be_are_refused(client, body):
    before = client.get("/v1/release").json()
    assert client.post("/v1/release", json=body).status_code == 400
    assert client.get("/v1/release").json() == before


def test_all_gateways_hear_of_a_canary(client, gateway):
    canary(client, share=0.5)
    viewer = gateway.key(Role.viewer)
    with gateway.client(viewer) as other:
        assert other.get("/v1/release").json()["trial"]["version"] == "policy-v1"
        assert other.post("/v1/release/abort", json={"reason": "x"}).status_code == 403
    eventually(lambda: "policy-v1" in gateway.engine.adapters)


def sums(gateway, version: str) -> Sums:
    """What replies of a version on trial are like so far."""
    account = Releases(gateway.redis, Rules()).state().trial.account
    found = Sums()
    for group in read_served(gateway.redis, account, version):
        found.add(group)
    return found


def test_what_replies_are_like_is_summed_for_the_versions_that_chance_dealt_out(client, gateway):
    canary(client, share=0.5)
    users = versions_of(client, 30)
    dealt = Counter(users.values())
    chat(client, model="policy-v1")
    client.post("/v1/pairs", json={"messages": MESSAGES})
    eventually(lambda: all(sums(gateway, version).replies == dealt[version] for version in dealt))
    gateway.engine.status = 500
    dealt_v1 = next(user for user, model in users.items() if model == "policy-v1")
    failed = client.post(
        "/v1/chat/completions", json={"model": "policy", "messages": MESSAGES, "user": dealt_v1}
    )
    assert failed.status_code == 502
    eventually(lambda: sums(gateway, "policy-v1").broken == 1)


def test_several_choices_of_one_request_are_one_reply(client, gateway):
    canary(client, share=0.5)
    body = {"model": "policy", "messages": MESSAGES, "user": "ann", "n": 4}
    version = client.post("/v1/chat/completions", json=body).json()["model"]
    eventually(lambda: sums(gateway, version).replies == 1)
    assert sums(gateway, version).whole == 1


def test_only_streams_tell_when_their_first_token_came(client, gateway):
    canary(client, share=0.5)
    body = {"model": "policy", "messages": MESSAGES, "user": "ann"}
    version = client.post("/v1/chat/completions", json=body).json()["model"]
    eventually(lambda: sums(gateway, version).whole == 1)
    assert sums(gateway, version).seen == 0
    assert client.post("/v1/chat/completions", json={**body, "stream": True}).text.endswith("[DONE]\n\n")
    eventually(lambda: sums(gateway, version).seen == 1)
    assert sums(gateway, version).first_token > 0


def test_what_is_not_stored_refuses_too(client, gateway):
    gateway.engine.reply = "I'm sorry, I can't help with that."
    canary(client, share=0.5)
    body = {"model": "policy", "messages": MESSAGES, "user": "ann", "store": False}
    version = client.post("/v1/chat/completions", json=body).json()["model"]
    eventually(lambda: sums(gateway, version).refused == 1)


def test_while_no_engine_has_the_canary_nothing_is_dealt_out(client, gateway):
    canary(client, share=0.5)
    gateway.engine.logprob["policy-v1"] = float("nan")
    gateway.engine.restart()
    eventually(lambda: "policy-v1" not in client.get("/v1/models").text)
    reply = chat(client)
    eventually(lambda: client.get(f"/v1/completions/{reply['id']}").status_code == 200)
    assert not client.get(f"/v1/completions/{reply['id']}").json()["routed"]
    assert sums(gateway, "policy-v0").replies == 0


def test_two_gateways_deal_out_alike_and_count_together(client, gateway, valkey, engine_server):
    canary(client, share=0.5)
    engines = [engine_server.url]
    beside = running_gateway(valkey.url, gateway.home, gateway.engine, engines, broker_url=valkey.broker_url)
    with beside as other, other.client() as beside:
        eventually(lambda: "policy-v1" in beside.get("/v1/models").text)
        found = versions_of(beside, 20)
        assert versions_of(client, 20) == found
        assert len(set(found.values())) == 2
    eventually(lambda: sums(gateway, "policy-v0").replies + sums(gateway, "policy-v1").replies == 40)
