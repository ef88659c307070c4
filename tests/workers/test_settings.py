import json

import pytest
from pydantic import ValidationError

from workers.settings import WorkerSettings

JUDGE = {"ai_judge_url": "http://judge/v1", "ai_judge_model": "some-judge", "ai_judge_key": "sesame"}


@pytest.mark.parametrize("missing", ["ai_judge_url", "ai_judge_model"])
def test_a_constitution_needs_a_judge(missing):
    given = {key: value for key, value in JUDGE.items() if key != missing}
    with pytest.raises(ValidationError, match="THUMBWHEEL_AI_CONSTITUTION needs a judge"):
        WorkerSettings(ai_constitution="rules.toml", **given)


def test_a_constitution_is_the_same_file_for_every_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert WorkerSettings(ai_constitution="rules.toml", **JUDGE).ai_constitution == tmp_path / "rules.toml"


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_judge_weighs_less_than_a_person(weight):
    with pytest.raises(ValidationError, match="ai_weight"):
        WorkerSettings(ai_weight=weight)


def test_no_stage_is_handed_the_judges_key():
    settings = WorkerSettings(ai_constitution="rules.toml", **JUDGE)
    for stage in ("reward", "score", "optimise", "evaluate"):
        assert "sesame" not in json.dumps(settings.prefixed(stage))
