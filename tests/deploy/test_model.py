from pathlib import Path

import pytest

from deploy.model import put


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "DONE").touch()
    return tmp_path / "partial"


def test_of_two_starts_that_prepare_a_model_the_first_one_is_kept(partial: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    for name in ("DONE", "first"):
        (target / name).touch()
    put(partial, target)
    assert (target / "first").exists()


def test_what_stands_in_the_way_and_is_no_model_is_an_error(partial: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "something").touch()
    with pytest.raises(OSError, match="not empty"):
        put(partial, tmp_path / "model")
