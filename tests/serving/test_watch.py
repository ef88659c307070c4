"""Two gateways on one Redis: what is done on one is seen on the other at once."""

import time
from collections.abc import Iterator

import httpx
import pytest

from feedback.caller import Role
from tests.conftest import Gateway, chat, running_gateway
from tests.servers import eventually


@pytest.fixture
def second(gateway: Gateway, valkey, engine_server) -> Iterator[Gateway]:
    """Another gateway that polls so rarely that only the push can tell it in time."""
    urls = [engine_server.url]
    with running_gateway(valkey.url, gateway.home, gateway.engine, urls, refresh=60.0) as other:
        yield other


@pytest.fixture
def there(second: Gateway) -> Iterator[httpx.Client]:
    with second.client() as client:
        yield client


def seconds_until(condition, start: float) -> float:
    eventually(condition, every=0.005)
    return time.monotonic() - start


def test_a_rollback_reaches_every_gateway_within_a_second(client, there, gateway):
    gateway.publish("policy-v1")
    assert client.post("/v1/policies/policy-v1/promote", json={"reason": "a test"}).status_code == 200
    eventually(lambda: chat(there)["model"] == "policy-v1")
    start = time.monotonic()
    assert client.post("/v1/rollback", json={"reason": "rude"}).status_code == 200
    assert chat(client)["model"] == "policy-v0"
    assert seconds_until(lambda: chat(there)["model"] == "policy-v0", start) < 1.0


def test_a_key_works_and_ends_on_every_gateway_at_once(client, gateway, second):
    made = client.post("/v1/keys", json={"name": "guest", "role": Role.user.name}).json()
    with second.client(made["key"]) as guest:
        start = time.monotonic()
        assert seconds_until(lambda: guest.get("/v1/models").status_code == 200, start) < 1.0
        start = time.monotonic()
        client.delete(f"/v1/keys/{made['id']}")
        assert seconds_until(lambda: guest.get("/v1/models").status_code == 401, start) < 1.0


def test_a_thumb_on_the_other_gateway_counts(client, there):
    reply = chat(client, user="ann")
    answer = there.post("/v1/feedback", json={"completion_id": reply["id"], "rating": "up"})
    assert answer.status_code == 200
    with_user = {"user": "ann"}
    assert client.get(f"/v1/feedback/{reply['id']}", params=with_user).json()["rating"] == "up"


def test_a_gateway_without_redis_answers_by_the_last_known_route_and_catches_up(client, gateway, valkey):
    gateway.publish("policy-v1")
    client.post("/v1/policies/policy-v1/promote", json={"reason": "a test"})
    valkey.kill()
    try:
        assert chat(client)["model"] == "policy-v1"
        refused = client.post("/v1/rollback", json={"reason": "rude"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        assert chat(client)["model"] == "policy-v1"
    finally:
        valkey.start()
    assert client.get("/v1/policies").json()["champion"] == "policy-v1", "it was on the disk"
    eventually(lambda: client.post("/v1/rollback", json={"reason": "rude"}).status_code == 200)
    assert chat(client)["model"] == "policy-v0"
