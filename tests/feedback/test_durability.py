"""kill -9 of Valkey in the middle of ratings: whatever was answered with 200 is there afterwards."""

import threading
import time

import httpx

from feedback.layout import ratings_key
from tests.conftest import Gateway, chat
from tests.servers import eventually


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
