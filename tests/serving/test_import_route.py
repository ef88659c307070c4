"""POST /v1/import through the real gateway: good lines in, bad ones named, the audit log, what survives."""

import json

import httpx
import pytest

from feedback.caller import Role
from tests.conftest import MESSAGES, Gateway
from tests.servers import ValkeyProcess, eventually

GOOD = [
    {"prompt": "The sky is", "chosen": "blue.", "rejected": "green."},
    {"prompt": "Grass is", "completion": "green.", "label": True},
    {"prompt": "Snow is"},
]


def numbered(*records: object, first: int = 1) -> list[dict]:
    return [{"number": number, "record": record} for number, record in enumerate(records, first)]


def bring(client: httpx.Client, *records: object, **more: object) -> dict:
    answer = client.post("/v1/import", json={"lines": numbered(*records), **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def audited(client: httpx.Client) -> list[dict]:
    """The imports in the audit log, oldest first."""
    actions = client.get("/v1/audit").json()["data"]
    return [action for action in reversed(actions) if action["what"] == "feedback.import"]


def test_good_lines_are_imported_and_bad_ones_named(client):
    answer = bring(client, GOOD[0], {"prompt": ""}, *GOOD[1:], 7, GOOD[0], source="colours")
    assert answer["object"] == "import"
    assert answer["imported"] == {"preference": 1, "unpaired": 1, "prompt": 1}
    assert answer["already"] == 1
    assert answer["errors"] == [
        {"line": 2, "message": "`prompt` is empty"},
        {"line": 5, "message": "it is not a JSON object"},
    ]
    found = client.get("/v1/stats/policies").json()
    assert found["labels"] == 2
    assert found["data"] == [], "no policy version wrote what was imported"
    assert [version["id"] for version in client.get("/v1/policies").json()["data"]] == ["policy-v0"]
    assert "import" not in [model["id"] for model in client.get("/v1/models").json()["data"]]


def test_what_was_exported_from_here_is_there_already(client):
    for user in ("ann", "ben"):
        body = {"model": "policy", "messages": MESSAGES, "user": user}
        reply = client.post("/v1/chat/completions", json=body).json()
        rating = {"completion_id": reply["id"], "user": user, "rating": "up"}
        eventually(lambda body=rating: client.post("/v1/feedback", json=body).is_success)
    lines = client.get("/v1/stats/export", params={"format": "jsonl"}).text.splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 2
    elsewhere = records[0] | {"completion_id": "chatcmpl-of-another-service"}
    answer = bring(client, *records, elsewhere)
    assert (answer["already"], sum(answer["imported"].values())) == (2, 1)
    assert client.get("/v1/stats/policies").json()["labels"] == 3


def test_an_import_in_batches_is_audited_at_its_beginning_and_its_end(client):
    same = {"id": "import-1", "source": "colours.jsonl", "reason": "to begin with"}
    bring(client, GOOD[0], more=True, **same)
    bring(client, GOOD[0], GOOD[1], 7, more=True, **same)
    bring(client, bad=2, **same)
    begun, finished = audited(client)
    assert begun["after"] == {"id": "import-1", "name": "colours.jsonl", "state": "begun"}
    totals = {"imported": 2, "already": 1, "bad": 3}
    assert finished["after"] == {"id": "import-1", "name": "colours.jsonl", "state": "finished", **totals}
    assert {action["why"] for action in (begun, finished)} == {"to begin with"}
    assert {action["who"] for action in (begun, finished)} == {"operator"}


def test_one_request_is_an_import_by_itself(client, redis):
    answer = bring(client, *GOOD)
    [action] = audited(client)
    assert action["after"]["id"] == answer["id"]
    assert action["after"]["imported"] == 3
    assert redis.keys("tw:import:*") == []


def test_a_dry_run_leaves_nothing_behind_and_is_not_audited(client, redis):
    before = redis.dbsize()
    answer = bring(client, *GOOD, 7, dry_run=True, more=True, id="import-1")
    assert answer["imported"] == {"preference": 1, "unpaired": 1, "prompt": 1}
    assert len(answer["errors"]) == 1
    assert redis.dbsize() == before
    assert audited(client) == []


def test_only_operators_import(gateway: Gateway, redis):
    for role in (Role.user, Role.viewer):
        with gateway.client(gateway.key(role)) as somebody:
            answer = somebody.post("/v1/import", json={"lines": numbered(*GOOD)})
            assert answer.status_code == 403
    assert not redis.exists("tw:labels")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"lines": {}},
        {"lines": [{"record": {"prompt": "x"}}]},
        {"lines": [{"number": 0, "record": {}}]},
        {"lines": [{"number": 1}]},
        {"lines": [{"number": 1, "record": {}, "more": 1}]},
        {"lines": [{"number": 1, "record": {"prompt": "x"}}] * 1001},
        {"lines": [], "reason": ""},
    ],
)
def test_bodies_that_are_no_batch_are_refused(client, body):
    answer = client.post("/v1/import", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_what_was_answered_survives_a_kill(gateway: Gateway, client, valkey: ValkeyProcess):
    lines = [
        {"prompt": f"{number} + 1 =", "completion": str(number + 1), "label": True} for number in range(30)
    ]
    assert bring(client, *lines)["imported"]["unpaired"] == 30
    valkey.kill()
    refused = client.post("/v1/import", json={"lines": numbered(*GOOD)})
    valkey.start()
    assert refused.status_code == 503
    assert client.get("/v1/stats/policies").json()["labels"] == 30
    answer = bring(client, *lines, *GOOD)
    assert (answer["already"], answer["imported"]["preference"]) == (30, 1)
