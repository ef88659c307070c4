"""Several engines behind one gateway: retries before the first byte, healing before they are routed to."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import httpx
import pytest

from tests.conftest import MESSAGES, Gateway, chat, running_gateway
from tests.fake_engine import FakeEngine
from tests.servers import eventually, free_port, serving

STREAM = {"model": "policy", "messages": MESSAGES, "stream": True}


@dataclass
class Pool:
    gateway: Gateway
    engines: list[FakeEngine]
    urls: list[str]

    def asked(self) -> list[int]:
        return [len(engine.requests) for engine in self.engines]

    def status(self, client: httpx.Client, number: int) -> dict:
        rows = {row["url"]: row for row in client.get("/v1/engines").json()["data"]}
        return rows[self.urls[number]]


@pytest.fixture
def pool(valkey, tmp_path) -> Iterator[Pool]:
    """Two engines; the first is preferred while both are idle."""
    engines = [FakeEngine(), FakeEngine()]
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(engine.app)) for engine in engines]
        gateway = stack.enter_context(running_gateway(valkey.url, tmp_path, engines[0], urls))
        with gateway.client() as client:
            eventually(lambda: all(row["ready"] for row in client.get("/v1/engines").json()["data"]))
        yield Pool(gateway, engines, urls)


@pytest.fixture
def client(pool: Pool) -> Iterator[httpx.Client]:
    with pool.gateway.client() as client:
        yield client


def text_of(response: httpx.Response) -> str:
    return "".join(part.split('"', 1)[0] for part in response.text.split('"content":"')[1:])


def test_requests_go_to_the_least_busy_engine(client, pool):
    pool.engines[0].delay = pool.engines[1].delay = 0.3
    threads = [threading.Thread(target=lambda: chat(client)) for _ in range(4)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert pool.asked() == [2, 2]


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_fails_is_passed_over_before_the_first_byte(client, pool, stream):
    pool.engines[0].status = 500
    answer = client.post("/v1/chat/completions", json={**STREAM, "stream": stream})
    assert answer.status_code == 200
    assert "fine" in answer.text
    assert pool.asked() == [1, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_dies_after_its_headers_is_passed_over_too(client, pool, stream):
    pool.engines[0].die_after = 0
    answer = client.post("/v1/chat/completions", json={**STREAM, "stream": stream})
    assert answer.status_code == 200
    assert "fine" in answer.text
    assert pool.asked() == [1, 1]


def test_a_stream_that_has_begun_is_never_tried_again(client, pool):
    pool.engines[0].die_after = 2
    answer = client.post("/v1/chat/completions", json=STREAM)
    assert "engine_lost" in answer.text
    assert pool.asked() == [1, 0]


def test_where_all_engines_fail_the_client_hears_of_it(client, pool):
    for engine in pool.engines:
        engine.status = 500
    answer = client.post("/v1/chat/completions", json={"model": "policy", "messages": MESSAGES})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_failed")
    assert pool.asked() == [1, 1]


def test_a_request_that_is_wrong_is_not_tried_elsewhere(client, pool):
    body = {"model": "policy", "messages": MESSAGES, "temperature": -1}
    assert client.post("/v1/chat/completions", json=body).status_code == 400
    assert pool.asked() == [1, 0]


def test_an_engine_that_hangs_does_not_keep_the_other_from_healing(client, pool):
    pool.gateway.publish("policy-v1")
    assert client.post("/v1/policies/policy-v1/promote", json={"reason": "a test"}).status_code == 200
    pool.engines[0].slow_admin = 30.0
    time.sleep(0.3)
    pool.engines[1].restart()
    eventually(lambda: "policy-v1" in pool.engines[1].adapters, seconds=3)
    pool.engines[0].slow_admin = 0.0


def test_a_restarted_engine_is_not_routed_to_before_it_has_its_adapters(client, pool):
    pool.gateway.publish("policy-v1")
    client.post("/v1/policies/policy-v1/promote", json={"reason": "a test"})
    pool.engines[0].slow_admin = 0.4
    pool.engines[0].restart()
    for _ in range(20):
        assert chat(client)["model"] == "policy-v1"
    assert pool.asked()[1] >= 19, "the other one answered meanwhile"
    eventually(lambda: "policy-v1" in pool.engines[0].adapters)
    before = pool.asked()[0]
    eventually(lambda: chat(client) and pool.asked()[0] > before)


def test_an_engine_that_comes_late_is_taken_in(valkey, tmp_path):
    early, late, port = FakeEngine(), FakeEngine(), free_port()
    late_url = f"http://127.0.0.1:{port}"
    with (
        serving(early.app) as early_url,
        running_gateway(valkey.url, tmp_path, early, [early_url, late_url]) as gateway,
        gateway.client() as client,
    ):
        gateway.publish("policy-v1")
        assert client.post("/v1/policies/policy-v1/promote", json={"reason": "a test"}).status_code == 200, (
            "one engine is enough"
        )
        with serving(late.app, port):
            eventually(lambda: "policy-v1" in late.adapters)
            early.status = 500
            assert eventually(lambda: chat(client))["model"] == "policy-v1"
        early.status = 200
        assert chat(client)["model"] == "policy-v1"


def test_promotion_is_refused_where_one_engine_refuses(client, pool):
    pool.engines[1].logprob["policy-v1"] = -1.0
    pool.gateway.publish("policy-v1")
    answer = client.post("/v1/policies/policy-v1/promote", json={"reason": "a test"})
    assert answer.status_code == 409
    assert client.get("/v1/policies").json()["champion"] == "policy-v0"


def test_swaps_and_rollbacks_under_load_fail_no_request(client, pool):
    """Each reply carries the version that wrote it, and that is the version that the engine was asked for."""
    for name in ("policy-v1", "policy-v2"):
        pool.gateway.publish(name)
    stop, failures, models = threading.Event(), [], []

    def chats(stream: bool) -> None:
        with pool.gateway.client() as own:
            while not stop.is_set():
                answer = own.post("/v1/chat/completions", json={**STREAM, "stream": stream})
                models.append(answer.text.split('"model":"')[1].split('"')[0])
                if answer.status_code != 200 or "error" in answer.text:
                    failures.append(answer.text)

    threads = [threading.Thread(target=chats, args=(number % 2 == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            for version in ("policy-v1", "policy-v2"):
                assert (
                    client.post(f"/v1/policies/{version}/promote", json={"reason": "a test"}).status_code
                    == 200
                )
                time.sleep(0.05)
            pool.engines[0].restart()
            drill = {"reason": "a drill", "to": "policy-v0"}
            assert client.post("/v1/rollback", json=drill).status_code == 200
            time.sleep(0.05)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert set(models) >= {"policy-v1", "policy-v2"}
    asked = [request["model"] for engine in pool.engines for request in engine.requests]
    assert sorted(set(models)) == sorted(set(asked))


def test_two_gateways_share_engines_without_throwing_each_other_out(client, pool, valkey, tmp_path):
    """Eight versions, five kept: both unload the same ones, and neither takes the engine for ill."""
    with running_gateway(valkey.url, tmp_path, pool.engines[0], pool.urls) as other, other.client() as second:
        for number in range(1, 9):
            pool.gateway.publish(f"policy-v{number}")
            pool.gateway.redis.publish("tw:changed", "x")
            for own in (client, second):
                assert chat(own)["model"] == "policy-v0"
                assert all(row["ready"] for row in own.get("/v1/engines").json()["data"])
        kept = {f"policy-v{number}" for number in range(4, 9)}
        eventually(lambda: all(set(engine.adapters) == kept for engine in pool.engines))
