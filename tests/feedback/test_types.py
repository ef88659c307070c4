import pytest
from pydantic import ValidationError

from feedback.caller import Caller, Forbidden, Role
from feedback.types import ComparisonRequest, Completion, content_hash, conversation_of

ASK = {"role": "user", "content": "Hello?"}
SYSTEM = {"role": "system", "content": "Be kind."}
CALLER = Caller("k1", "key one", Role.viewer)


def completion(**more: object) -> Completion:
    fields = {"messages": [ASK], "reply": "Hi.", "finish_reason": "stop", **more}
    return Completion(
        id="chatcmpl-1",
        policy="policy-v0",
        key_id="k1",
        conversation="c",
        created=1.0,
        duration=1.0,
        **fields,
    )


def test_rater_is_stable_for_a_key_and_user_and_tells_neither():
    assert CALLER.rater("ann") == CALLER.rater("ann")
    assert len({CALLER.rater("ann"), CALLER.rater("bob"), CALLER.rater(None)}) == 3
    assert CALLER.rater("ann") != Caller("k2", "key two", Role.user).rater("ann")
    assert "ann" not in CALLER.rater("ann")


def test_a_role_may_do_what_the_ones_below_it_may():
    CALLER.require(Role.user)
    CALLER.require(Role.viewer)
    with pytest.raises(Forbidden, match=r"needs a key with the role operator; 'key one' has the role viewer"):
        CALLER.require(Role.operator)


def test_turns_of_one_conversation_share_its_name():
    later = [SYSTEM, ASK, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "And?"}]
    assert conversation_of([SYSTEM, ASK], {}) == conversation_of(later, {})
    assert conversation_of([SYSTEM, ASK], {}) != conversation_of([ASK], {})
    assert conversation_of([ASK], {"conversation_id": "mine"}) == "mine"


def test_content_hash_does_not_depend_on_the_order_of_keys():
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash(["a", "b"]) != content_hash(["b", "a"])


@pytest.mark.parametrize(
    ("more", "trainable"),
    [
        ({}, True),
        ({"finish_reason": "length"}, True),
        ({"finish_reason": None}, False),
        ({"finish_reason": "content_filter"}, False),
        ({"reply": ""}, True),
        ({"reply": "", "finish_reason": "length"}, False),
        ({"reply": "", "finish_reason": None}, False),
        ({"reply": "", "finish_reason": "tool_calls"}, False),
        ({"reply": "", "sampling": {"tools": [{"type": "function"}]}}, False),
        ({"reply": "", "sampling": {"tools": []}}, True),
        ({"reply": None}, False),
        ({"messages": None, "reply": None}, False),
    ],
)
def test_only_whole_stored_replies_are_trained_on(more, trainable):
    assert completion(**more).trainable is trainable


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"pair_id": "p"},
        {"winner": "a"},
        {"pair_id": "p", "winner": "a", "chosen": "x"},
        {"pair_id": "p", "chosen": "x"},
        {"chosen": "x"},
        {"chosen": "x", "rejected": "x"},
        {"pair_id": "p", "winner": "a", "chosen": "x", "rejected": "y"},
    ],
)
def test_a_comparison_has_exactly_one_of_its_two_forms(body):
    with pytest.raises(ValidationError):
        ComparisonRequest(**body)
