import random

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from workers.labels import Label, write_labels
from workers.policy_model import trainable_hash
from workers.reward_model import RewardModel, Text, Texts, collate, forward
from workers.scoring import read_shape
from workers.stage import StageError
from workers.stages import train_reward
from workers.stages.train_reward import for_judge, label_batch, label_losses, measure

KIND, UNKIND = "good nice lovely thanks".split(), "bad dull rude grim".split()


def labels(count: int, seed: int, right: float = 1.0, start: int = 0) -> list[Label]:
    """Raters who like kind words, and say so with probability `right`; pairs and thumbs in turn."""
    dice = random.Random(seed)
    rows = []
    for number in range(start, start + count):
        messages = [{"role": "user", "content": "tell me about cats"}]
        kind, unkind = (" ".join(dice.choices(words, k=3)) for words in (KIND, UNKIND))
        honest = dice.random() < right
        if number % 2:
            a, b, target = (kind, unkind, 1.0) if dice.random() < 0.5 else (unkind, kind, 0.0)
            rows.append(Label("comparison", messages, a, b, target if honest else 1 - target))
        else:
            up = dice.random() < 0.5
            rows.append(Label("thumb", messages, kind if up else unkind, None, float(up == honest)))
    return [Label(**{**vars(row), "conversation": f"{seed}-{n}", "time": n}) for n, row in enumerate(rows)]


@pytest.fixture
def train(stage, tiny_model, tmp_path):
    def run(name, given, holdout, init=None, **changes):
        write_labels(tmp_path / "train.parquet", given)
        write_labels(tmp_path / "holdout.parquet", holdout)
        config = {
            "base_model": tiny_model,
            "init": init,
            "train": tmp_path / "train.parquet",
            "holdout": tmp_path / "holdout.parquet",
            "depth": 1.0,
            "upper": 2,
            "epochs": 3,
        }
        return stage(name, train_reward, **(config | changes)), tmp_path / name / "reward"

    return run


def test_it_learns_a_planted_taste_from_both_kinds_of_labels_and_saves_what_peft_can_load(train, tiny_model):
    metrics, folder = train("r", labels(64, seed=1), labels(24, seed=2))
    assert metrics["accepted"]
    assert metrics["holdout"]["pair_accuracy"] > 0.9
    assert metrics["holdout"]["thumb_auroc"] > 0.9
    assert metrics["holdout"]["pairs"] + metrics["holdout"]["thumbs"] == 24
    assert metrics["judge"]["pair_accuracy"] > 0.8
    assert read_shape(folder).members == ["member-0", "member-1"]
    for name in ("member-0", "member-1", "judge"):
        base = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
        loaded = PeftModel.from_pretrained(base, str(folder / name))
        assert loaded.peft_config["default"].task_type == "SEQ_CLS"
        assert any("score" in key and "lora" not in key for key in loaded.state_dict())


def test_what_is_saved_scores_as_what_was_trained(train, tiny_model):
    _, folder = train("r", labels(64, seed=1), labels(8, seed=2))
    texts = Texts(tiny_model, 64, 64)
    pair = [texts.of_reply([{"role": "user", "content": "hi"}], words, "stop") for words in ("good", "bad")]
    model = RewardModel(tiny_model, 1.0, 2)
    features = model.features(pair)
    model.load("member-0", folder, trainable=False)
    good, bad = model.score(features, "member-0").tolist()
    assert good > bad


def test_liars_are_not_believed_and_a_worse_one_does_not_replace_a_better(train):
    good, folder = train("good", labels(64, seed=1), labels(24, seed=2))
    assert good["accepted"]
    worse, _ = train("worse", labels(64, seed=3, right=0.0), labels(24, seed=2), init=folder)
    assert not worse["accepted"]
    assert "the live one" in worse["reasons"][0]
    assert worse["previous"]["log_loss"] == pytest.approx(good["holdout"]["log_loss"], abs=1e-4)


def test_a_warm_start_goes_on_from_the_live_version_and_leaves_its_files_alone(train):
    _, folder = train("first", labels(24, seed=1), labels(24, seed=2), epochs=1)
    before = (folder / "member-0" / "adapter_model.safetensors").read_bytes()
    metrics, again = train("again", labels(64, seed=4), labels(24, seed=2), init=folder)
    assert metrics["previous"] is not None
    assert (folder / "member-0" / "adapter_model.safetensors").read_bytes() == before
    assert (again / "member-0" / "adapter_model.safetensors").read_bytes() != before


def test_no_label_is_an_error(train):
    with pytest.raises(StageError, match="no label"):
        train("none", [], [])


def test_the_judge_has_conversations_of_its_own():
    rows = labels(200, seed=1)
    mine = {row.conversation for row in rows if for_judge(row)}
    assert 0.15 < len(mine) / 200 < 0.45
    assert mine == {row.conversation for row in labels(200, seed=1) if for_judge(row)}


def test_training_moves_the_active_member_only(tiny_model):
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("member-0", 4)
    model.add("member-1", 4)
    assert model.peft is not None
    trained = [name for name, parameter in model.peft.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("member-1" in name for name in trained)
    assert any("score" in name for name in trained)
    before = trainable_hash(model.peft)
    model.activate("member-0")
    assert trainable_hash(model.peft) != before


def test_frozen_layers_run_once_give_the_same_reward_as_all_layers_at_once(tiny_model):
    torch.manual_seed(0)
    ids = [Text([1, 5, 6, 7, 8], 3), Text([1, 5, 6, 9, 10, 11, 12, 2], 3)]
    rewards = []
    for upper in (1, 4):
        torch.manual_seed(0)
        model = RewardModel(tiny_model, 1.0, upper)
        features = model.features(ids)
        torch.manual_seed(0)
        model.add("m", 4)
        assert model.peft is not None
        head = model.peft.get_base_model().score
        torch.nn.init.constant_(head.modules_to_save["m"].weight[:, :8], 0.3)
        rewards.append(model.score(features, "m"))
    torch.testing.assert_close(rewards[0], rewards[1], rtol=0.05, atol=0.02)


def test_the_reward_sees_an_ending_though_padding_is_the_same_token(tiny_model):
    texts = Texts(tiny_model, 64, 64)
    messages = [{"role": "user", "content": "hi"}]
    ended, cut = (texts.of_reply(messages, "good cats", finish) for finish in ("stop", "length"))
    assert ended.ids == [*cut.ids, texts.tokenizer.eos_token_id]
    assert texts.tokenizer.pad_token_id == texts.tokenizer.eos_token_id
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("m", 4)
    one, other = model.score(model.features([ended, cut]), "m").tolist()
    assert one != other


def test_padding_changes_no_reward_and_an_empty_reply_has_one(tiny_model):
    torch.manual_seed(0)
    model = RewardModel(tiny_model, 1.0, 2)
    model.add("m", 4)
    short, long, empty = Text([1, 5, 6, 7], 2), Text([1, 5, 6, 7, 8, 9, 10, 11], 2), Text([1, 5], 2)
    features = model.features([short, long, empty])
    assert model.peft is not None
    model.peft.eval()
    with torch.no_grad():
        together = forward(model.peft, collate(features))
        alone = torch.cat([forward(model.peft, collate([row])) for row in features])
    assert together.isfinite().all()
    torch.testing.assert_close(together, alone, rtol=0.02, atol=1e-3)


def test_over_long_texts_are_cut_not_dropped(tiny_model):
    text = Texts(tiny_model, 3, 2).of_ids([1, 5, 6, 7, 8], [9, 10, 11, 2], "stop")
    assert text == Text([6, 7, 8, 9, 10], 3)


def test_label_losses_pair_each_comparison_with_its_own_second_reply(tiny_model):
    rows = [labels(4, seed=5)[number] for number in (1, 0, 3, 2)]
    model = RewardModel(tiny_model, 1.0, 2)
    texts = Texts(tiny_model, 64, 64)
    features = train_reward.label_features(model, texts, rows)
    assert [len(pair) for pair in features] == [2, 1, 2, 1]
    batch = label_batch(rows, features)
    rewards = torch.tensor([1.0, 5.0, 2.0, -5.0, 0.25, 0.5])  # a of each label, then b of the comparisons
    losses = label_losses(rewards, batch, smoothing=0.0)
    gaps = torch.tensor([0.75, 5.0, 1.5, -5.0])
    target = torch.tensor([row.target for row in rows])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(gaps, target, reduction="none")
    torch.testing.assert_close(losses, expected)


def test_measuring_is_fair_to_scale_and_says_chance_when_upside_down():
    rows = [row for row in labels(40, seed=6) if row.kind == "thumb"]
    right = torch.tensor([2 * row.target - 1 for row in rows])
    (good, figures), (loud, _) = measure(rows, right * 3), measure(rows, right * 300)
    assert figures["thumb_auroc"] == 1.0
    assert sum(loud.losses) < 1e-6
    assert sum(good.losses) < 0.1 * len(rows)
    upside_down, _ = measure(rows, -right)
    assert upside_down.losses == pytest.approx([0.6931] * len(rows), abs=1e-3)
