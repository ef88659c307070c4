"""A file of preferences, imported by the command through the real gateway, ends in a trained reward model."""

import json
import random
import threading
from contextlib import closing

import pytest
from typer.testing import CliRunner

from deploy.cli.app import app
from feedback.reader import START
from serving.jobs import Kind, State
from tests.conftest import Gateway
from workers.datasets import is_held_out
from workers.labels import read_labels, read_prompts
from workers.recipes import cook
from workers.runner import Run
from workers.settings import WorkerSettings
from workers.stages import snapshot, train_reward

KIND, UNKIND = "good nice lovely thanks".split(), "bad dull rude grim".split()
TOPICS = "cats dogs rain you".split()


def lines(count: int, seed: int) -> list[dict]:
    """A taste for kind words, in each of TRL's types and both of its forms."""
    dice = random.Random(seed)
    found = []
    for number in range(count):
        prompt = " ".join(["tell me about", *dice.choices(TOPICS, k=4)])
        kind, unkind = (" ".join(dice.choices(words, k=3)) for words in (KIND, UNKIND))
        ask = [{"role": "user", "content": prompt}]
        kind_turn, unkind_turn = ([{"role": "assistant", "content": text}] for text in (kind, unkind))
        found.append(
            (
                {"prompt": prompt, "chosen": kind, "rejected": unkind},
                {"chosen": ask + kind_turn, "rejected": ask + unkind_turn},
                {"prompt": prompt, "completion": unkind, "label": False},
                {"prompt": ask, "completion": kind_turn, "label": True},
            )[number % 4]
        )
    return found


@pytest.fixture
def imported(gateway: Gateway, valkey, tmp_path, monkeypatch):
    """What came of importing a file, with some lines that are bad and some that are prompts only."""
    file = tmp_path / "taste.jsonl"
    prompts = [{"prompt": f"hi {topic}"} for topic in TOPICS]
    bad = ["{", json.dumps({"prompt": "hi", "chosen": "nice"})]
    file.write_text("\n".join([*map(json.dumps, lines(96, seed=1)), *bad, *map(json.dumps, prompts)]))
    words = ["--url", gateway.url, "--key", gateway.operator_key, "import", str(file), "--json"]
    answer = json.loads(CliRunner().invoke(app, words).stdout)
    assert [error["line"] for error in answer["errors"]] == [97, 98]
    monkeypatch.setenv("THUMBWHEEL_REDIS_URL", valkey.url)
    return answer


@pytest.fixture
def taken(imported, tmp_path, stage):
    """The snapshot of it."""
    metrics = stage("snapshot", snapshot, cursor=START, replay=0, holdout=0.2, prompts=200, seed=1)
    return metrics, imported, tmp_path / "snapshot"


@pytest.mark.slow
def test_a_reward_job_trains_on_an_imported_file(imported, gateway, tiny_model, monkeypatch):
    monkeypatch.setenv("THUMBWHEEL_HOME", str(gateway.home))
    monkeypatch.setenv("THUMBWHEEL_MODEL", str(tiny_model))
    job = gateway.jobs.create(Kind.reward, by="test")
    lease = gateway.jobs.acquire(job.id)
    assert lease is not None
    with closing(Run(job, lease, gateway.jobs, gateway.home, threading.Event())) as run:
        outcome = cook(run, WorkerSettings(), gateway.registry)
    assert outcome.state is State.done, outcome.reason
    with gateway.client() as client:
        measured = client.get(f"/v1/jobs/{job.id}/stages/train_reward").json()["metrics"]
    given = imported["imported"]["preference"] + imported["imported"]["unpaired"]
    assert given / 2 < measured["train_labels"] < given
    assert gateway.jobs.get(job.id).reward == "reward-v1", outcome.reason
    assert list(gateway.registry.rewards()) == ["reward-v1"]


@pytest.mark.slow
def test_a_reward_model_learns_from_an_imported_file(taken, stage, tiny_model):
    metrics, answer, folder = taken
    train, holdout = (read_labels(folder / f"{side}.parquet") for side in ("train", "holdout"))
    given = answer["imported"]["preference"] + answer["imported"]["unpaired"]
    assert len(train) + len(holdout) == metrics["labels_given"] == given > 80
    assert {label.kind for label in train} == {"comparison", "thumb"}
    assert {label.source for label in train + holdout} == {"import"}
    assert all(is_held_out(label.conversation, 0.2) for label in holdout)
    assert metrics["raters"] == given
    trained = stage(
        "train_reward",
        train_reward,
        base_model=tiny_model,
        init=None,
        train=folder / "train.parquet",
        holdout=folder / "holdout.parquet",
        depth=1.0,
        upper=2,
        epochs=3,
    )
    assert trained["train_labels"] == len(train)
    assert trained["accepted"]
    assert trained["holdout"]["pair_accuracy"] > 0.9


def test_imported_prompts_are_there_for_the_policy_update(taken):
    metrics, _, folder = taken
    sides = [read_prompts(folder / "prompts.parquet", held_out) for held_out in (False, True)]
    asked = {prompt.messages[0]["content"] for side in sides for prompt in side}
    assert {f"hi {topic}" for topic in TOPICS} <= asked, "those that came without a reply"
    rated = {line["prompt"] for line in lines(96, seed=1) if isinstance(line.get("prompt"), str)}
    assert rated <= asked, "and those that came with one"
    assert (metrics["prompts"], metrics["holdout_prompts"]) == (len(sides[0]), len(sides[1]))
    for held_out, side in enumerate(sides):
        assert side
        assert all(is_held_out(prompt.conversation, 0.2) == bool(held_out) for prompt in side)
