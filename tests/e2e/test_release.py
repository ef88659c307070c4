"""A version that babbles, and raters who only speak through HTTP: it goes without a person."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.stack import Stack, publish_aside
from tests.servers import eventually

RATERS = 160
AT_A_TIME = 8
COMMON = {"the", "a", "is", "to", "and", "of", "i", "you", "it", "in"}


@pytest.fixture
def rules(api) -> Iterator[dict[str, object]]:
    """What a test changes of the rules is changed back."""
    before = api.get("/v1/release").json()["rules"]
    yield before
    api.post("/v1/release", json={**before, "reason": "the test is over"}).raise_for_status()


@pytest.fixture(scope="module")
def worse(stack: Stack, tmp_path_factory) -> str:
    return publish_aside(stack, tmp_path_factory.mktemp("worse"), "worse")


def rate(stack: Stack, number: int) -> str:
    """One person asks, reads, and likes what reads like English. Who answered."""
    messages = [{"role": "user", "content": f"Tell me something about the number {number}."}]
    body = {"model": "policy", "messages": messages, "user": f"rater-{number}", "max_tokens": 20}
    with stack.client() as client:
        reply = client.post("/v1/chat/completions", json=body).raise_for_status().json()
        words = re.findall(r"[a-z]+", reply["choices"][0]["message"]["content"].lower())
        thumb = "up" if len(COMMON.intersection(words)) >= 2 else "down"
        given = {"completion_id": reply["id"], "rating": thumb, "user": f"rater-{number}"}
        client.post("/v1/feedback", json=given).raise_for_status()
        return str(reply["model"])


def rated_by_many(stack: Stack) -> set[str]:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return set(pool.map(lambda number: rate(stack, number), range(RATERS)))


def last_of(api: httpx.Client, what: str) -> dict:
    return next(action for action in api.get("/v1/audit").json()["data"] if action["what"] == what)


def test_a_worse_canary_fails_on_what_raters_say(worse, rules, stack, api):
    api.post("/v1/release", json={"mode": "auto", "share": 0.5, "reason": "a test"}).raise_for_status()
    api.post(f"/v1/policies/{worse}/canary", json={"reason": "a test"}).raise_for_status()
    champion = api.get("/v1/policies").json()["champion"]
    assert rated_by_many(stack) == {champion, worse}
    eventually(lambda: api.get("/v1/release").json()["trial"] is None, 60)
    failed = last_of(api, "canary.fail")
    assert (failed["who"], failed["before"]["version"]) == ("release control", worse)
    assert failed["why"].startswith("Raters find the challenger worse.")
    assert api.get("/v1/policies").json()["champion"] == champion


def test_harm_after_a_promotion_is_rolled_back_without_a_person(worse, rules, stack, api):
    api.post("/v1/release", json={"watch": 3600, "share": 0.5, "reason": "a test"}).raise_for_status()
    before = api.get("/v1/policies").json()["champion"]
    api.post(f"/v1/policies/{worse}/promote", json={"reason": "somebody erred"}).raise_for_status()
    assert rated_by_many(stack) == {before, worse}
    eventually(lambda: api.get("/v1/policies").json()["champion"] == before, 60)
    back = last_of(api, "policy.rollback")
    assert (back["who"], back["before"], back["after"]) == ("release control", worse, before)
    assert back["why"].startswith("Raters find the challenger worse.")
    assert api.get("/v1/release").json()["trial"] is None
