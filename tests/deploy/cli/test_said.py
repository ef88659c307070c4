import re

import pytest

from deploy.cli.said import REASONS, STRENGTHS, UnknownReason, read_said
from deploy.client import ROOT

PAGES = ROOT / "serving" / "pages" / "static"


def test_reasons_and_strengths_are_those_of_the_chat_page():
    script = (PAGES / "rating.js").read_text()
    for thumb, reasons in REASONS.items():
        listed = re.search(rf"^  {thumb}: \[(.*)\],$", script, re.MULTILINE)
        assert listed is not None
        assert re.findall(r'"([^"]+)"', listed[1]) == list(reasons)
    listed = re.search(r"const STRENGTHS = \[(.*)\];", (PAGES / "pair.js").read_text())
    assert listed is not None
    assert [float(value) for value in re.findall(r", ([\d.]+)\]", listed[1])] == list(STRENGTHS.values())


@pytest.mark.parametrize(
    ("line", "reasons", "comment"),
    [
        ("", [], ""),
        ("the comment", [], "the comment"),
        ("#rude", ["rude"], ""),
        (" #too-long,  #Rude #rude   the #best  comment", ["too long", "rude"], "the #best  comment"),
    ],
)
def test_reasons_stand_before_the_comment(line, reasons, comment):
    assert read_said(line, REASONS["down"]) == (reasons, comment)


@pytest.mark.parametrize("tag", ["#nice", "#", "#too"])
def test_an_unknown_reason_is_told_with_those_there_are(tag):
    with pytest.raises(UnknownReason, match=f"^{tag} is no reason here.*#too-long #too-short"):
        read_said(f"#rude {tag} comment", REASONS["down"])
