"""Streams and their clients: slow ones, ones that go away, and what becomes of the bytes."""

import json
import socket
import time

import httpx
import pytest

from tests.conftest import MESSAGES, Gateway
from tests.servers import eventually

STREAM = {"model": "policy", "messages": MESSAGES, "stream": True}
LARGE = "word " * 60_000  # some 10 MB of events: far more than any buffer on the way takes


def connect(gateway: Gateway, **more: object) -> socket.socket:
    """A client that has asked, and reads only when it is told to."""
    body = json.dumps({**STREAM, **more}).encode()
    url = httpx.URL(gateway.url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.connect((url.host, url.port))
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.operator_key}\r\n"
    )
    client.sendall(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return client


def counts(client: httpx.Client) -> dict:
    data = client.get("/v1/stats/policies").json()["data"]
    return data[0] if data else {"completions": 0, "broken": 0}


def metrics(gateway: Gateway) -> str:
    return httpx.get(gateway.url + "/metrics").text


def assert_broken_off(gateway: Gateway, client: httpx.Client) -> None:
    """Every completion there is was logged as broken off, without a reply; none is left half open."""
    text = metrics(gateway)
    assert 'thumbwheel_replies_total{outcome="failed"' not in text
    assert "thumbwheel_first_byte_seconds_count" not in text, "there was no first byte to time"
    keys = gateway.redis.keys("tw:completion:*")
    assert keys
    for key in keys:
        entry = client.get("/v1/completions/" + key.removeprefix("tw:completion:")).json()
        assert (entry["finish_reason"], entry["reply"]) == (None, None)
        assert entry["error"] == "the client went away"
        assert gateway.redis.ttl(key) == -1


def test_a_slow_client_holds_the_engine_back_and_gets_every_byte(gateway, client):
    gateway.engine.reply = LARGE
    with connect(gateway) as slow:
        time.sleep(0.5)
        assert gateway.engine.sent < 60_000, "the engine was not drained into memory"
        slow.settimeout(20)
        tail = b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            tail = tail[-100:] + slow.recv(1 << 20)
    assert b"data: [DONE]" in tail
    assert eventually(lambda: counts(client)["completions"] == 1)
    assert counts(client)["broken"] == 0


def test_a_client_that_goes_away_while_it_is_being_sent_to_closes_the_upstream(gateway, client):
    gateway.engine.reply = LARGE
    stuck = connect(gateway)
    time.sleep(0.5)
    assert gateway.engine.aborted == 0
    stuck.close()
    eventually(lambda: gateway.engine.aborted == 1, seconds=5)
    assert eventually(lambda: counts(client)["broken"] == 1)


def test_a_client_that_leaves_after_the_last_event_has_the_whole_reply(gateway, client):
    gateway.engine.linger = 30.0
    with client.stream("POST", "/v1/chat/completions", json=STREAM) as response:
        lines = response.iter_lines()
        completion_id = json.loads(next(lines).removeprefix("data: "))["id"]
        assert any(line == "data: [DONE]" for line in lines)
    eventually(lambda: client.get("/v1/engines").json()["data"][0]["inflight"] == 0, seconds=3)
    assert eventually(lambda: counts(client)["completions"] == 1)
    entry = client.get(f"/v1/completions/{completion_id}").json()
    assert (entry["finish_reason"], entry["error"], entry["reply"]) == ("stop", None, gateway.engine.reply)
    assert counts(client)["broken"] == 0
    assert 'thumbwheel_replies_total{outcome="finished",policy="policy-v0"} 1.0' in metrics(gateway)


def test_a_client_that_goes_away_before_the_first_byte_closes_the_upstream(gateway, client):
    gateway.engine.first_delay = 30.0
    gone = connect(gateway)
    eventually(lambda: gateway.engine.requests)
    gone.close()
    eventually(lambda: gateway.engine.aborted == 1, seconds=5)
    eventually(lambda: client.get("/v1/engines").json()["data"][0]["inflight"] == 0)
    eventually(lambda: counts(client)["broken"] == 1)
    assert_broken_off(gateway, client)


@pytest.mark.parametrize(("path", "replies"), [("/v1/chat/completions", 1), ("/v1/pairs", 2)])
def test_a_plain_client_that_goes_away_frees_the_engine_and_is_logged_as_broken(
    gateway, client, path, replies
):
    gateway.engine.delay = 30.0
    with pytest.raises(httpx.ReadTimeout):
        client.post(path, json={"model": "policy", "messages": MESSAGES}, timeout=0.5)
    eventually(lambda: client.get("/v1/engines").json()["data"][0]["inflight"] == 0, seconds=3)
    eventually(lambda: counts(client)["broken"] == replies)
    assert_broken_off(gateway, client)


def test_what_the_engine_refuses_is_not_logged(gateway, client):
    for stream in (True, False):
        client.post("/v1/chat/completions", json={**STREAM, "stream": stream, "temperature": -1})
    time.sleep(0.3)  # three flushes of the log
    assert counts(client)["completions"] == 0
    assert 'outcome="refused",policy="policy-v0"} 2.0' in metrics(gateway)


def test_bytes_pass_through_as_the_engine_sent_them(gateway, client):
    """With the token counts asked for there is nothing to take out: the bytes are the same."""
    options = {"stream_options": {"include_usage": True}}
    with client.stream("POST", "/v1/chat/completions", json={**STREAM, **options}) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        received = b"".join(response.iter_raw())
    assert received == gateway.engine.last_stream
    with client.stream("POST", "/v1/chat/completions", json=STREAM) as response:
        without = b"".join(response.iter_raw())
    sent = gateway.engine.last_stream.split(b"\n\n")
    assert without == b"\n\n".join(event for event in sent if b'"choices":[]' not in event)


def test_words_that_look_like_token_counts_are_not_taken_out(gateway, client):
    gateway.engine.reply = 'He said "choices":[] and data: [DONE]\n\n and left.'
    with client.stream("POST", "/v1/chat/completions", json=STREAM) as response:
        events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    assert (
        "".join(event["choices"][0]["delta"].get("content", "") for event in events) == gateway.engine.reply
    )


def test_a_refusal_of_a_stream_is_no_stream(client):
    answer = client.post("/v1/chat/completions", json={**STREAM, "temperature": -1})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json()["error"]["message"] == "temperature must be non-negative"
