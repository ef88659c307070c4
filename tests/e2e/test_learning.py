import json
import math

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.e2e.conftest import UPDATE_EVERY
from tests.e2e.stack import Stack, ask, ended, job_until, publish_adapter
from tests.servers import eventually
from workers.device import precision

THINGS = (
    "bread bridges bees books castles cats chess clocks coffee dogs football gardens history jokes maps math "
    "moon music paint physics pizza planets poems rain rivers robots ships sleep snow soup stars tea trains"
).split()

SHORT = 9  # words; an answer of at most 6 tokens always is


def test_too_little_feedback_says_how_much_there_is_and_is_needed(api):
    job = api.post("/v1/jobs", json={"kind": "cycle"}).json()
    job = job_until(api, job["id"], ended, 60)
    assert job["state"] == "skipped"
    assert "at least" in job["reason"]


def test_policy_job_without_a_reward_model_is_skipped(api):
    job = api.post("/v1/jobs", json={"kind": "policy"}).json()
    job = job_until(api, job["id"], ended, 60)
    assert job["state"] == "skipped"
    assert "reward" in job["reason"]


@pytest.fixture(scope="module")
def labels(stack: Stack) -> int:
    """People who like short answers, and say so by a thumb on each; of the stories too some are short."""
    given = 0
    with stack.client() as client:
        for thing in THINGS:
            short = ask(client, f"What are {thing}? Answer in one word.", max_tokens=6)
            long = ask(client, f"Tell me a story about {thing}.", max_tokens=24)
            for reply in (short, long):
                words = len(reply["choices"][0]["message"]["content"].split())
                rating = "up" if words < SHORT else "down"
                body = {"completion_id": reply["id"], "rating": rating, "user": f"rater {given % 7}"}
                client.post("/v1/feedback", json=body).raise_for_status()
                given += 1
    return given


def test_update_is_due_and_survives_the_death_of_its_worker(labels, stack, api):
    assert labels >= UPDATE_EVERY
    assert stack.command("learning", "resume", "--reason", "begin").returncode == 0
    beats = eventually(
        lambda: [j for j in api.get("/v1/jobs").json()["data"] if j["by"] == "beat"], 30, every=0.5
    )
    job = job_until(api, beats[0]["id"], lambda j: j["stage"] == "train_reward" and j["message"], 60)
    assert stack.command("learning", "pause", "--reason", "one cycle is enough").returncode == 0
    pid = stack.kill("worker-train")
    stack.restarted("worker-train", pid)
    job = job_until(api, job["id"], lambda j: j["attempts"] == 2, 60)
    job = job_until(api, job["id"], ended, 600)
    assert job["state"] == "done", job["reason"]
    seconds = {stage["name"]: stage["seconds"] for stage in job["stages"]}
    assert seconds["snapshot"] == 0, "it was done already, and not run again"
    assert job["reward"] == "reward-v1"
    assert (
        list(seconds)[-2:] == ["evaluate", "publish"] if job["policy"] else "gate rejected" in job["reason"]
    )
    assert job["progress"] == 1.0


def test_reward_version_tells_how_good_it_is(labels, api):
    (version,) = api.get("/v1/rewards").json()["data"]
    holdout = version["metrics"]["holdout"]
    assert holdout["thumbs"] > 0
    assert 0.5 < holdout["thumb_auroc"] <= 1.0
    assert 0.0 <= holdout["ece"] <= 1.0


def test_cancel_works_within_seconds(labels, stack, api):
    job = api.post("/v1/jobs", json={"kind": "policy", "method": "rloo"}).json()
    job_until(api, job["id"], lambda j: (j["stage"] or "").startswith("sample"), 60)
    done = stack.command("jobs", "cancel", job["id"], "--reason", "seen enough")
    assert done.returncode == 0, done.stdout + done.stderr
    assert job_until(api, job["id"], ended, 10)["state"] == "cancelled"


def test_rloo_runs_to_its_end(labels, stack, api):
    job = api.post("/v1/jobs", json={"kind": "policy", "method": "rloo"}).json()
    job = job_until(api, job["id"], ended, 600)
    assert job["state"] == "done", job["reason"]
    names = [stage["name"] for stage in job["stages"]]
    assert names[:5] == ["snapshot", "sample-1", "score-1", "optimise-1", "evaluate"]
    assert job["policy"] or "gate rejected" in job["reason"]
    loaded = [name for engine in api.get("/v1/engines").json()["data"] for name in engine["loaded"]]
    assert not [name for name in loaded if name.startswith("job-")]


def test_a_trained_adapter_is_published_served_and_plain_peft(labels, stack, api, tmp_path):
    """What `optimise` made of the real model, whatever the gate thought of it."""
    optimised = max((stack.home / "jobs").glob("*/*-optimise-1/DONE"), key=lambda p: p.stat().st_mtime).parent
    folder = tmp_path / "publish"
    folder.mkdir()
    done = publish_adapter(stack, folder, optimised / "adapter", optimised / "probe.json")
    assert done.returncode == 0, done.stderr
    published = json.loads((folder / "metrics.json").read_text())
    version = published["version"]
    assert api.get("/v1/policies").json()["champion"] == version
    assert ask(api, "Hello.")["model"] == version
    (engine,) = published["engines"]
    assert engine["to_base"] > 0

    base = AutoModelForCausalLM.from_pretrained(stack.facts["model"], dtype=precision())
    model = PeftModel.from_pretrained(base, str(stack.home / "artifacts" / "policies" / version))
    ids = torch.tensor([list(range(100, 140))])
    with torch.no_grad():
        adapted = model(ids).logits.float().log_softmax(-1)
        with model.disable_adapter():
            plain = model(ids).logits.float().log_softmax(-1)
    apart = float((adapted - plain).abs().mean())
    assert math.isfinite(apart)
    assert apart > 0
