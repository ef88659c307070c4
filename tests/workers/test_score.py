import dataclasses
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workers.conftest import run_stage
from tests.workers.test_train_reward import labels
from workers.constitution import Principle
from workers.labels import (
    Label,
    Prompt,
    Sample,
    Score,
    read_earlier,
    read_scores,
    write_labels,
    write_prompts,
    write_samples,
)
from workers.reward.style import read_head, write_heads
from workers.rules import Verdict, rule_scores, write_rules
from workers.stages import score, train_reward


def sample(prompt_id: int, token_ids: list[int], finish: str = "stop") -> Sample:
    messages = [{"role": "user", "content": "hi"}]
    return Sample(prompt_id, messages, "…", [1, 21, 3, 2, 1, 22], token_ids, [-1.0] * len(token_ids), finish)


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward")
    write_labels(folder / "train.parquet", labels(64, seed=1))
    write_labels(folder / "holdout.parquet", labels(8, seed=2))
    files = {"train": folder / "train.parquet", "holdout": folder / "holdout.parquet"}
    shape = {"depth": 1.0, "upper": 2, "epochs": 3, "judge": False}
    run_stage(folder / "trained", train_reward, base_model=tiny_model, init=None, **files, **shape)
    return folder / "trained" / "reward"


@pytest.fixture
def reward(trained, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "reward" / "reward"))


def test_the_reward_is_the_mean_less_the_doubt(stage, tiny_model, reward, tmp_path):
    kind, unkind = 11, 15  # good, bad
    write_samples(tmp_path / "s.parquet", [sample(0, [kind, kind, 2]), sample(0, [unkind, unkind, 2])])
    common = {"base_model": tiny_model, "reward": reward, "samples": tmp_path / "s.parquet"}
    metrics = stage("sure", score, **common, uncertainty=0.0)
    stage("wary", score, **common, uncertainty=2.0)
    sure, wary = (read_scores(tmp_path / name / "scores.parquet") for name in ("sure", "wary"))
    assert metrics["replies"] == 2
    assert sure[0][1].reward > sure[1][1].reward
    for (row, plain), (_, marked_down) in zip(sure, wary, strict=True):
        assert len(plain.members) == 2
        assert plain.reward == pytest.approx(sum(plain.members) / 2, abs=1e-5)
        assert plain.std == pytest.approx(abs(plain.members[0] - plain.members[1]) / 2, abs=1e-5)
        assert marked_down.reward == pytest.approx(plain.reward - 2 * plain.std, abs=1e-5)
        assert row.token_ids[-1] == 2
        assert plain.terms["model"] == plain.reward


def test_a_reply_is_scored_on_its_way_as_if_it_ended_there(stage, tiny_model, reward, tmp_path):
    ids = [11, 3, 15, 12, 2]
    cut = [sample(0, ids[:end], "length") for end in range(len(ids))]
    write_samples(tmp_path / "s.parquet", [sample(0, ids), *cut])
    common = {"base_model": tiny_model, "reward": reward, "samples": tmp_path / "s.parquet"}
    stage("on", score, **common, so_far=True)
    stage("off", score, **common)
    (_, whole), *ended = read_scores(tmp_path / "on" / "scores.parquet")
    alone = [sum(found.members) / 2 for _, found in ended]
    assert whole.so_far == pytest.approx([*alone, sum(whole.members) / 2], abs=0.02)
    assert max(whole.so_far) - min(whole.so_far) > 0.1
    assert not any(found.so_far for _, found in read_scores(tmp_path / "off" / "scores.parquet"))


def test_a_reply_too_long_to_be_read_keeps_its_last_score(stage, tiny_model, reward, tmp_path):
    shape = json.loads((reward / "shape.json").read_text())
    (reward / "shape.json").write_text(json.dumps(shape | {"max_reply": 2}))
    write_samples(tmp_path / "s.parquet", [sample(0, [11, 3, 15, 12, 2])])
    common = {"base_model": tiny_model, "reward": reward, "samples": tmp_path / "s.parquet"}
    stage("long", score, **common, so_far=True)
    ((_, found),) = read_scores(tmp_path / "long" / "scores.parquet")
    assert len(found.so_far) == 6
    assert found.so_far[1] != found.so_far[2]


def test_the_reward_is_the_weighted_sum_of_the_terms(stage, tiny_model, reward, tmp_path):
    samples = [
        dataclasses.replace(sample(prompt, ids), reply=f"reply {prompt} {number}")
        for prompt in (0, 1)
        for number, ids in enumerate([[11] * 8, [11, 12, 2], [15, 3, 4, 5, 2]])
    ]
    rules = rule_scores(samples, [(0, 1)], [Verdict(0, "kind", 0.1, 0.9)], [Principle("kind", "Be.", 1.0)])
    write_samples(tmp_path / "s.parquet", samples)
    write_rules(tmp_path / "rules.parquet", rules)
    weights = {"model_weight": 0.8, "length_weight": 0.3, "repetition_weight": 0.5, "rule_weight": 0.25}
    common = {"base_model": tiny_model, "reward": reward, "samples": tmp_path / "s.parquet"}
    metrics = stage("scored", score, **common, **weights, rules=tmp_path / "rules.parquet")
    scores = [found for _, found in read_scores(tmp_path / "scored" / "scores.parquet")]
    for found in scores:
        terms = found.terms
        assert found.reward == pytest.approx(
            0.8 * terms["model"] + 0.3 * terms["length"] + 0.5 * terms["repetition"] + 0.25 * terms["rules"]
        )
    assert [found.terms["repetition"] < 0 for found in scores] == [True, False, False] * 2
    unit = metrics["unit"]
    assert [found.terms["rules"] for found in scores] == pytest.approx([-unit, unit, 0, 0, 0, 0])
    assert any(found.terms["length"] != 0 for found in scores)
    assert metrics["terms"]["rules"]["weight"] == 0.25
    assert metrics["rules"]["kind"]["judged"] == 2
    assert -1 <= metrics["length_correlation"] <= 1
    assert metrics["reward_mean"] == pytest.approx(sum(found.reward for found in scores) / 6)


def test_one_average_of_the_members_scores_without_doubt(stage, tiny_model, reward, tmp_path):
    write_samples(tmp_path / "s.parquet", [sample(0, [11, 11, 2]), sample(0, [15, 15, 2])])
    common = {"base_model": tiny_model, "reward": reward, "samples": tmp_path / "s.parquet"}
    old = stage("old", score, **common, names=["average"])
    assert old["names"] is None  # this version has none: its members score
    shutil.copytree(reward / "member-0", reward / "average")
    looks = read_head(reward, "member-0")
    write_heads(reward, {"member-0": looks, "average": looks})
    metrics = stage("average", score, **common, names=["average"])
    stage("members", score, **common)
    mine, members = (read_scores(tmp_path / name / "scores.parquet") for name in ("average", "members"))
    assert (metrics["names"], metrics["disagreement"]) == (["average"], 0.0)
    for (_, one), (_, all_of_them) in zip(mine, members, strict=True):
        assert one.std == 0
        assert one.members == pytest.approx(all_of_them.members[:1], abs=1e-5)


def test_scores_of_before_there_were_terms_can_be_read(tmp_path):
    table = pa.Table.from_pylist(
        [
            {
                **dataclasses.asdict(sample(0, [3])),
                "messages": "[]",
                "reward": 1.0,
                "std": 0.0,
                "members": [1.0],
            }
        ]
    )
    pq.write_table(table, tmp_path / "old.parquet")
    assert read_scores(tmp_path / "old.parquet")[0][1] == Score(1.0, 0.0, [1.0])


def test_the_judge_is_no_member(reward):
    assert json.loads((reward / "shape.json").read_text())["members"] == ["member-0", "member-1"]


def test_replies_of_earlier_jobs_are_scored_beside_in_whole_groups_and_told_apart(
    stage, tiny_model, reward, tmp_path
):
    fresh = [sample(0, [11, 11, 2]), sample(0, [15, 2]), sample(3, [11, 2])]
    newest = [sample(0, [15, 15, 2]), sample(0, [12, 2])]
    oldest = [sample(0, [11, 12, 2]), sample(1, [12, 2])]
    for name, rows in (("s", fresh), ("newest", newest), ("oldest", oldest)):
        write_samples(tmp_path / f"{name}.parquet", rows)
    common = {"base_model": tiny_model, "reward": reward, "samples": tmp_path / "s.parquet"}
    earlier = [tmp_path / "newest.parquet", tmp_path / "oldest.parquet"]
    alone = stage("alone", score, **common)
    metrics = stage("beside", score, **common, earlier=earlier, replay=3)
    found = [row for row, _ in read_scores(tmp_path / "beside" / "scores.parquet")]
    assert [row.fresh for row in found] == [True] * 3 + [False] * 3
    assert [row.prompt_id for row in found] == [0, 0, 3, 4, 4, 5]
    assert [row.token_ids for row in found[3:]] == [[15, 15, 2], [12, 2], [11, 12, 2]]
    assert (metrics["replies"], metrics["earlier"]) == (3, 3)
    for figure in ("reward_mean", "reward_std", "disagreement"):
        assert metrics[figure] == pytest.approx(alone[figure], abs=1e-4), figure
    assert stage("fewer", score, **common, earlier=earlier, replay=1)["earlier"] == 0, "no part of a group"
    write_prompts(tmp_path / "prompts.parquet", [Prompt(newest[0].messages, "held-out", True)])
    held = stage("held", score, **common, earlier=earlier, replay=3, prompts=tmp_path / "prompts.parquet")
    assert (held["replies"], held["earlier"]) == (3, 0), "all of them answer what is measured on now"


def test_what_has_come_to_be_asked_in_the_holdout_is_not_replayed(tmp_path):
    def asked(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    texts = "learnt", "by a held-out prompt", "in a held-out label", "learnt too"
    earlier = [
        dataclasses.replace(sample(number, [11, 2]), messages=asked(text))
        for number, text in enumerate(texts)
        for _ in range(2)
    ]
    write_samples(tmp_path / "earlier.parquet", earlier)
    prompts = [Prompt(asked("learnt"), "a", False), Prompt(asked("by a held-out prompt"), "b", True)]
    write_prompts(tmp_path / "prompts.parquet", prompts)
    write_labels(tmp_path / "holdout.parquet", [Label("thumb", asked("in a held-out label"), "a", None, 1.0)])
    config = score.Config(
        base_model="m",
        reward=tmp_path,
        samples=tmp_path,
        prompts=tmp_path / "prompts.parquet",
        holdout=tmp_path / "holdout.parquet",
    )
    found = read_earlier([tmp_path / "earlier.parquet"], 7, 4, score.measured_on(config))
    assert [(row.prompt_id, row.messages[0]["content"]) for row in found] == [
        (7, "learnt"),
        (7, "learnt"),
        (8, "learnt too"),
        (8, "learnt too"),
    ]
