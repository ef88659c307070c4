"""What serving adds to feedback's figures: when the champion changed, how far reward models agree."""

import time

import httpx
import orjson
import pytest
from redis.exceptions import RedisError

from feedback.caller import Role
from feedback.dashboard import Dashboard
from serving.registry import REWARDS
from tests.conftest import Gateway, running_gateway
from tests.servers import eventually


@pytest.fixture
def client(gateway: Gateway):
    with gateway.client() as client:
        yield client


def look(client: httpx.Client, **filters: object) -> dict:
    return client.get("/v1/stats/dashboard", params=filters).json()


def test_changes_of_the_champion_are_marked(client, gateway):
    gateway.publish("policy-v1")
    before = time.time()
    client.post("/v1/policies/policy-v1/promote", json={"reason": "better"})
    client.post("/v1/rollback", json={"reason": "worse"})
    up, back = look(client)["marks"]
    assert (up["kind"], up["from"], up["to"], up["why"]) == ("promotion", "policy-v0", "policy-v1", "better")
    assert (back["kind"], back["from"], back["to"]) == ("rollback", "policy-v1", "policy-v0")
    assert before <= up["time"] <= back["time"] <= time.time()
    assert up["who"] == "operator"
    assert look(client, since=before - 7200, until=before - 3600 * 1.5)["marks"] == []


def test_reward_models_say_how_far_they_agree_with_people(client, gateway):
    assert look(client)["rewards"] == {"live": None, "data": []}
    holdout = {"pair_accuracy": 0.7, "pair_accuracy_interval": [0.6, 0.8], "pairs": 90}
    for number, metrics in enumerate(({}, {"holdout": holdout}), 1):
        version = {"id": f"reward-v{number}", "path": None, "created": 1.0, "metrics": metrics}
        gateway.redis.hset(REWARDS, version["id"], orjson.dumps(version))
    gateway.redis.hset("tw:aliases", "reward", "reward-v2")
    found = look(client)["rewards"]
    assert found["live"] == "reward-v2"
    assert [row["pair_accuracy"] for row in found["data"]] == [None, 0.7]
    assert found["data"][1]["pair_accuracy_interval"] == [0.6, 0.8]
    assert found["data"][1]["thumb_auroc"] is None


def test_a_gateway_reads_before_anybody_looks(monkeypatch, engine, engine_server, valkey, tmp_path):
    times: list[float] = []
    monkeypatch.setattr(Dashboard, "get_ready", lambda _, until: times.append(until))
    before = time.time()
    with running_gateway(valkey.url, tmp_path, engine, [engine_server.url]):
        eventually(lambda: times)
    assert before <= times[0] <= time.time()
    assert len(times) == 1


def test_a_gateway_that_cannot_read_before_serves_all_the_same(
    monkeypatch, caplog, engine, engine_server, valkey, tmp_path
):
    def broken(*_: object) -> None:
        raise RedisError("away")

    monkeypatch.setattr(Dashboard, "get_ready", broken)
    with running_gateway(valkey.url, tmp_path, engine, [engine_server.url]) as gateway:
        eventually(lambda: "first look" in caplog.text)
        with gateway.client() as client:
            assert look(client)["totals"]["labels"] == 0
        time.sleep(1.2)  # longer than a background loop that failed waits
    assert caplog.text.count("first look") == 1


def test_the_page_is_for_viewers(client, gateway):
    page = client.get("/dashboard")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"].split("style-src-attr")[0]
    with gateway.client(gateway.key(Role.user)) as user:
        assert user.get("/dashboard").status_code == 403
