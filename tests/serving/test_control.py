"""What operators do: promote, roll back, start and stop jobs, pause learning; and what is noted of it."""

import math
import time

import pytest
from kombu.exceptions import OperationalError

from feedback.caller import Role
from tests.conftest import MESSAGES, Gateway, chat
from tests.servers import eventually


def promote(client, version, reason="better"):
    return client.post(f"/v1/policies/{version}/promote", json={"reason": reason})


def rollback(client, **body):
    return client.post("/v1/rollback", json={"reason": "rude", **body})


@pytest.fixture
def published(gateway: Gateway) -> Gateway:
    gateway.publish("policy-v1")
    gateway.publish("policy-v2", parent="policy-v1")
    return gateway


def test_promotion_loads_probes_and_moves_the_champion(client, published):
    answer = promote(client, "policy-v1", reason="better")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["champion"], body["previous"]) == ("policy-v1", "policy-v0")
    assert body["engines"][0]["to_base"] == 0.5
    assert "policy-v1" in published.engine.adapters
    assert chat(client)["model"] == "policy-v1", "the very next request"


def test_rollback_is_one_call_with_a_reason(client, published):
    promote(client, "policy-v1")
    promote(client, "policy-v2")
    body = rollback(client).json()
    assert (body["from"], body["champion"], body["previous"]) == ("policy-v2", "policy-v1", "policy-v0")
    assert chat(client)["model"] == "policy-v1"
    assert rollback(client).json()["champion"] == "policy-v0"
    assert chat(client)["model"] == "policy-v0"
    empty = rollback(client)
    assert (empty.status_code, empty.json()["error"]["code"]) == (409, "conflict")


def test_rollback_to_a_named_version(client, published):
    promote(client, "policy-v2")
    assert rollback(client, to="policy-v1").json()["champion"] == "policy-v1"
    assert chat(client)["model"] == "policy-v1"


def test_rollback_does_not_wait_for_an_engine_that_hangs(client, published):
    promote(client, "policy-v1")
    eventually(lambda: "policy-v1" in client.get("/v1/engines").json()["data"][0]["loaded"])
    promote(client, "policy-v2")
    eventually(
        lambda: {"policy-v1", "policy-v2"} <= set(client.get("/v1/engines").json()["data"][0]["loaded"])
    )
    published.engine.slow_admin = 5.0
    start = time.monotonic()
    assert rollback(client).json()["champion"] == "policy-v1"
    assert chat(client)["model"] == "policy-v1"
    assert time.monotonic() - start < 1.0
    published.engine.slow_admin = 0.0


@pytest.mark.parametrize("logprob", [math.nan, -1.0], ids=["not a number", "same as the base"])
def test_a_broken_adapter_is_refused_and_everything_stays(client, published, monkeypatch, logprob):
    monkeypatch.setattr("serving.chat.ENGINE_WAIT", 0.5)
    published.engine.logprob["policy-v1"] = logprob
    before = client.get("/v1/policies").json()
    answer = promote(client, "policy-v1", reason="hope")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert "policy-v1 cannot be served" in answer.json()["error"]["message"]
    assert client.get("/v1/policies").json() == before
    assert "policy-v1" not in published.engine.adapters
    assert chat(client)["model"] == "policy-v0"
    assert not [a for a in client.get("/v1/audit").json()["data"] if a["what"] == "policy.promote"]
    addressed = client.post("/v1/chat/completions", json={"model": "policy-v1", "messages": MESSAGES})
    assert addressed.status_code == 404


def test_a_version_that_was_mended_is_served_although_it_was_refused_before(client, gateway):
    gateway.engine.logprob["policy-v1"] = math.nan

    def refused() -> dict:
        return client.get("/v1/engines").json()["data"][0]["refused"]

    gateway.publish("policy-v1")
    eventually(lambda: "policy-v1" in refused())
    gateway.engine.logprob["policy-v1"] = -0.5
    assert promote(client, "policy-v1").status_code == 200
    assert chat(client)["model"] == "policy-v1"
    eventually(lambda: not refused())


def test_files_that_are_gone_are_said_to_be_gone(client, published):
    (published.home / "artifacts" / "policies" / "policy-v1" / "adapter_config.json").unlink()
    answer = promote(client, "policy-v1")
    assert answer.status_code == 409
    assert "gone" in answer.json()["error"]["message"]


def test_promotion_without_an_engine_changes_nothing(client, published):
    published.engine.down = True
    answer = promote(client, "policy-v1")
    assert answer.status_code in (409, 503)
    published.engine.down = False
    assert client.get("/v1/policies").json()["champion"] == "policy-v0"


def test_policies_are_listed_with_their_aliases_and_pages(client, published):
    promote(client, "policy-v1")
    first = client.get("/v1/policies", params={"limit": 2}).json()
    assert [row["id"] for row in first["data"]] == ["policy-v2", "policy-v1"]
    assert (first["champion"], first["previous"], first["challenger"]) == ("policy-v1", "policy-v0", None)
    rest = client.get("/v1/policies", params={"limit": 2, "after": "policy-v1"}).json()
    assert ([row["id"] for row in rest["data"]], first["has_more"], rest["has_more"]) == (
        ["policy-v0"],
        True,
        False,
    )
    one = client.get("/v1/policies/policy-v2").json()
    assert (one["parent"], "probe" in one) == ("policy-v1", False)


def test_a_job_is_started_watched_and_cancelled(client, gateway):
    job = client.post("/v1/jobs", json={"kind": "cycle", "method": "online_dpo", "reason": "a try"}).json()
    assert (job["state"], job["kind"], job["params"], job["by"]) == (
        "queued", "cycle", {"method": "online_dpo"}, "operator",
    )  # fmt: skip
    assert client.get(f"/v1/jobs/{job['id']}").json() == job
    assert [row["id"] for row in client.get("/v1/status").json()["jobs"]] == [job["id"]]
    done = client.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "enough"}).json()
    assert (done["state"], done["reason"]) == ("cancelled", "enough")
    assert client.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "enough"}).status_code == 409
    assert client.get("/v1/status").json()["jobs"] == []
    told = [(a["what"], a["why"]) for a in client.get("/v1/audit").json()["data"]]
    assert told[:2] == [("job.cancel", "enough"), ("job.start", "a try")]
    cancel = client.get("/v1/audit", params={"limit": 1}).json()["data"][0]
    assert cancel["before"] == {"id": job["id"], "state": "queued"}
    assert cancel["after"] == {"id": job["id"], "state": "cancelled"}


def test_the_audit_log_has_that_a_running_job_was_asked_to_stop(client, gateway):
    job = client.post("/v1/jobs", json={"kind": "cycle"}).json()
    assert gateway.jobs.acquire(job["id"]) is not None
    assert client.post(f"/v1/jobs/{job['id']}/cancel", json={"reason": "enough"}).json()["state"] == "running"
    cancel = client.get("/v1/audit", params={"limit": 1}).json()["data"][0]
    assert cancel["before"] == {"id": job["id"], "state": "running"}
    assert cancel["after"] == {"id": job["id"], "state": "cancelling"}


def test_a_job_is_kept_while_the_broker_is_away(client, gateway, monkeypatch):
    def away(*_: object, **__: object) -> None:
        raise OperationalError("no broker")

    monkeypatch.setattr("celery.Celery.send_task", away)
    assert client.post("/v1/jobs", json={"kind": "reward"}).json()["state"] == "queued"


def test_jobs_are_paged(client):
    ids = [client.post("/v1/jobs", json={"kind": "reward"}).json()["id"] for _ in range(3)]
    first = client.get("/v1/jobs", params={"limit": 2}).json()
    assert ([job["id"] for job in first["data"]], first["has_more"]) == (ids[:0:-1], True)
    rest = client.get("/v1/jobs", params={"limit": 2, "after": ids[1]}).json()
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == (ids[:1], False)


def test_learning_is_paused_and_resumed(client):
    assert client.get("/v1/learning").json()["paused"] is False
    assert client.post("/v1/learning", json={"paused": True, "reason": "a holiday"}).json()["paused"] is True
    assert client.get("/v1/status").json()["learning"]["paused"] is True
    assert client.post("/v1/learning", json={"paused": False, "reason": "back"}).json()["paused"] is False


def test_the_audit_log_has_who_when_what_why_before_and_after(client, published):
    start = time.time()
    with published.client(published.key(Role.operator, name="bob")) as bob:
        promote(bob, "policy-v1", reason="better")
        rollback(bob)
    newest = client.get("/v1/audit", params={"limit": 2}).json()
    back, up = newest["data"]
    assert start < back["when"] < time.time()
    assert {key: back[key] for key in ("who", "what", "why", "before", "after")} == {
        "who": "bob", "what": "policy.rollback", "why": "rude", "before": "policy-v1", "after": "policy-v0",
    }  # fmt: skip
    assert (up["what"], up["why"], up["before"], up["after"]) == (
        "policy.promote", "better", "policy-v0", "policy-v1",
    )  # fmt: skip
    older = client.get("/v1/audit", params={"limit": 2, "after": up["id"]}).json()
    assert [action["what"] for action in older["data"]] == ["key.add", "key.add"]
    assert (newest["has_more"], older["has_more"]) == (True, False)


def test_status_tells_it_all_at_a_glance(client, published):
    body = client.get("/v1/status").json()
    assert body["champion"] == "policy-v0"
    assert body["engines"][0]["ready"] is True
    assert set(body["learning"]) == {"paused", "cursor", "labels", "updated"}


def test_what_is_unloaded_was_neither_asked_for_nor_new(client, published):
    """Seven versions, five of which stay loaded: the champion for one, however old."""
    promote(client, "policy-v1")
    for number in range(3, 8):
        published.publish(f"policy-v{number}", parent="policy-v2")
    published.redis.publish("tw:changed", "x")
    kept = {"policy-v1", "policy-v4", "policy-v5", "policy-v6", "policy-v7"}
    eventually(lambda: set(published.engine.adapters) == kept)
    answer = client.post("/v1/chat/completions", json={"model": "policy-v2", "messages": MESSAGES})
    assert answer.status_code == 404
    assert "not loaded just now" in answer.json()["error"]["message"]
    assert rollback(client, to="policy-v2").status_code == 200
    assert chat(client)["model"] == "policy-v2"


def test_a_versions_plots_are_fetched_by_name(client, published):
    folder = published.home / "artifacts" / "policies" / "policy-v1" / "plots"
    folder.mkdir()
    (folder / "reward.png").write_bytes(b"\x89PNG")
    (folder / "reward.json").write_text("[]")
    (folder / "secret.json").write_text("{}")
    drawn = client.get("/v1/policies/policy-v1/plots/reward.png")
    assert (drawn.status_code, drawn.headers["content-type"], drawn.content) == (200, "image/png", b"\x89PNG")
    assert client.get("/v1/policies/policy-v1/plots/reward.json").json() == []
    for version, name, code in (
        ("policy-v1", "training.png", "plot_not_found"),
        ("policy-v0", "reward.png", "plot_not_found"),
        ("policy-v9", "reward.png", "version_not_found"),
    ):
        answer = client.get(f"/v1/policies/{version}/plots/{name}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)
    for name in ("secret.json", "..%2Fadapter_config.json"):
        assert client.get(f"/v1/policies/policy-v1/plots/{name}").status_code in (400, 404, 422)
    with published.client(published.key(Role.user)) as user:
        assert user.get("/v1/policies/policy-v1/plots/reward.png").status_code == 403
