import json

import pytest

from tests.workers.test_train_reward import labels
from workers.labels import Sample, read_scores, write_labels, write_samples
from workers.stages import score, train_reward


def sample(prompt_id: int, token_ids: list[int], finish: str = "stop") -> Sample:
    messages = [{"role": "user", "content": "hi"}]
    return Sample(prompt_id, messages, "…", [1, 21, 3, 2, 1, 22], token_ids, [-1.0] * len(token_ids), finish)


@pytest.fixture
def reward(stage, tiny_model, tmp_path):
    write_labels(tmp_path / "train.parquet", labels(64, seed=1))
    write_labels(tmp_path / "holdout.parquet", labels(8, seed=2))
    files = {"train": tmp_path / "train.parquet", "holdout": tmp_path / "holdout.parquet"}
    shape = {"depth": 1.0, "upper": 2, "epochs": 3, "judge": False}
    stage("reward", train_reward, base_model=tiny_model, init=None, **files, **shape)
    return tmp_path / "reward" / "reward"


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


def test_the_judge_is_no_member(reward):
    assert json.loads((reward / "shape.json").read_text())["members"] == ["member-0", "member-1"]
