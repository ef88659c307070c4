import json

import pytest

from deploy.visible import visible, visible_json


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, as it is: é 漢 🙂 שלום\n\tnext", "plain, as it is: é 漢 🙂 שלום\n\tnext"),
        ("\x1b[2J\x07\x08\x7f\x00", r"\x1b[2J\x07\x08\x7f\x00"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202a\u202e\u2066\u2069", r"\u202a\u202e\u2066\u2069"),
        ("one\r\ntwo\rthree", "one\ntwo" + r"\x0dthree"),
    ],
)
def test_what_would_steer_is_shown(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown


def test_json_stays_what_it_means():
    said = {"comment": "\x1b]0;t\x07 \x9b2J \u202e \x7f é\r\n"}
    shown = visible_json(json.dumps(said, ensure_ascii=False, indent=2))
    assert json.loads(shown) == said
    assert not set(shown) & set("\x1b\x07\x9b\u202e\x7f\r")
    assert "é" in shown
