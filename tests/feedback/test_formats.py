"""Lines of TRL's types, well formed and not. The rules for implicit prompts are TRL's own, asked here."""

import pytest
from trl.data_utils import extract_prompt

from feedback.formats import BadLine, Preference, PromptOnly, Unpaired, parse, shared_prompt

ASK = [{"role": "user", "content": "What colour is the sky?"}]
KIND = {"role": "system", "content": "Be kind."}


def said(*contents: str) -> list[dict]:
    """A conversation, the user first."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]


def reply(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
            Preference(said("The sky is"), "blue.", "green."),
        ),
        (
            {"chosen": "The sky is blue.", "rejected": "The sky is green."},
            Preference(said("The sky is"), "blue.", "green."),
        ),
        (
            {"prompt": ASK, "chosen": reply("Blue."), "rejected": reply("Green.")},
            Preference(ASK, "Blue.", "Green."),
        ),
        (
            {"chosen": ASK + reply("Blue."), "rejected": ASK + reply("Green.")},
            Preference(ASK, "Blue.", "Green."),
        ),
        ({"prompt": ASK, "chosen": "Blue.", "rejected": "Green."}, Preference(ASK, "Blue.", "Green.")),
        (
            {"prompt": "The sky is", "completion": " blue.", "label": True},
            Unpaired(said("The sky is"), "blue.", True),
        ),
        ({"prompt": ASK, "completion": reply("Green."), "label": False}, Unpaired(ASK, "Green.", False)),
        ({"prompt": ASK, "completion": reply(""), "label": False}, Unpaired(ASK, "", False)),
        ({"prompt": said("Hi", "", "Hello?")}, PromptOnly(said("Hi", "", "Hello?"))),
        ({"prompt": "The sky is"}, PromptOnly(said("The sky is"))),
        ({"prompt": [KIND, *ASK]}, PromptOnly([KIND, *ASK])),
    ],
)
def test_each_of_trls_types_as_strings_and_as_messages(record, line):
    assert parse(record) == line


def test_a_prompt_that_the_replies_repeat_is_taken_once():
    """As a string beside conversations it is how TRL's own data sets are written."""
    both = {"chosen": ASK + reply("Blue."), "rejected": ASK + reply("Green.")}
    expected = Preference(ASK, "Blue.", "Green.")
    assert parse({"prompt": "What colour is the sky?", **both}) == expected
    assert parse({"prompt": ASK, **both}) == expected
    assert parse(
        {"prompt": "What colour?", "chosen": reply("Blue."), "rejected": reply("Red.")}
    ) == Preference(said("What colour?"), "Blue.", "Red.")


def test_turns_that_both_replies_share_belong_to_the_prompt():
    shared = reply("Blue.") + said("Why?")
    line = parse({"prompt": ASK, "chosen": shared + reply("Air."), "rejected": shared + reply("No idea.")})
    assert line == Preference(ASK + shared, "Air.", "No idea.")


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("The sky is blue.", "The sky is green."),
        ("The sky is black.", "The sky is blue."),
        ("Q: why?\n\nA: Because.", "Q: why?\n\nA: No idea."),
        ("ab c", "ab d"),
    ],
)
def test_an_implicit_prompt_is_the_one_that_trl_finds(chosen, rejected):
    theirs = extract_prompt({"chosen": chosen, "rejected": rejected})
    assert shared_prompt(chosen, rejected) == theirs["prompt"]
    line = parse({"chosen": chosen, "rejected": rejected})
    assert (line.chosen, line.rejected) == (theirs["chosen"].strip(), theirs["rejected"].strip())


def test_an_implicit_conversation_is_the_one_that_trl_finds():
    chosen, rejected = said("One?", "1", "Two?", "2"), said("One?", "1", "Two?", "3")
    theirs = extract_prompt({"chosen": chosen, "rejected": rejected})
    line = parse({"chosen": chosen, "rejected": rejected})
    assert line == Preference(
        theirs["prompt"], theirs["chosen"][0]["content"], theirs["rejected"][0]["content"]
    )


def test_further_columns():
    pair = {"prompt": "The sky is", "chosen": "blue", "rejected": "red"}
    assert parse({**pair, "margin": 0.25}).strength == 0.25
    assert parse({**pair, "margin": 3}).strength == 1.0
    assert parse({**pair, "id": 7, "label": 0, "score_chosen": 9.5, "tools": [], "images": None}) == parse(
        pair
    )
    assert parse({**pair, "system": "Be kind."}).messages == [KIND, *said("The sky is")]
    assert parse({"prompt": [KIND, *ASK], "system": "Be rude."}).messages == [KIND, *ASK]
    assert parse({"prompt": [KIND, *ASK], "system": ""}).messages == [KIND, *ASK]


def test_null_is_not_there():
    """As a mixed data set is written to JSON lines."""
    nothing = {"chosen": None, "rejected": None, "completion": None, "label": None}
    assert parse({**nothing, "prompt": "Hi"}) == PromptOnly(said("Hi"))
    assert isinstance(parse({**nothing, "prompt": "Hi", "chosen": "a", "rejected": "b"}), Preference)
    with_nulls = [{"role": "assistant", "content": "Hi.", "tool_calls": None, "name": None}]
    assert parse({"prompt": "Hi", "completion": with_nulls, "label": True}).reply == "Hi."


PAIR = {"prompt": "a", "chosen": "b", "rejected": "c"}
BAD = [
    ([], "not a JSON object"),
    ("text", "not a JSON object"),
    (None, "not a JSON object"),
    ({}, "none of TRL's types"),
    ({"messages": ASK}, "none of TRL's types"),
    ({"text": "The sky is blue."}, "none of TRL's types"),
    ({"prompt": "a", "chosen": "b"}, "`rejected` is missing"),
    ({"prompt": "a", "rejected": "b"}, "`chosen` is missing"),
    ({"prompt": "a", "completion": "b"}, "`label` is missing"),
    ({"completion": "b", "label": True}, "`prompt` is missing"),
    ({"label": True}, "`prompt` and `completion` is missing"),
    ({"prompt": "a", "label": True}, "`completion` is missing"),
    ({**PAIR, "completion": "d", "label": True}, "both `chosen` and `completion`"),
    ({"prompt": "a", "completion": "b", "label": 1}, "`label` must be true or false"),
    ({"prompt": "a", "completion": "b", "label": "true"}, "`label` must be true or false"),
    ({**PAIR, "rejected": "b"}, "are the same"),
    ({**PAIR, "rejected": " b "}, "are the same"),
    ({"chosen": ASK + reply("x"), "rejected": ASK + reply("x")}, "are the same"),
    ({**PAIR, "prompt": " "}, "`prompt` is empty"),
    ({**PAIR, "chosen": ""}, "`chosen` is empty"),
    ({"prompt": "a", "completion": "\n", "label": True}, "`completion` is empty"),
    ({"prompt": []}, "`prompt` is empty"),
    ({"prompt": said("")}, r"`prompt\[0\].content` is empty"),
    ({"prompt": ASK, "completion": reply(" "), "label": True}, r"`completion\[0\].content` is empty"),
    ({"prompt": 7}, "`prompt` must be a string or a list"),
    ({"prompt": {"role": "user", "content": "x"}}, "`prompt` must be a string or a list"),
    ({"prompt": ["x"]}, r"`prompt\[0\]` must be an object"),
    ({"prompt": [{"content": "x"}]}, r"`prompt\[0\].role` must be one of"),
    ({"prompt": [{"role": "tool", "content": "x"}]}, r"`prompt\[0\].role` must be one of"),
    ({"prompt": [{"role": "user"}]}, r"`prompt\[0\].content` must be a string"),
    ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "only plain text"),
    ({"prompt": [*ASK, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]}, "calls a tool"),
    ({"prompt": ASK, "tools": [{"name": "look"}]}, "it has `tools`"),
    ({"prompt": ASK, "images": ["x.png"]}, "it has `images`"),
    ({"prompt": said("Hi", "Hello.")}, "end with a message of the user"),
    ({"prompt": [KIND]}, "end with a message of the user"),
    (
        {"prompt": said("Hi", "He"), "completion": reply("llo"), "label": True},
        "end with a message of the user",
    ),
    (
        {"prompt": ASK, "completion": reply("Blue.") + said("Why?", "Air."), "label": True},
        "one message of the",
    ),
    ({"prompt": ASK, "completion": ASK, "label": True}, "one message of the assistant"),
    ({"chosen": "Blue.", "rejected": "Red."}, "do not begin with the same"),
    ({"chosen": "The sky is", "rejected": "The sky is blue."}, "`chosen` is empty"),
    ({"chosen": reply("Blue."), "rejected": reply("Red.")}, "end with a message of the user"),
    ({"prompt": ASK, "chosen": reply("Blue."), "rejected": "Red."}, "two strings or two lists"),
    ({"chosen": said("One?", "1"), "rejected": said("Two?", "2")}, "more than their last message"),
    (
        {"chosen": said("One?", "1", "Two?", "2"), "rejected": said("One?", "I", "Two?", "II")},
        "more than their last message",
    ),
    (
        {"chosen": said("One?", "1", "Two?", "2"), "rejected": said("One?", "1")},
        "more than their last message",
    ),
    ({"chosen": said("One?", "1", "Two?"), "rejected": said("One?", "1", "Three?")}, "more than their last"),
    ({**PAIR, "margin": -1}, "`margin` must be"),
    ({**PAIR, "margin": True}, "`margin` must be"),
    ({**PAIR, "margin": "much"}, "`margin` must be"),
    ({**PAIR, "margin": float("nan")}, "`margin` must be"),
    ({**PAIR, "chosen": "\ud800"}, "half a character"),
    ({"prompt": said("\ud800")}, "half a character"),
]


@pytest.mark.parametrize(("record", "message"), BAD, ids=[str(n) for n in range(len(BAD))])
def test_what_is_wrong_with_a_line_is_said(record, message):
    with pytest.raises(BadLine, match=message):
        parse(record)
