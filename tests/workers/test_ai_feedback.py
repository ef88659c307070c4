"""From sampled replies to labels: what a judge says counts where it says the same twice."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_judge import FakeJudge, likes
from tests.servers import free_port, serving
from workers.labels import Prompt, Sample, read_labels, write_prompts, write_samples
from workers.rules import read_rules
from workers.stage import StageError
from workers.stages import ai_feedback

CONSTITUTION = """
[[principle]]
id = "kind"
principle = "Be kind."
weight = 3
[[principle]]
id = "grim"
principle = "Be grim."
"""
REPLIES = ["good good cats", "good dogs", "dull rain grim", "bad"]


def messages(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"tell me about cats {number}"}]


def sample(prompt: int, reply: str) -> Sample:
    finish = "length" if reply == "bad" else "stop"
    return Sample(prompt, messages(prompt), reply, [1, 5], [3, 2], [-1.0, -1.0], finish)


@pytest.fixture
def fake() -> FakeJudge:
    return FakeJudge()


@pytest.fixture
def config(fake: FakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    prompts = [Prompt(messages(n), f"conv-{n}", holdout=False) for n in range(3)]
    write_prompts(tmp_path / "prompts.parquet", [*prompts, Prompt(messages(9), "conv-9", holdout=True)])
    write_samples(tmp_path / "samples.parquet", [sample(n, reply) for n in range(3) for reply in REPLIES])
    (tmp_path / "constitution.toml").write_text(CONSTITUTION)
    with serving(fake.app) as url:
        monkeypatch.setenv("THUMBWHEEL_AI_JUDGE_URL", f"{url}/v1")
        yield {
            "samples": tmp_path / "samples.parquet",
            "prompts": tmp_path / "prompts.parquet",
            "policy": "policy-v3",
            "constitution": tmp_path / "constitution.toml",
            "model": "some-judge",
            "pairs": 6,
            "pause": 0.0,
        }


def by_principle(asked: str, first: str, second: str) -> float:
    return likes("grim" if "Be grim." in asked else "good")(asked, first, second)


def test_consistent_verdicts_become_labels(stage, config, fake, tmp_path):
    fake.chance = by_principle
    metrics = stage("ai", ai_feedback, **config, weight=0.4)
    labels = read_labels(tmp_path / "ai" / "labels.parquet")
    assert metrics["skipped"] is None
    assert (metrics["pairs"], metrics["questions"], metrics["failed"]) == (6, 24, 0)
    assert metrics["labels"] == len(labels) > 6
    for label in labels:
        word = {"kind": "good", "grim": "grim"}[label.principle]
        assert label.b is not None
        assert (label.target > 0.5) == (label.a.count(word) > label.b.count(word))
        assert label.kind == "comparison"
        assert (label.source, label.rater, label.policy) == ("ai", f"ai:{label.principle}", "policy-v3")
        assert label.b_policy == "policy-v3"
        assert label.weight == pytest.approx({"kind": 0.3, "grim": 0.1}[label.principle])
        assert label.conversation == "conv-" + label.messages[0]["content"].split()[-1]
        assert (label.a_finish, label.b_finish) == tuple(
            "length" if reply == "bad" else "stop" for reply in (label.a, label.b)
        )
    kind = [rule for rule in read_rules(tmp_path / "ai" / "rules.parquet") if rule.principle == "kind"]
    assert all(rule.share == 1.0 for rule in kind if rule.reply == "good good cats")
    assert all(rule.share == 0.0 for rule in kind if rule.reply == "bad")
    # Neither is grim, or both are as good: p is ½ in both orders, and says nothing.
    assert 0 < metrics["rules"]["grim"]["consistent"] < 1
    assert metrics["rules"]["kind"]["weight"] == 0.75
    assert metrics["rules"]["kind"]["judged"] == len(kind)


@pytest.mark.parametrize("gives_logprobs", [True, False])
def test_a_judge_fond_of_a_position_labels_nothing(stage, config, fake, tmp_path, gives_logprobs):
    fake.chance, fake.gives_logprobs = lambda *_: 0.8, gives_logprobs
    metrics = stage("ai", ai_feedback, **config)
    assert (metrics["labels"], metrics["consistent"], metrics["first"]) == (0, 0.0, 1.0)
    assert metrics["rules"]["kind"]["first"] == 1.0
    assert metrics["skipped"] is None
    assert read_labels(tmp_path / "ai" / "labels.parquet") == []
    assert read_rules(tmp_path / "ai" / "rules.parquet") == []


def test_nonsense_labels_nothing_and_is_counted(stage, config, fake):
    fake.text, fake.gives_logprobs = "I think both", False
    metrics = stage("ai", ai_feedback, **config)
    assert (metrics["labels"], metrics["unclear"], metrics["failed"]) == (0, 24, 0)
    assert "none of the judge's answers was A or B" in metrics["skipped"]


def test_without_a_judge_the_job_goes_on_without_its_labels(stage, config, fake, tmp_path, monkeypatch):
    fake.status = 401
    refused = stage("refused", ai_feedback, **config)
    assert re.search("of no use: .* answered 401", refused["skipped"])
    monkeypatch.setenv("THUMBWHEEL_AI_JUDGE_URL", f"http://127.0.0.1:{free_port()}/v1")
    unreachable = stage("unreachable", ai_feedback, **config)
    assert re.search("of no use: .* failed 4 times", unreachable["skipped"])
    assert unreachable["failed"] == 24
    assert read_labels(tmp_path / "unreachable" / "labels.parquet") == []
    monkeypatch.delenv("THUMBWHEEL_AI_JUDGE_URL")
    assert "of no use" in stage("unset", ai_feedback, **config)["skipped"]


def test_a_judge_that_fails_now_and_then_costs_only_those_verdicts(stage, config, fake):
    fake.fails = 6
    metrics = stage("ai", ai_feedback, **config, concurrency=1)
    assert metrics["failed"] == 1
    assert metrics["skipped"] is None
    assert metrics["labels"] > 6


def test_replies_that_are_all_the_same_leave_nothing_to_compare(stage, config, fake):
    write_samples(config["samples"], [sample(0, "good"), sample(0, "good")])
    metrics = stage("ai", ai_feedback, **config)
    assert "nothing to compare" in metrics["skipped"]
    assert fake.requests == []


def test_the_holdout_is_never_judged(stage, config, fake):
    write_samples(config["samples"], [sample(9, "good"), sample(9, "bad")])
    with pytest.raises(StageError, match="outside of the training split"):
        stage("ai", ai_feedback, **config)
    assert fake.requests == []


def test_a_constitution_that_is_wrong_is_said(stage, config):
    config["constitution"].write_text(CONSTITUTION + "weight = -1\n")
    with pytest.raises(StageError, match=r"constitution\.toml: principle 2 \(grim\): weight"):
        stage("ai", ai_feedback, **config)


def test_key_and_address_come_from_the_environment_and_are_written_nowhere(
    stage, config, fake, tmp_path, monkeypatch
):
    monkeypatch.setenv("THUMBWHEEL_AI_JUDGE_KEY", "sesame-open")
    stage("ai", ai_feedback, **config)
    assert set(fake.keys) == {"Bearer sesame-open"}
    monkeypatch.delenv("THUMBWHEEL_AI_JUDGE_KEY")
    url = os.environ["THUMBWHEEL_AI_JUDGE_URL"].replace("http://", "http://user:sesame@")
    monkeypatch.setenv("THUMBWHEEL_AI_JUDGE_URL", url)
    fake.status = 401
    assert "answered 401" in stage("refused", ai_feedback, **config)["skipped"]
    written = b"".join(
        path.read_bytes() for name in ("ai", "refused") for path in (tmp_path / name).iterdir()
    )
    assert b"sesame" not in written
