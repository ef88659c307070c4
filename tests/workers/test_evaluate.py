import json

import pytest

from tests.workers.test_train_reward import labels
from workers.labels import Prompt, Sample, write_labels, write_prompts
from workers.stage import StageError
from workers.stages import evaluate, train_reward

KIND, UNKIND = "good nice lovely <|im_end|>", "bad dull grim <|im_end|>"


@pytest.fixture
def reward(stage, tiny_model, tmp_path):
    write_labels(tmp_path / "train.parquet", labels(96, seed=1))
    write_labels(tmp_path / "holdout.parquet", labels(8, seed=2))
    files = {"train": tmp_path / "train.parquet", "holdout": tmp_path / "holdout.parquet"}
    shape = {"depth": 1.0, "upper": 2, "members": 1}
    stage("reward", train_reward, base_model=tiny_model, init=None, **files, **shape)
    return tmp_path / "reward" / "reward"


@pytest.fixture
def compare(stage, tiny_model, reward, sampling_engine, tmp_path):
    prompts = [
        Prompt([{"role": "user", "content": f"cats {number}"}], str(number), True) for number in range(6)
    ]
    write_prompts(tmp_path / "prompts.parquet", prompts)

    def run(name, candidate, champion, **changes):
        sampling_engine.engine.replies |= {"c-r1": candidate, "policy-v0": champion}
        config = {
            "engines": [sampling_engine.url],
            "base_model": tiny_model,
            "candidate": {"name": "c-r1", "adapter": tmp_path},
            "champion": {"name": "policy-v0", "adapter": None},
            "prompts": tmp_path / "prompts.parquet",
            "reward": reward,
            "k": 2,
            "max_tokens": 9,
        }
        return stage(name, evaluate, **(config | changes))

    return run


def test_the_judge_lets_a_better_candidate_pass_and_keeps_a_worse_or_equal_one_out(compare, tmp_path):
    varied = ["good cats <|im_end|>", "lovely rain <|im_end|>"]
    worse = [UNKIND, "rude dogs <|im_end|>"]
    better = compare("better", varied, worse)
    # The engine gives every prompt the same replies, which the gate holds against a candidate.
    assert better["win_rate"] > 0.9
    assert better["repeated"] == 1.0
    assert "the same for different prompts" in "; ".join(better["reasons"])
    turned = compare("worse", worse, varied)
    assert turned["win_rate"] < 0.1
    assert not turned["accepted"]
    assert any("not surely more" in reason for reason in turned["reasons"])
    assert compare("equal", varied, varied)["win_rate"] == pytest.approx(0.5)
    assert len(json.loads((tmp_path / "better" / "replies.json").read_text())) == 24


def test_kl_is_the_mean_log_ratio_of_the_candidates_own_replies(compare, sampling_engine):
    sampling_engine.engine.logprob["policy-v0"] = -1.75
    metrics = compare("kl", [KIND], [UNKIND])
    assert metrics["kl_base"] == pytest.approx(0.75)
    assert metrics["kl_champion"] == pytest.approx(0.75)
    far = compare("far", [KIND], [UNKIND], max_kl=0.5)
    assert any("nats a token" in reason for reason in far["reasons"])


def test_no_held_out_prompt_is_an_error(compare, tmp_path):
    write_prompts(tmp_path / "none.parquet", [Prompt([{"role": "user", "content": "hi"}], "1", False)])
    with pytest.raises(StageError, match="no held-out prompt"):
        compare("none", [KIND], [UNKIND], prompts=tmp_path / "none.parquet")


def test_repeated_counts_replies_that_other_prompts_got_too():
    def reply(prompt_id: int, text: str) -> Sample:
        return Sample(prompt_id, [], text, [1], [2], [0.0], "stop")

    rows = [reply(0, "yes"), reply(0, "yes"), reply(1, "yes "), reply(1, "cats sleep")]
    assert evaluate.repeated(rows) == 0.75
    assert evaluate.repeated([reply(0, "yes"), reply(0, "yes")]) == 0.0
