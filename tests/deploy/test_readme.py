"""The README is held to the code: its settings are the settings, its files are the files."""

import re
from pathlib import Path

from deploy.settings import DeploySettings
from feedback.settings import PREFIX

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_setting_stands_in_the_table_with_its_default():
    rows = re.findall(r"^\| `(THUMBWHEEL_\w+)` \| (.*?) \|", README, re.MULTILINE)
    expected = [
        (PREFIX + name.upper(), _shown(field.default)) for name, field in DeploySettings.model_fields.items()
    ]
    assert rows == expected


def test_every_named_file_is_there():
    tree = README.partition("## Files")[2].partition("```")[2].partition("```")[0]
    folder = ""
    for line in tree.splitlines():
        if line and not line.startswith(" "):
            folder = line.split()[0]
        for name in re.findall(r"\b\w+\.py\b", line):
            assert (ROOT / folder / name).exists(), f"{folder}{name}"


def _shown(default: object) -> str:
    if default in (None, "", ()):
        return ""
    return f"`{','.join(default) if isinstance(default, tuple) else default}`"
