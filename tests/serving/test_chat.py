import time

import httpx
import openai
import pytest

from tests.conftest import MESSAGES, Gateway, chat
from tests.servers import eventually


def logged(client: httpx.Client, completion_id: str) -> dict:
    def look() -> dict | None:
        answer = client.get(f"/v1/completions/{completion_id}")
        return answer.json() if answer.status_code == 200 else None

    return eventually(look)


@pytest.fixture
def openai_client(gateway: Gateway):
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=gateway.operator_key, max_retries=0) as client:
        yield client


def test_openai_client_gets_a_reply_with_the_exact_version(openai_client, client):
    reply = openai_client.chat.completions.create(
        model="policy", messages=MESSAGES, temperature=0.5, user="ann"
    )
    assert reply.model == "policy-v0"
    assert reply.choices[0].message.content == "A fine answer."
    entry = logged(client, reply.id)
    assert entry["policy"] == "policy-v0"
    assert entry["messages"] == MESSAGES
    assert entry["reply"] == "A fine answer."
    assert entry["finish_reason"] == "stop"
    assert entry["sampling"] == {"temperature": 0.5}
    assert (entry["prompt_tokens"], entry["completion_tokens"]) == (7, 5)
    assert entry["first_token"] is None, "a whole reply says nothing of its first token"
    assert entry["duration"] > 0
    assert entry["user"] == "ann"


def test_stream_passes_through_and_is_logged(openai_client, client):
    stream = openai_client.chat.completions.create(model="policy", messages=MESSAGES, stream=True)
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "A fine answer."
    assert {c.model for c in chunks} == {"policy-v0"}
    assert all(c.usage is None for c in chunks), "the client asked for no token counts"
    entry = logged(client, chunks[0].id)
    assert entry["reply"] == "A fine answer."
    assert entry["completion_tokens"] == 5


def test_stream_gives_token_counts_to_who_asks(openai_client):
    stream = openai_client.chat.completions.create(
        model="policy", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    assert list(stream)[-1].usage.completion_tokens == 5


def test_models_lists_the_alias_and_the_versions(openai_client, gateway):
    gateway.publish("policy-v1")
    expected = ["policy", "policy-v0", "policy-v1"]
    eventually(lambda: [m.id for m in openai_client.models.list()] == expected)


def test_exact_version_is_addressable(client, gateway):
    gateway.publish("policy-v1")
    eventually(lambda: "policy-v1" in gateway.engine.adapters)
    eventually(lambda: client.get("/v1/models").text.count("policy-v1"))
    assert chat(client, model="policy-v1")["model"] == "policy-v1"
    assert chat(client)["model"] == "policy-v0"


def test_store_false_logs_no_text(client):
    reply = chat(client, store=False, metadata={"secret": "yes"})
    entry = logged(client, reply["id"])
    assert entry["messages"] is None
    assert entry["reply"] is None
    assert entry["metadata"] == {}
    assert "capital" not in str(entry)


def test_every_choice_is_logged(client):
    reply = chat(client, n=2)
    assert logged(client, reply["id"])["reply"] == "A fine answer."
    assert logged(client, reply["id"] + "-1")["reply"] == "A fine answer."


def test_client_cannot_choose_the_request_id(client, gateway):
    chat(client, request_id="chatcmpl-mine")
    assert "request_id" not in gateway.engine.requests[-1]


def test_client_that_goes_away_closes_the_upstream_and_is_logged_as_broken(client, gateway):
    gateway.engine.reply, gateway.engine.delay = "word " * 200, 0.05
    body = {"model": "policy", "messages": MESSAGES, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        first = next(response.iter_lines())
    completion_id = first.split('"id":"')[1].split('"')[0]
    eventually(lambda: gateway.engine.aborted == 1)
    entry = logged(client, completion_id)
    assert entry["finish_reason"] is None
    assert entry["error"] == "the client went away"
    assert entry["reply"].startswith("word")


def test_engine_that_dies_mid_stream_ends_the_stream_with_an_error_event(openai_client, client, gateway):
    gateway.engine.reply, gateway.engine.die_after = "one two three four", 2
    stream = openai_client.chat.completions.create(model="policy", messages=MESSAGES, stream=True)
    with pytest.raises(openai.APIError, match="engine went away"):
        list(stream)
    counts = eventually(lambda: client.get("/v1/stats/policies").json()["data"])
    assert counts[0]["broken"] == 1


def test_restarted_engine_gets_its_adapters_back_before_it_is_routed_to(client, gateway):
    gateway.publish("policy-v1")
    client.post("/v1/policies/policy-v1/promote", json={"reason": "a test"})
    gateway.engine.restart()
    assert chat(client)["model"] == "policy-v1"
    assert "policy-v1" in gateway.engine.adapters


def test_no_engine_is_a_503_that_says_what_to_do(client, gateway, monkeypatch):
    monkeypatch.setattr("serving.chat.ENGINE_WAIT", 0.2)
    gateway.engine.down = True
    eventually(lambda: client.get("/readyz").status_code == 503)
    answer = client.post("/v1/chat/completions", json={"model": "policy", "messages": MESSAGES})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_engine"
    gateway.engine.down = False
    eventually(lambda: client.get("/readyz").status_code == 200)
    chat(client)


def test_engine_refusal_comes_back_as_it_was_said(client):
    answer = client.post(
        "/v1/chat/completions", json={"model": "policy", "messages": MESSAGES, "temperature": -1}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "temperature must be non-negative"


def test_engine_error_is_never_a_500(client, gateway):
    gateway.engine.status = 500
    answer = client.post("/v1/chat/completions", json={"model": "policy", "messages": MESSAGES})
    assert answer.status_code == 502


def test_metrics_count_replies_by_version(client):
    chat(client)
    text = httpx.get(str(client.base_url) + "/metrics").text
    assert 'thumbwheel_replies_total{outcome="finished",policy="policy-v0"} 1.0' in text
    assert "thumbwheel_engines_ready 1.0" in text


def test_chat_goes_on_while_redis_is_away_and_is_logged_afterwards(client, gateway, valkey):
    chat(client)
    time.sleep(0.3)
    valkey.kill()
    try:
        reply = chat(client)
        rating = client.post("/v1/feedback", json={"completion_id": reply["id"], "rating": "up"})
        assert rating.status_code == 503
        assert rating.json()["error"]["code"] == "store_unavailable"
    finally:
        valkey.start()
    assert logged(client, reply["id"])["reply"] == "A fine answer."
