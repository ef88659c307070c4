"""Downloads: what a spreadsheet and `import` make of them."""

import csv
import io
import json

import orjson
import pytest

from feedback.export import BOM, COLUMNS, csv_head, csv_line, json_line
from feedback.formats import Preference, PromptOnly, Unpaired, parse
from feedback.reader import Said
from feedback.types import Comparison, Completion, Pair, Rating, Thumb, Winner

ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sky?"}]


def completion(
    id_: str, reply: str | None = "Blue.", policy: str = "policy-v1", **more: object
) -> Completion:
    fields: dict = {"messages": ASK, "metadata": {"tag": "help"}, **more}
    return Completion(
        id=id_,
        policy=policy,
        reply=reply,
        finish_reason="stop",
        key_id="k",
        conversation="c",
        created=1.0,
        duration=1.0,
        **fields,
    )


def thumb(**more: object) -> Said:
    fields: dict = {"rating": Thumb.down, "created": 1_700_000_000.25, **more}
    about = fields.pop("about", completion("chatcmpl-1"))
    return Said(Rating(completion_id=about.id, rater="ann", **fields), about)


def choice(winner: str) -> Said:
    a, b = completion("chatcmpl-a", "Blue."), completion("chatcmpl-b", "Green.", policy="policy-v2")
    pair = Pair(id="p", a=a.id, b=b.id, policy_a=a.policy, policy_b=b.policy, created=1.0, expires=None)
    label = Comparison(pair_id="p", rater="ann", winner=Winner(winner), strength=0.5, created=2.0)
    return Said(label, a, b, pair)


def row(said: Said) -> dict[str, str]:
    text = (csv_head() + csv_line(said)).removeprefix(BOM)
    [found] = csv.DictReader(io.StringIO(text))
    return found


def test_json_lines_can_be_imported_again():
    assert parse(orjson.loads(json_line(thumb()))) == Unpaired(ASK, "Blue.", good=False)
    assert parse(orjson.loads(json_line(choice("a")))) == Preference(ASK, "Blue.", "Green.", 0.5)
    assert parse(orjson.loads(json_line(choice("b")))) == Preference(ASK, "Green.", "Blue.", 0.5)
    for equal in ("tie", "both_bad"):
        assert parse(orjson.loads(json_line(choice(equal)))) == PromptOnly(ASK)


def test_an_empty_reply_is_one_and_a_call_of_a_tool_is_none():
    assert parse(orjson.loads(json_line(thumb(about=completion("c", ""))))) == Unpaired(ASK, "", good=False)
    a, b = completion("chatcmpl-a", ""), completion("chatcmpl-b", "Green.")
    preferred = Said(Comparison(pair_id="p", rater="ann", winner=Winner.b, created=2.0), a, b)
    assert parse(orjson.loads(json_line(preferred))) == Preference(ASK, "Green.", "")
    called = completion("chatcmpl-a", "", sampling={"tools": [{"type": "function"}]})
    assert "completion" not in json.loads(json_line(thumb(about=called)))
    assert "chosen" not in json.loads(json_line(Said(preferred.label, called, b)))
    assert row(preferred)["other_reply"] == ""


def test_json_lines_say_who_when_and_of_which_version():
    found = json.loads(json_line(thumb(reasons=["wrong"], comment="no\nidea", correction="Blue, mostly.")))
    assert found["policy"] == "policy-v1"
    assert (found["rater"], found["created"], found["tag"]) == ("ann", 1_700_000_000.25, "help")
    assert (found["reasons"], found["comment"], found["correction"]) == (
        ["wrong"],
        "no\nidea",
        "Blue, mostly.",
    )
    assert json_line(thumb(comment="a\nb")).count(b"\n") == 1
    other = json.loads(json_line(choice("b")))
    assert (other["policy"], other["other_policy"], other["winner"]) == ("policy-v2", "policy-v1", "b")


def test_what_was_not_stored_is_not_there():
    silent = thumb(about=completion("chatcmpl-1", None, messages=None, metadata={}))
    found = json.loads(json_line(silent))
    assert "prompt" not in found
    assert found["label"] is False
    assert row(silent)["prompt"] == row(silent)["reply"] == ""


def test_a_spreadsheet_sees_the_chosen_reply_first():
    assert tuple(row(thumb())) == COLUMNS
    found = row(choice("b"))
    assert (found["reply"], found["other_reply"], found["verdict"]) == ("Green.", "Blue.", "preferred")
    assert (found["policy"], found["completion_id"]) == ("policy-v2", "chatcmpl-b")
    assert (row(choice("tie"))["verdict"], row(thumb())["verdict"]) == ("tie", "down")
    assert row(thumb())["time"] == "2023-11-14T22:13:20.250+00:00"


@pytest.mark.parametrize(
    "evil",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "＝1", '=HYPERLINK("http://x","y")'],  # noqa: RUF001
)
def test_no_cell_is_a_formula(evil):
    """Text of users in every place that it can get to."""
    about = completion(evil, evil, messages=[{"role": "user", "content": evil}], metadata={"tag": evil})
    found = row(thumb(about=about, comment=evil, correction=evil, reasons=[evil]))
    for column in ("comment", "correction", "reasons", "reply", "prompt", "completion_id"):
        assert found[column] == "'" + evil
    assert found["tag"].lstrip()[:1] in ("'", "")


def test_quotes_commas_and_lines_stay_in_their_cell():
    nasty = 'a, "b"\nc; d'
    assert row(thumb(comment=nasty))["comment"] == nasty
