from pathlib import Path

from deploy.console import Console


def test_what_is_said_does_not_steer_the_terminal(capsys, tmp_path: Path):
    Console(tmp_path / "log").say("a first chat was answered: \x1b[31mRED\x07\nand more")
    told = capsys.readouterr().out
    assert told == "a first chat was answered: \\x1b[31mRED\\x07\nand more\n"
    assert (tmp_path / "log").read_text().endswith(told)
