import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from workers.datasets import for_judge
from workers.labels import Label, Sample, write_labels
from workers.reward.model import RewardModel, Texts
from workers.reward.scoring import read_shape, score_samples
from workers.reward.style import NAMES, read_head
from workers.reward.thumb_scale import read_thumbs
from workers.stage import StageError
from workers.stages import train_reward
from workers.stages.train_reward import by_ai, of_unit_weight

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_what_is_saved_scores_as_what_was_trained(train, tiny_model):
    _, folder = train("r", labels(64, seed=1), labels(8, seed=2))
    texts = Texts(tiny_model, 64, 64)
    pair = [texts.of_reply([{"role": "user", "content": "hi"}], words, "stop") for words in ("good", "bad")]
    model = RewardModel(tiny_model, 1.0, 2, read_shape(folder).early)
    features = model.features(pair)
    model.load("member-0", folder, trainable=False)
    good, bad = model.score(features, "member-0").tolist()
    assert good > bad


@pytest.mark.slow
def test_liars_are_not_believed_and_a_worse_one_does_not_replace_a_better(train):
    good, folder = train("good", labels(64, seed=1), labels(24, seed=2))
    assert good["accepted"]
    worse, _ = train("worse", labels(64, seed=3, right=0.0), labels(24, seed=2), init=folder)
    assert not worse["accepted"]
    assert "surely worse than the live one on the holdout alone" in worse["reasons"][0]
    assert worse["previous"]["log_loss"] == pytest.approx(good["holdout"]["log_loss"], abs=1e-4)
    assert worse["previous_judge"]["log_loss"] == pytest.approx(good["judge"]["log_loss"], abs=1e-4)


@pytest.mark.slow
def test_a_warm_start_goes_on_from_the_live_version_and_leaves_its_files_alone(train):
    _, folder = train("first", labels(24, seed=1), labels(24, seed=2), epochs=1)
    before = (folder / "member-0" / "adapter_model.safetensors").read_bytes()
    metrics, again = train("again", labels(64, seed=4), labels(24, seed=2), init=folder)
    assert metrics["previous"] is not None
    assert (folder / "member-0" / "adapter_model.safetensors").read_bytes() == before
    assert (again / "member-0" / "adapter_model.safetensors").read_bytes() != before


@pytest.mark.slow
def test_a_warm_start_begins_with_the_weights_of_the_live_version(train):
    """By steps that are too short to lead anywhere else."""
    _, folder = train("first", labels(24, seed=1), labels(24, seed=2), epochs=1)
    given = labels(64, seed=4), labels(24, seed=2)
    _, warm = train("warm", *given, init=folder, epochs=1, learning_rate=1e-6)
    _, cold = train("cold", *given, epochs=1, learning_rate=1e-6)

    def apart(other: Path) -> float:
        first, second = (
            load_file(place / "member-0" / "adapter_model.safetensors") for place in (folder, other)
        )
        return max(float((first[name] - second[name]).abs().max()) for name in first)

    assert apart(warm) < 1e-4 < 1e-2 < apart(cold)


@pytest.mark.slow
def test_members_and_their_judge_are_accepted_apart(train):
    """Each learns its own conversations, so either can be told lies alone."""
    good, liars = labels(64, seed=1), labels(64, seed=1, right=0.0)
    heldout = labels(24, seed=2)
    mixed = [liar if for_judge(row) else row for row, liar in zip(good, liars, strict=True)]
    first, folder = train("first", mixed, heldout)
    assert first["judge"]["pair_accuracy"] < 0.5 < first["holdout"]["pair_accuracy"]
    told_lies = [row if for_judge(row) else liar for row, liar in zip(good, liars, strict=True)]
    again, newer = train("again", told_lies, heldout, init=folder)
    assert (again["accepted"], again["judge_accepted"]) == (False, True)
    assert again["judge"]["pair_accuracy"] > 0.8
    assert again["holdout"] == again["previous"], "the members are those of before"
    for name, same in (("member-0", True), ("member-1", True), ("judge", False)):
        files = [(place / name / "adapter_model.safetensors").read_bytes() for place in (folder, newer)]
        assert (files[0] == files[1]) is same
        heads = [read_head(place, name) for place in (folder, newer)]
        assert (heads[0] == heads[1]) is same
        scales = [read_thumbs(place, [name]) for place in (folder, newer)]
        assert (scales[0] == scales[1]) is same
    third, _ = train("third", mixed, heldout, init=newer, epochs=1)
    assert not third["judge_accepted"]
    assert third["judge_gain"]["mean"] < 0


@pytest.mark.slow
def test_the_better_judge_is_found_by_the_members_labels_where_the_holdout_cannot_tell(train):
    """Its raters say of each pair both that it is so and that it is not."""
    honest, liars = labels(96, seed=1), labels(96, seed=1, right=0.0)
    lied_to = [liar if for_judge(row) else row for row, liar in zip(honest, liars, strict=True)]
    said = labels(8, seed=2)
    denied = [replace(row, target=1 - row.target, conversation=f"no-{row.conversation}") for row in said]
    holdout = [*said, *denied]
    unseen = len(holdout) + sum(not for_judge(row) for row in honest)
    _, liar = train("liar", lied_to, holdout)
    found, folder = train("found", honest, holdout, init=liar, epochs=6)
    assert found["judge_accepted"]
    assert found["judge_gain"]["labels"] == unseen
    assert found["judge_gain"]["interval"][0] > 0
    kept, _ = train("kept", lied_to, holdout, init=folder, epochs=6)
    assert not kept["judge_accepted"]
    assert kept["judge_gain"]["labels"] == unseen


@pytest.mark.slow
def test_members_that_are_asked_for_later_begin_beside_the_live_ones(train, tiny_model):
    first, folder = train("first", labels(64, seed=1), labels(24, seed=2), members=1, rank=4)
    assert (first["members"], first["members_begun"], first["members_left_out"]) == (["member-0"], [], [])
    more, wider = train("more", labels(64, seed=4), labels(24, seed=2), init=folder, members=3, epochs=4)
    assert more["members_begun"] == ["member-1", "member-2"]
    assert read_shape(wider).members == ["member-0", "member-1", "member-2"]
    assert set(more["thumbs"]) == {"member-0", "member-1", "member-2", "judge", "warm"}
    tokens = [[11, 11, 2], [15, 16, 2]]
    samples = [Sample(0, [], "…", [1, 21, 3, 2, 1, 22], ids, [-1.0] * 3, "stop") for ids in tokens]
    kind, rude = score_samples(tiny_model, wider, None, samples)
    assert len(set(kind.tolist())) == 3, "each is one of its own"
    assert (kind > rude).all()
    fewer, narrow = train("fewer", labels(64, seed=5), labels(24, seed=2), init=wider, members=2)
    assert (fewer["members_begun"], fewer["members_left_out"]) == ([], ["member-2"])
    assert read_shape(narrow).members == fewer["members"]
    assert sorted(path.name for path in narrow.iterdir() if path.is_dir()) == [
        "judge", *fewer["members"], "plots", "warm"
    ]  # fmt: skip
    assert set(json.loads((narrow / "style.json").read_text())) == {"judge", *fewer["members"], "warm"}


@pytest.mark.slow
def test_members_that_were_asked_for_are_left_out_again_where_only_the_judge_is_better(train):
    good, liars = labels(64, seed=1), labels(64, seed=1, right=0.0)
    mixed = [liar if for_judge(row) else row for row, liar in zip(good, liars, strict=True)]
    _, folder = train("first", mixed, labels(24, seed=2), members=1)
    told_lies = [row if for_judge(row) else liar for row, liar in zip(good, liars, strict=True)]
    again, newer = train("again", told_lies, labels(24, seed=2), init=folder, members=2)
    assert (again["accepted"], again["judge_accepted"]) == (False, True)
    assert again["holdout"] == again["previous"]
    assert (again["members"], again["members_begun"]) == (["member-0"], ["member-1"])
    assert read_shape(newer).members == ["member-0"]
    assert not (newer / "member-1").exists()
    assert "member-1" not in (newer / "style.json").read_text() + (newer / "thumbs.json").read_text()


@pytest.mark.slow
def test_a_judge_that_learnt_chance_is_left_with_its_style(train, tiny_model):
    """The members' labels say so, none of which it has seen; and one that learnt the truth is believed."""
    honest, dice = labels(160, seed=1), random.Random(5)
    random_ = [Label(**{**vars(row), "target": float(dice.random() < 0.5)}) for row in honest]
    mixed = [chance if for_judge(row) else row for row, chance in zip(honest, random_, strict=True)]
    told, folder = train("told", honest, labels(24, seed=2))
    lost, nowhere = train("lost", mixed, labels(24, seed=2))
    assert lost["judge_share"] <= 1 / 8 < told["judge_share"]
    assert told["judge"]["pair_accuracy"] > 0.8
    tokens = [[11, 11, 2], [15, 16, 2]]
    samples = [Sample(0, [], "…", [1, 21, 3, 2, 1, 22], ids, [-1.0] * 3, "stop") for ids in tokens]
    apart = [
        abs(float(score_samples(tiny_model, place, ["judge"], samples)[:, 0].diff()))
        for place in (folder, nowhere)
    ]
    assert apart[1] < apart[0] / 4, "as it is saved"


@pytest.mark.slow
def test_a_feature_that_varies_for_the_first_time_counts_and_the_live_version_keeps_its_own_scale(train):
    lied_to = labels(24, seed=1, right=0.3)
    first, folder = train("first", lied_to, labels(24, seed=2), epochs=1)
    finishes = ["stop", "length"] * 12
    cut = [Label(**{**vars(row), "a_finish": end}) for row, end in zip(labels(24, 4), finishes, strict=True)]
    again, newer = train("again", cut, labels(24, seed=2), init=folder, epochs=1)
    assert (again["accepted"], again["judge_accepted"]) == (True, True)
    for name in ("member-0", "judge", "warm"):
        before, after = (read_head(place, name).scale.std[NAMES.index("cut")] for place in (folder, newer))
        assert before == 0 < after
    assert again["previous"]["log_loss"] == pytest.approx(first["holdout"]["log_loss"], abs=1e-4)


def test_what_ai_compares_takes_no_say_from_the_thumbs(train, tmp_path, monkeypatch):
    rows = [row for row in labels(96, seed=7) if row.kind == "comparison"]
    write_labels(tmp_path / "ai.parquet", [replace(row, source="ai", weight=0.5) for row in rows])
    learnt, fit = [], train_reward.reward_trainer.fit
    monkeypatch.setattr(
        train_reward.reward_trainer, "fit", lambda *given: learnt.append(given[1]) or fit(*given)
    )
    people = labels(48, seed=1)
    metrics, _ = train("r", people, labels(8, seed=2), extra=tmp_path / "ai.parquet", epochs=1)
    assert metrics["ai_labels"] == sum(not for_judge(row) for row in rows)
    *by_members, by_judge = learnt
    assert {row.source for row in by_judge} == {people[0].source}
    for given in by_members:
        by_people = [row for row in given if row.source != "ai"]
        assert len(by_people) < len(given)
        number = sum(row.kind == "thumb" for row in by_people)
        thumbs, pairs = (
            sum(row.weight for row in given if row.kind == kind) for kind in ("thumb", "comparison")
        )
        assert thumbs / pairs == pytest.approx(number / (len(by_people) - number))
        assert sum(row.weight for row in given) == pytest.approx(len(given))


def test_no_label_is_an_error(train):
    with pytest.raises(StageError, match="no label"):
        train("none", [], [])


@pytest.mark.slow
def test_the_average_of_the_members_scores_at_the_cost_of_one(train, tiny_model):
    metrics, folder = train("r", labels(64, seed=1), labels(24, seed=2))
    assert metrics["warm"]["pair_accuracy"] > 0.9
    assert metrics["warm"]["pairs"] == metrics["holdout"]["pairs"]
    tokens = [[11, 11, 2], [15, 16, 2], [11, 15, 12, 2]]
    samples = [Sample(0, [], "…", [1, 21, 3, 2, 1, 22], ids, [-1.0] * len(ids), "stop") for ids in tokens]
    both = score_samples(tiny_model, folder, ["member-0", "member-1", "warm"], samples)
    assert both[0, 2] > both[1, 2]
    assert read_shape(folder).members == ["member-0", "member-1"], "it is no member"


@pytest.mark.slow
def test_what_a_version_is_worth_is_reported(train):
    holdout = labels(24, seed=2)
    names = [f"policy-v{n % 3}" for n in range(24)]
    holdout = [replace(row, policy=name, b_policy=name) for row, name in zip(holdout, names, strict=True)]
    metrics, folder = train("r", labels(64, seed=1), holdout, policy="policy-v1")
    found = metrics["holdout"]
    assert found["pair_accuracy_interval"][0] < found["pair_accuracy"] <= found["pair_accuracy_interval"][1]
    assert sum(row["count"] for row in found["reliability"]) == 24
    assert json.loads((folder / "plots" / "reliability.json").read_text()) == found["reliability"]
    own = metrics["on_policy"]
    assert (own["policy"], own["pairs"] + own["thumbs"]) == ("policy-v1", 8)
    assert own["pair_accuracy"] > 0.9
    assert abs(metrics["length_only"]["pair_accuracy"] - 0.5) < 0.3, "all replies are of one length"
    assert metrics["length_only"]["pairs"] == found["pairs"]
    assert metrics["agreement"]["same_order"] > 0.8
    assert metrics["agreement"]["correlation"] > 0.5
    assert metrics["gain"]["interval"][0] > 0
    judged = sum(map(for_judge, labels(64, seed=1)))
    assert metrics["gain"]["labels"] == 24 + judged > 24, "no member learns from what the judge learns from"
    assert metrics["unseen"]["pairs"] + metrics["unseen"]["thumbs"] == 24 + judged
    assert metrics["unseen"]["pair_accuracy"] > 0.8


@pytest.mark.slow
def test_what_a_thumb_takes_is_learnt_and_kept_and_gone_on_with(train):
    generous = [row for row in labels(96, seed=1) if row.kind == "comparison"]
    dice = random.Random(3)
    for row in labels(96, seed=4):
        if row.kind == "thumb":
            target = 1.0 if dice.random() < 0.85 else row.target
            generous.append(Label(**{**vars(row), "target": target, "rater": f"r{dice.randrange(4)}"}))
    metrics, folder = train("r", generous, labels(24, seed=2))
    scales = read_thumbs(folder, ["member-0", "member-1", "judge", "warm"])
    for name, scale in scales.items():
        assert scale.b > 0.4, (name, "most thumbs are up, whatever the reply")
        assert scale.a > 0
        assert metrics["thumbs"][name] == vars(scale)
    mean = (scales["member-0"].b + scales["member-1"].b) / 2
    assert scales["warm"].b == pytest.approx(mean)
    again, _ = train("again", generous, labels(24, seed=2), init=folder)
    assert again["previous"]["log_loss"] == pytest.approx(metrics["holdout"]["log_loss"], abs=1e-4)


@pytest.mark.slow
def test_a_version_without_thumbs_can_be_gone_on_from(train):
    metrics, folder = train("first", labels(24, seed=1), labels(24, seed=2), epochs=1)
    (folder / "thumbs.json").unlink()
    again, _ = train("again", labels(64, seed=4), labels(24, seed=2), init=folder)
    assert again["previous"]["pair_accuracy"] == metrics["holdout"]["pair_accuracy"]


@pytest.mark.slow
def test_ai_labels_train_but_are_never_measured_on(train, tmp_path):
    def by_machine(rows: list[Label], prefix: str) -> list[Label]:
        return [
            Label(**{**vars(row), "source": "ai", "rater": "ai:kind", "conversation": f"{prefix}{n}"})
            for n, row in enumerate(rows)
        ]

    extra = by_machine(labels(64, seed=1), "ai-")
    for_members = sum(not for_judge(row) for row in extra)
    assert 32 < for_members < 64
    write_labels(tmp_path / "extra.parquet", extra)
    few, holdout = labels(8, seed=3), labels(24, seed=2)
    alone, _ = train("alone", few, holdout)
    helped, _ = train(
        "helped", few, [*holdout, *by_machine(labels(24, seed=5), "x")], extra=tmp_path / "extra.parquet"
    )
    assert (alone["ai_labels"], helped["ai_labels"], helped["train_labels"]) == (0, for_members, 8)
    assert helped["holdout"]["pairs"] + helped["holdout"]["thumbs"] == 24
    assert helped["holdout"]["log_loss"] < alone["holdout"]["log_loss"]


def test_ai_labels_of_held_out_conversations_are_left_out(tmp_path):
    rows = labels(8, seed=1)
    write_labels(tmp_path / "extra.parquet", rows)
    config = train_reward.Config(
        base_model="",
        init=None,
        train=tmp_path,
        holdout=tmp_path,
        extra=tmp_path / "extra.parquet",
        judge=False,
    )
    assert by_ai(config, [], rows[:3]) == rows[3:]
    with_judge = config.model_copy(update={"judge": True})
    assert by_ai(with_judge, [], []) == [row for row in rows if not for_judge(row)] != rows, (
        "the judge learns from people alone"
    )
    people = labels(32, seed=2)
    mine = [row for row in people if row.kind == "comparison" and not for_judge(row)]
    weight_of = {id(row): 0.1 + 0.1 * place for place, row in enumerate(mine)}
    people = [replace(row, weight=weight_of.get(id(row), 7.0)) for row in people]
    usual = 0.1 + 0.05 * (len(mine) - 1)
    found = by_ai(with_judge, people, [])
    assert len(mine) > 2
    assert [row.weight for row in found] == pytest.approx([usual] * len(found)), (
        "1 becomes what people's comparisons weigh that the members learn from"
    )


@pytest.mark.slow
def test_labels_that_weigh_nothing_teach_nothing(train):
    liars = [Label(**{**vars(row), "weight": 0.01}) for row in labels(64, seed=3, right=0.0)]
    heard = [Label(**{**vars(row), "conversation": f"h{row.conversation}"}) for row in labels(48, seed=1)]
    metrics, _ = train("r", [*heard, *liars], labels(24, seed=2))
    assert metrics["holdout"]["pair_accuracy"] > 0.9
    rows = of_unit_weight(liars)
    assert sum(row.weight for row in rows) == pytest.approx(len(rows))


@pytest.mark.slow
def test_only_the_newest_labels_are_read(train):
    liars = labels(64, seed=3, right=0.0)
    newer = [Label(**{**vars(row), "time": row.time + 1000}) for row in labels(64, seed=1)]
    metrics, _ = train("r", [*newer, *liars], labels(24, seed=2), max_labels=64)
    assert metrics["train_labels"] == 64
    assert metrics["holdout"]["pair_accuracy"] > 0.9
