import contextlib
import os
import time
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.stack import Stack, ask
from tests.servers import eventually


def test_killed_valkey_loses_nothing_that_was_acknowledged(stack, api):
    replies = [ask(api, f"Say {number}.", max_tokens=4)["id"] for number in range(8)]
    acknowledged = []
    for number, completion_id in enumerate(replies):
        body = {"completion_id": completion_id, "rating": "up", "comment": f"number {number}"}
        if api.post("/v1/feedback", json=body).status_code == 200:
            acknowledged.append((completion_id, f"number {number}"))
    pid = stack.kill("valkey")
    stack.restarted("valkey", pid)
    assert len(acknowledged) == 8
    for completion_id, comment in acknowledged:
        answer = _patiently(api, f"/v1/feedback/{completion_id}")
        assert answer.json()["comment"] == comment
    ask(api, "Still there?")


def test_everything_survives_down_and_up(stack: Stack, api):
    rated = ask(api, "Rate me.", max_tokens=4)["id"]
    api.post("/v1/feedback", json={"completion_id": rated, "rating": "up"}).raise_for_status()
    # It counts as rated once it is logged, which is a moment after it is answered.
    eventually(lambda: api.get(f"/v1/completions/{rated}").json().get("reply") is not None)
    before = _everything(stack, rated)
    assert before["policies"]["data"]
    stack.down()
    assert _pids_of(stack) == []
    printed = stack.up()
    assert "Installing" not in printed
    assert _everything(stack, rated) == before
    with stack.client() as client:
        assert ask(client, "Hello again.")["model"] == before["policies"]["champion"]


def _everything(stack: Stack, rated: str) -> dict[str, Any]:
    paths = (
        "policies",
        "rewards",
        "jobs",
        "stats/policies",
        "keys",
        "learning",
        "audit",
        f"feedback/{rated}",
    )
    with stack.client() as client:
        found = {path: client.get(f"/v1/{path}").json() for path in paths}
    for policy in found["stats/policies"]["data"]:  # a start asks one question of its own
        del policy["completions"], policy["tokens"], policy["response_rate"]
    return found


def _pids_of(stack: Stack) -> list[str]:
    """Processes that have this home's path in their command line or environment."""
    needle = f"THUMBWHEEL_HOME={stack.home}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if needle in (folder / "environ").read_bytes():
                    found.append(folder.name)
    return found


def _patiently(client: httpx.Client, path: str) -> httpx.Response:
    """An answer, waited for while the store is on its way back."""
    deadline = time.monotonic() + 30
    while (answer := client.get(path)).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.5)
    return answer
