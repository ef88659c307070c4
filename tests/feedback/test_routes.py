"""Thumbs and comparisons through the real gateway."""

import json
import threading

import httpx
import pytest

from feedback.caller import Role
from tests.conftest import MESSAGES, Gateway, chat
from tests.servers import eventually


@pytest.fixture
def client(steady: Gateway):
    with steady.client() as client:
        yield client


def counts(client: httpx.Client, policy: str = "policy-v0") -> dict:
    data = client.get("/v1/stats/policies").json()["data"]
    return next((row for row in data if row["policy"] == policy), {"up": 0, "down": 0})


def thumbs(client: httpx.Client) -> tuple[int, int]:
    return counts(client)["up"], counts(client)["down"]


def rate(client: httpx.Client, completion_id: str, rating: str, **more: object) -> dict:
    answer = client.post("/v1/feedback", json={"completion_id": completion_id, "rating": rating, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def moved(before: tuple[int, int], after: tuple[int, int]) -> tuple[int, int]:
    return after[0] - before[0], after[1] - before[1]


def test_a_thumb_right_after_its_reply_counts_and_says_for_whom(client):
    before = thumbs(client)
    reply = chat(client)
    answer = rate(client, reply["id"], "up", reasons=["clear"], comment="good", correction="Paris.")
    assert answer["object"] == "feedback"
    assert answer["policy"] == "policy-v0"
    assert (answer["rating"], answer["reasons"], answer["comment"]) == ("up", ["clear"], "good")
    assert moved(before, thumbs(client)) == (1, 0)


def test_a_changed_mind_replaces_and_can_be_withdrawn(client):
    before = thumbs(client)
    completion_id = chat(client)["id"]
    rate(client, completion_id, "up", comment="good")
    rate(client, completion_id, "down")
    path = f"/v1/feedback/{completion_id}"
    found = client.get(path).json()
    assert (found["rating"], found["comment"]) == ("down", None)
    assert moved(before, thumbs(client)) == (0, 1)
    assert client.delete(path).json()["deleted"] is True
    assert moved(before, thumbs(client)) == (0, 0)
    assert client.get(path).status_code == 404
    again = client.delete(path)
    assert (again.status_code, again.json()["error"]["code"]) == (404, "rating_not_found")


def test_each_user_behind_a_key_is_a_rater_of_its_own(client):
    before = thumbs(client)
    completion_id = chat(client)["id"]
    raters = {rate(client, completion_id, "up", user=user)["rater"] for user in ("ann", "bob", "ann")}
    raters.add(rate(client, completion_id, "down")["rater"])
    assert len(raters) == 3
    assert moved(before, thumbs(client)) == (2, 1)
    assert client.get(f"/v1/feedback/{completion_id}", params={"user": "bob"}).json()["rating"] == "up"
    assert client.delete(f"/v1/feedback/{completion_id}", params={"user": "bob"}).status_code == 200
    assert client.get(f"/v1/feedback/{completion_id}", params={"user": "ann"}).json()["rating"] == "up"


def test_the_rater_is_the_completions_user_unless_the_thumb_names_one(client):
    completion_id = chat(client, user="ann")["id"]
    assert (
        rate(client, completion_id, "up")["rater"] == rate(client, completion_id, "up", user="ann")["rater"]
    )


def test_another_key_is_another_rater_and_sees_only_its_own(client, steady):
    completion_id = chat(client)["id"]
    rate(client, completion_id, "up")
    with steady.client(steady.key(Role.user)) as other:
        assert other.get(f"/v1/feedback/{completion_id}").status_code == 404
        assert other.delete(f"/v1/feedback/{completion_id}").status_code == 404
        rate(other, completion_id, "down")
    assert client.get(f"/v1/feedback/{completion_id}").json()["rating"] == "up"


@pytest.mark.parametrize("user", [None, "eve"])
def test_a_thumb_in_the_middle_of_the_stream_counts(client, steady, user):
    before = thumbs(client)
    steady.engine.reply, steady.engine.delay = "one two three four five", 0.1
    body = {"model": "policy", "messages": MESSAGES, "stream": True, "user": "ann"}
    try:
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            completion_id = json.loads(next(lines).removeprefix("data: "))["id"]
            with steady.client() as other:
                early = rate(other, completion_id, "down", **({"user": user} if user else {}))
            assert sum("content" in line for line in lines) > 2, "the stream was still going on"
    finally:
        steady.engine.reply, steady.engine.delay = "A fine answer.", 0.0
    late = rate(client, completion_id, "down", user=user or "ann")
    assert early["rater"] == late["rater"]
    assert moved(before, thumbs(client)) == (0, 1)


def test_a_reply_that_is_not_stored_can_be_rated(client):
    before = thumbs(client)
    rate(client, chat(client, store=False)["id"], "up")
    assert moved(before, thumbs(client)) == (1, 0)


def test_many_thumbs_at_once_keep_the_counters_right(client, steady):
    before = thumbs(client)
    ids = [chat(client)["id"] for _ in range(4)]

    def waver(user: str) -> None:
        with steady.client() as own:
            for completion_id in ids:
                for rating in ("up", "down", "up"):
                    rate(own, completion_id, rating, user=user)
            own.delete(f"/v1/feedback/{ids[0]}", params={"user": user})

    threads = [threading.Thread(target=waver, args=(f"user-{i}",)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert moved(before, thumbs(client)) == (15, 0)


def test_two_named_completions_of_the_same_messages_compare(client):
    one, two = chat(client)["id"], chat(client)["id"]
    answer = client.post("/v1/comparisons", json={"chosen": one, "rejected": two, "strength": 0.5})
    assert answer.status_code == 200, answer.text
    first = answer.json()
    assert first[first["winner"]]["completion_id"] == one
    assert first["preferred"] == "policy-v0"
    second = client.post("/v1/comparisons", json={"chosen": two, "rejected": one}).json()
    assert second["pair_id"] == first["pair_id"], "a changed mind meets the same pair"
    assert {first["winner"], second["winner"]} == {"a", "b"}


def test_a_changed_comparison_is_one_label(client):
    labels = client.get("/v1/stats/policies").json()["labels"]
    one, two = chat(client)["id"], chat(client)["id"]
    for chosen, rejected in ((one, two), (two, one), (one, two)):
        client.post("/v1/comparisons", json={"chosen": chosen, "rejected": rejected})
    assert client.get("/v1/stats/policies").json()["labels"] == labels + 1


def test_hours_add_up_to_the_totals(client):
    rate(client, chat(client)["id"], "up")
    eventually(lambda: counts(client)["completions"] > 0)
    hours = client.get("/v1/stats/hours", params={"policy": "policy-v0"}).json()["data"]
    assert 24 <= len(hours) <= 26
    assert all(hour["hour"] % 3600 == 0 for hour in hours)
    assert sum(hour["up"] for hour in hours) == counts(client)["up"]
    assert client.get("/v1/stats/hours", params={"policy": "policy-v0", "since": 2**40}).json()["data"] == []


def test_the_past_is_limited_to_what_is_drawn(client):
    hours = client.get("/v1/stats/hours", params={"policy": "policy-v0", "since": 0}).json()["data"]
    assert len(hours) == 24 * 90 + 1
