import json

import pytest

from tests.workers.conftest import run_stage
from tests.workers.test_train_reward import labels
from workers.labels import Label, Prompt, write_labels, write_prompts
from workers.stage import StageError
from workers.stages import evaluate, train_reward

KIND, UNKIND = "good nice lovely <|im_end|>", "bad dull grim <|im_end|>"
# What the gate makes of figures is tested fast, in test_gate and test_measuring.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reward(tiny_model, tmp_path_factory):
    """Two members and a judge who like kind words; trained once, since no test changes them."""
    folder = tmp_path_factory.mktemp("reward")
    files = {"train": folder / "train.parquet", "holdout": folder / "holdout.parquet"}
    write_labels(folder / "train.parquet", labels(96, seed=1))
    write_labels(folder / "holdout.parquet", labels(8, seed=2))
    shape = {"depth": 1.0, "upper": 2, "members": 2}
    run_stage(folder / "trained", train_reward, base_model=tiny_model, init=None, **files, **shape)
    return folder / "trained" / "reward"


@pytest.fixture
def compare(stage, tiny_model, reward, sampling_engine, tmp_path):
    prompts = [
        Prompt([{"role": "user", "content": f"cats {number}"}], str(number), True) for number in range(8)
    ]
    write_prompts(tmp_path / "prompts.parquet", prompts)

    def run(name, mine, theirs, **changes):
        sampling_engine.engine.replies |= {"c-r1": mine, "policy-v0": theirs}
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


@pytest.fixture
def unmoved(sampling_engine):
    """The candidate finds all texts as likely as the base does, but for a trace by which it is known to be
    served: the log-probability of its own replies."""
    sampling_engine.engine.logprob |= {"c-r1": -1.0001, "policy-v0": -1.0}


def test_the_judge_lets_a_better_candidate_pass_and_keeps_a_worse_or_equal_one_out(
    compare, unmoved, tmp_path
):
    varied = ["good cats <|im_end|>", "lovely rain <|im_end|>"]
    worse = ["bad dogs <|im_end|>", "rude dogs <|im_end|>"]
    better = compare("better", varied, worse)
    assert better["accepted"], better["reasons"]
    assert better["win_rate"] > 0.9
    assert better["decided_by"] == "length_matched"
    assert better["length_matched_win_rate"] == better["win_rate"]
    assert "never measured" in better["reasons"][-1]
    turned = compare("worse", worse, varied)
    assert turned["win_rate"] < 0.1
    assert not turned["accepted"]
    assert any("not surely more" in reason for reason in turned["reasons"])
    equal = compare("equal", varied, varied)
    assert equal["win_rate"] == pytest.approx(0.5)
    assert not equal["accepted"]
    assert len(json.loads((tmp_path / "better" / "replies.json").read_text())) == 32


def test_a_broken_record_is_kept_out(compare, unmoved):
    """The engine gives the same replies to all prompts: so does the base, and nothing has got worse."""
    drawling = compare(
        "drawling", ["good nice " * 8 + "<|im_end|>"], ["bad dogs cats rain rude grim <|im_end|>"]
    )
    assert drawling["identical"] == {"candidate": 1.0, "champion": 1.0}
    assert drawling["trigrams"]["candidate"] > 0.8
    assert any("said before, three words in a row" in reason for reason in drawling["reasons"])


def test_kl_is_the_mean_log_ratio_of_the_candidates_own_replies(compare, sampling_engine):
    sampling_engine.engine.logprob["policy-v0"] = -1.75
    metrics = compare("kl", [KIND], [UNKIND])
    assert metrics["kl_base"] == pytest.approx(0.75)
    assert metrics["kl_champion"] == pytest.approx(0.75)
    assert any("away from the champion, 0.30 are allowed" in reason for reason in metrics["reasons"])


def test_plain_text_may_not_become_less_likely_than_to_the_base(compare, unmoved, sampling_engine):
    sampling_engine.engine.logprob["c-r1"] = -1.03
    metrics = compare("nll", [KIND], [UNKIND])
    assert metrics["reference_nll"] == {"candidate": pytest.approx(1.03), "base": pytest.approx(1.0)}
    assert metrics["reference_nll_rise"] == pytest.approx(0.03)
    assert [reason for reason in metrics["reasons"] if "plain text" in reason]
    allowed = compare("allowed", [KIND], [UNKIND], max_nll_rise=0.04)
    assert allowed["accepted"], allowed["reasons"]


def test_probes_are_asked_and_what_was_lost_is_told(compare, unmoved, sampling_engine, tmp_path):
    one_word, many = (
        "good <|im_end|>",
        "good nice lovely cats rain dogs please thanks about tell me <|im_end|>",
    )
    metrics = compare("probes", [many], [one_word], probe_k=8)
    assert metrics["probes"]["format"]["replies"] == 176
    assert metrics["probes"]["format"]["z"] < -2.33
    assert any("format probes passed fell from 23%" in reason for reason in metrics["reasons"])
    assert len(json.loads((tmp_path / "probes" / "probes.json").read_text())) == 46
    asked = [body for body in sampling_engine.engine.requests if body["n"] == 8]
    assert {body["max_tokens"] for body in asked} == {32}
    assert len(asked) == 92


def test_length_decides_where_peoples_labels_prove_that_they_want_it(compare, unmoved, tmp_path):
    """The candidate is half as long; nothing but length tells its replies from the champion's."""
    shorter, longer = ["good cats <|im_end|>"], ["bad cats dogs rain <|im_end|>"]
    said = [
        Label("comparison", [], "cats dogs rain", "cats", 0.0, conversation=str(number))
        for number in range(12)
    ]
    write_labels(tmp_path / "said.parquet", said)
    metrics = compare("short", shorter, longer, labels=[tmp_path / "said.parquet"])
    assert metrics["decided_by"] == "raw"
    assert metrics["people_prefer_longer"]["longer"] == 0.0
    assert any("people like the shorter one better in 100%" in reason for reason in metrics["reasons"])
    assert compare("unsaid", shorter, longer)["decided_by"] == "length_matched"


def test_a_judge_no_better_than_chance_is_not_believed(compare, unmoved):
    varied, worse = ["good cats <|im_end|>"], ["bad dogs <|im_end|>"]
    blind = {"pair_accuracy": 0.4, "pairs": 20, "thumb_auroc": 0.5, "thumbs": 20}
    metrics = compare("blind", varied, worse, judge=blind)
    assert not metrics["accepted"]
    assert metrics["judge_quality"]["accuracy"] == pytest.approx(0.45)
    assert any("right in 45% of 40 held-out labels" in reason for reason in metrics["reasons"])


def test_a_rejected_candidate_has_its_plots_too(compare, tmp_path):
    lineage = [{"version": "policy-v0", "kl": 0.0, "members": None, "judge": None}]
    (tmp_path / "curve.json").write_text(json.dumps([{"step": 1, "loss": 0.7}]))
    metrics = compare("drawn", [UNKIND], [KIND], lineage=lineage, curves=[tmp_path / "curve.json"])
    folder = tmp_path / "drawn" / "plots"
    assert {path.name for path in folder.iterdir()} == {
        "reward.png", "reward.json", "training.png", "training.json",
    }  # fmt: skip
    points = json.loads((folder / "reward.json").read_text())
    assert [point["name"] for point in points] == ["policy-v0", "rejected"]
    assert points[1]["judge"] == metrics["rewards"]["judge"]["gain"]


def test_progress_counts_prompts_and_probes_of_both_sides(compare, tmp_path):
    compare("told", [KIND], [UNKIND])
    progress = json.loads((tmp_path / "told" / "progress.json").read_text())
    assert (progress["done"], progress["total"]) == (108, 108)


def test_all_that_is_asked_at_once_leaves_places_to_people_who_chat(compare, sampling_engine):
    sampling_engine.engine.pause = 0.01
    compare("told", [KIND], [UNKIND], concurrency=12)
    assert sampling_engine.engine.most == 12
    compare("small", [KIND], [UNKIND], concurrency=1)
    assert len(sampling_engine.engine.requests) == 2 * 108


def test_what_the_base_did_is_handed_down_and_every_version_measured_by_it(
    compare, unmoved, sampling_engine, tmp_path
):
    """The second version cuts and repeats no more than the first did, and far more than the base."""
    sampling_engine.engine.logprob["p-1"] = -1.0001
    first = compare("first", [KIND], [UNKIND])
    assert first["against_base"] is None
    handed_down = first["base"]
    assert handed_down["words"] == pytest.approx(3)
    assert (handed_down["cut"], len(handed_down["probes"])) == (0.0, 46)
    sampling_engine.engine.replies["p-1"] = ["bad dogs cats rain"]
    second = {"champion": {"name": "p-1", "adapter": tmp_path}}
    alone = compare("alone", ["good lovely cats rain"], [UNKIND], **second)
    assert alone["base"] is None
    assert not any("the base:" in reason for reason in alone["reasons"])
    measured = compare("measured", ["good lovely cats rain"], [UNKIND], **second, base=handed_down)
    assert measured["base"] == handed_down
    assert measured["against_base"]["cut"] == {"candidate": 1.0, "other": 0.0}
    assert any("cut at the most tokens allowed (the base: 0%)" in reason for reason in measured["reasons"])
    longer = compare("longer", ["good lovely"], [UNKIND], **second, base=handed_down, max_tokens=8)
    assert longer["base"]["probes"] == handed_down["probes"]
    assert (longer["base"]["max_tokens"], longer["base"]["words"]) == (8, pytest.approx(4))
    assert longer["against_base"]["words"]["other"] == pytest.approx(4), "of the champion, at this length"
    asked = sum(probe["replies"] for probe in longer["against_base"]["probes"].values())
    assert asked == sum(count for _, count in handed_down["probes"].values())


def test_no_held_out_prompt_is_an_error(compare, tmp_path):
    write_prompts(tmp_path / "none.parquet", [Prompt([{"role": "user", "content": "hi"}], "1", False)])
    with pytest.raises(StageError, match="no held-out prompt"):
        compare("none", [KIND], [UNKIND], prompts=tmp_path / "none.parquet")
