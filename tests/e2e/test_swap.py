import json
import time

import httpx
import pytest

from tests.e2e.stack import Stack, SteadyLoad, ask, publish
from tests.servers import eventually


@pytest.fixture(scope="module")
def before(stack: Stack) -> str:
    """The champion that the published version takes the place of."""
    with stack.client() as client:
        return str(client.get("/v1/policies").json()["champion"])


@pytest.fixture(scope="module")
def published(stack: Stack, before: str, tmp_path_factory) -> str:
    """A version that differs from the base, published under steady load."""
    folder = tmp_path_factory.mktemp("good")
    with SteadyLoad(stack) as load:
        eventually(lambda: load.answered[before] >= 3, 60)
        done = publish(stack, folder, "good")
        assert done.returncode == 0, done.stderr
        version = json.loads((folder / "metrics.json").read_text())["version"]
        eventually(lambda: load.answered[version] >= 3, 60)
    assert load.failed == []
    assert set(load.answered) == {before, version}
    return version


def test_swap_under_load_fails_no_request(published, api):
    assert api.get("/v1/policies").json()["champion"] == published
    assert ask(api, "Hello.")["model"] == published
    version = api.get(f"/v1/policies/{published}").json()
    (engine,) = version["metrics"]["engines"]
    assert engine["to_base"] > 0
    assert engine["to_trainer"] < 0.25
    assert ask(api, "Hello.", model="policy-v0")["model"] == "policy-v0"


def test_the_base_is_itself_beside_adapters(published, stack, api):
    """vLLM 0.32 on a CPU gave the base the last slot's adapter; so all slots are filled here."""
    path = stack.home / api.get(f"/v1/policies/{published}").json()["path"]
    with httpx.Client(base_url=stack.facts["engines"][0], timeout=60) as engine:
        for number in range(3):
            body = {"lora_name": f"filler-{number}", "lora_path": str(path)}
            engine.post("/v1/load_lora_adapter", json=body).raise_for_status()
        alone = _logprobs(engine, "policy-v0")
        with SteadyLoad(stack) as load:
            eventually(lambda: load.answered[published] >= 3, 60)
            beside = [_logprobs(engine, "policy-v0") for _ in range(10)]
        adapted = _logprobs(engine, published)
        for number in range(3):
            engine.post("/v1/unload_lora_adapter", json={"lora_name": f"filler-{number}"}).raise_for_status()
    assert load.failed == []
    apart = _apart(alone, adapted)
    assert apart > 0
    assert max(_apart(alone, row) for row in beside) < apart / 4


def _logprobs(engine: httpx.Client, model: str) -> list[float]:
    """A fixed text's log-probabilities, nats, of each token but the first."""
    text = list(range(100, 140))
    body = {"model": model, "prompt": text, "max_tokens": 1, "prompt_logprobs": 0}
    answer = engine.post("/v1/completions", json=body).raise_for_status().json()
    rows = answer["choices"][0]["prompt_logprobs"][1:]
    return [row[str(token)]["logprob"] for token, row in zip(text[1:], rows, strict=True)]


def _apart(one: list[float], other: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def test_rollback_by_command_is_quick_and_audited(published, before, stack, api):
    with SteadyLoad(stack) as load:
        eventually(lambda: load.answered[published] >= 3, 60)
        done = stack.command("rollback", "--reason", "it rhymes too much")
        moved = time.monotonic()
        assert done.returncode == 0, done.stdout + done.stderr
        assert ask(api, "Hello.")["model"] == before
        eventually(lambda: all(t > moved + 1 for t, _ in load.last.values()), 60)
        assert {version for _, version in load.last.values()} == {before}
    assert load.failed == []
    action = api.get("/v1/audit").json()["data"][0]
    assert action["what"] == "policy.rollback"
    assert (action["who"], action["why"]) == ("operator", "it rhymes too much")
    assert (action["before"], action["after"]) == (published, before)
    done = stack.command("promote", published, "--reason", "people liked it")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ask(api, "Hello.")["model"] == published


@pytest.mark.parametrize("kind", ["nan", "foreign", "unwrapped"])
def test_bad_adapter_is_refused_and_nothing_moves(published, stack, api, tmp_path, kind):
    done = publish(stack, tmp_path, kind)
    assert done.returncode != 0
    assert "cannot be served" in done.stderr.splitlines()[-1]
    assert api.get("/v1/policies").json()["champion"] == published
    assert ask(api, "Hello.")["model"] == published


def test_engine_killed_mid_stream_ends_with_an_error_event_and_heals(published, stack, api):
    body = {
        "model": "policy",
        "messages": [{"role": "user", "content": "Write a long story."}],
        "max_tokens": 600,
        "ignore_eos": True,
        "stream": True,
    }
    lines = []
    with api.stream("POST", "/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            lines.append(line)
            if len(lines) == 10:
                pid = stack.kill("engine")
    errors = [json.loads(line[6:]) for line in lines if line.startswith('data: {"error"')]
    assert errors[0]["error"]["code"] == "engine_lost"
    completion_id = json.loads(lines[0][6:])["id"]
    entry = eventually(
        lambda: (a := api.get(f"/v1/completions/{completion_id}")).status_code == 200 and a.json()
    )
    assert entry["finish_reason"] is None
    assert entry["reply"]
    refused = api.post("/v1/chat/completions", json={**body, "stream": False, "max_tokens": 4})
    assert refused.status_code in (200, 503)
    stack.restarted("engine", pid)
    stack.ready()
    assert ask(api, "Hello.")["model"] == published


def test_metrics_count_by_version(published, stack):
    text = httpx.get(stack.url + "/metrics").text
    assert f'policy="{published}"' in text
