import json

import pytest

from workers.plots import Bin, Point, chained, redraw_reliability, reliability, reward_curve, training_curve

PNG = b"\x89PNG\r\n\x1a\n"


def drawn(folder, name):
    assert (folder / f"{name}.png").read_bytes().startswith(PNG)
    return json.loads((folder / f"{name}.json").read_text())


def test_gains_are_added_up_along_the_lineage():
    lineage = [
        {"version": "policy-v0", "kl": 0.0, "members": None, "judge": None},
        {"version": "policy-v1", "kl": 0.04, "members": 0.5, "judge": 0.25},
        {"version": "policy-v2", "kl": 0.1, "members": None, "judge": None},
        {"version": "candidate", "kl": 0.09, "members": 0.5, "judge": -0.5},
    ]
    rounds = [{"kl": 0.04, "reward": 1.0, "std": 0.5}, {"kl": 0.06, "reward": 1.25, "std": 0.5}]
    assert chained(lineage, rounds) == [
        Point("policy-v0", 0.0, 0.0, 0.0),
        Point("policy-v1", 0.04, 0.5, 0.25),
        Point("policy-v2", 0.1),
        Point("round 1", 0.06, 1.0),
        Point("candidate", 0.09, 1.0, -0.25),
    ]
    assert chained(lineage[:1], [{"kl": None, "reward": 1.0, "std": 1.0}]) == [
        Point("policy-v0", 0.0, 0.0, 0.0)
    ]


def test_the_reward_curve_is_a_picture_and_its_data(tmp_path):
    points = [Point("policy-v0", -0.001, 0.0, 0.0, 1.0), Point("policy-v1", 0.25, 0.5, None, 2.0)]
    reward_curve(points, tmp_path / "plots")
    rows = drawn(tmp_path / "plots", "reward")
    assert [row["root_kl"] for row in rows] == [0.0, 0.5]
    assert rows[1] == {
        "name": "policy-v1", "kl": 0.25, "members": 0.5, "judge": None, "gold": 2.0, "root_kl": 0.5,
    }  # fmt: skip
    reward_curve([Point("policy-v0", 0.0)], tmp_path / "plots", "bare")
    assert drawn(tmp_path / "plots", "bare")[0]["members"] is None


def test_training_curves_of_rounds_follow_each_other(tmp_path):
    for number, rows in enumerate(
        [[{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.6, "kl": 0.1}], [{"loss": 0.5}]]
    ):
        (tmp_path / f"{number}.json").write_text(json.dumps(rows))
    training_curve([tmp_path / "0.json", tmp_path / "gone.json", tmp_path / "1.json"], tmp_path)
    assert [(row["round"], row["loss"]) for row in drawn(tmp_path, "training")] == [
        (1, 0.7),
        (1, 0.6),
        (3, 0.5),
    ]


@pytest.mark.parametrize("rows", [[], [{"step": 1, "loss": None}]])
def test_without_a_curve_there_is_no_picture(tmp_path, rows):
    (tmp_path / "curve.json").write_text(json.dumps(rows))
    training_curve([tmp_path / "curve.json"], tmp_path / "plots")
    assert not (tmp_path / "plots").exists()


def test_reliability_is_drawn_from_its_data(tmp_path):
    redraw_reliability(tmp_path)
    assert not list(tmp_path.iterdir())
    bins = [Bin(0.1, 0.2, 5), Bin(0.9, 1.0, 3), Bin(0.5, 0.0, 0)]
    reliability(bins, tmp_path)
    before = drawn(tmp_path, "reliability")
    (tmp_path / "reliability.png").unlink()
    redraw_reliability(tmp_path)
    assert drawn(tmp_path, "reliability") == before
    assert before[0] == {"said": 0.1, "happened": 0.2, "count": 5}
