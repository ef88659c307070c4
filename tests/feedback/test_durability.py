"""kill -9 of Valkey in the middle of ratings: whatever was answered with 200 is there afterwards."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from feedback.layout import ratings_key
from tests.conftest import Gateway, chat
from tests.servers import eventually


def thumbs_at_once(gateway: Gateway, completion_id: str, people: int = 6) -> list[int]:
    """The status of each of several people's thumbs, given at the same time."""

    def give(name: str) -> int:
        with gateway.client() as own:
            body = {"completion_id": completion_id, "rating": "up", "user": name}
            return own.post("/v1/feedback", json=body).status_code

    with ThreadPoolExecutor(people) as pool:
        return list(pool.map(give, [f"rater-{number}" for number in range(people)]))


def test_every_thumb_is_taken_after_a_restart(gateway: Gateway, client: httpx.Client, valkey):
    """Several at a time, since the gateway's pool has several connections that the restart broke."""
    completion_id = chat(client)["id"]
    assert set(thumbs_at_once(gateway, completion_id)) == {200}
    valkey.kill()
    valkey.start()
    assert set(thumbs_at_once(gateway, completion_id)) == {200}
    assert client.get("/v1/stats/policies").json()["data"][0]["up"] == 6


def test_a_thumb_waits_for_a_restart(gateway: Gateway, client: httpx.Client, valkey):
    completion_id = chat(client)["id"]
    client.get(f"/v1/feedback/{completion_id}")  # waits until the reply is logged
    valkey.kill()
    restart = threading.Timer(0.5, valkey.start)
    restart.start()
    try:
        assert set(thumbs_at_once(gateway, completion_id)) == {200}
    finally:
        restart.join()


@pytest.mark.slow
def test_without_a_store_a_thumb_is_refused_soon(gateway: Gateway, client: httpx.Client, valkey):
    completion_id = chat(client)["id"]
    valkey.kill()
    try:
        begun = time.monotonic()
        assert set(thumbs_at_once(gateway, completion_id)) == {503}
        assert time.monotonic() - begun < 8, "about PATIENCE, on a machine that may be busy"
    finally:
        valkey.start()


@pytest.mark.slow
def test_no_acknowledged_rating_is_lost(gateway: Gateway, client: httpx.Client, valkey):
    completion_id = chat(client)["id"]
    client.get(f"/v1/feedback/{completion_id}")  # waits until the reply is logged
    acknowledged: list[str] = []
    refused: list[int] = []
    stop = threading.Event()

    def rate(name: str) -> None:
        with gateway.client() as own:
            number = 0
            while not stop.is_set():
                body = {"completion_id": completion_id, "rating": "up", "user": f"{name}-{number}"}
                answer = own.post("/v1/feedback", json=body)
                if answer.status_code == 200:
                    acknowledged.append(answer.json()["rater"])
                else:
                    refused.append(answer.status_code)
                number += 1

    threads = [threading.Thread(target=rate, args=(f"rater-{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            already = len(acknowledged)
            eventually(lambda already=already: len(acknowledged) > already + 20)
            valkey.kill()
            time.sleep(0.05)
            valkey.start()
        already = len(acknowledged)
        eventually(lambda: len(acknowledged) > already)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    kept = set(gateway.redis.hkeys(ratings_key(completion_id)))
    assert set(acknowledged) <= kept
    assert set(refused) <= {503}
    up = client.get("/v1/stats/policies").json()["data"][0]["up"]
    assert up == len(kept), "the counters agree with what is there"
