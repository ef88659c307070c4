import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from workers.stage import Stage, StageConfig, execute, write_json


class Config(StageConfig):
    count: int


def folder(tmp_path: Path, **config: object) -> Path:
    (tmp_path / "stage.json").write_text(json.dumps(config))
    return tmp_path


def test_metrics_are_written_and_done_is_last(tmp_path):
    seen = []

    def main(config: Config, stage: Stage) -> dict[str, object]:
        stage.progress(1, 2, "half")
        seen.append(json.loads((tmp_path / "progress.json").read_text()))
        assert not (tmp_path / "DONE").exists()
        return {"twice": 2 * config.count, "bad": float("nan")}

    (folder(tmp_path, count=4) / "DONE").touch()
    execute(tmp_path, Config, main)
    assert seen == [{"done": 1, "total": 2, "message": "half"}]
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"twice": 8, "bad": None}
    assert (tmp_path / "DONE").exists()


def test_a_failure_leaves_no_done(tmp_path):
    def main(config: Config, stage: Stage) -> dict[str, object]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        execute(folder(tmp_path, count=1), Config, main)
    assert not (tmp_path / "DONE").exists()


def test_an_unknown_key_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="cuont"):
        execute(folder(tmp_path, count=1, cuont=2), Config, lambda config, stage: {})


def test_json_is_replaced_whole(tmp_path):
    write_json(tmp_path / "x.json", {"a": [float("inf"), 1.5]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.5]}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workers.stages.sample", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_program_says_in_its_last_line_what_was_wrong(tmp_path):
    failed = program(str(folder(tmp_path, mdoel="x")))
    assert failed.returncode == 1
    assert "Traceback" in failed.stderr
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("sample failed: stage.json is not right")
    assert "mdoel" in last


def test_the_program_wants_one_directory():
    failed = program()
    assert failed.returncode == 2
    assert "usage" in failed.stderr


def test_sampling_loads_no_torch():
    code = (
        "import sys, workers.stages.sample; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
