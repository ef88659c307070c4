import random

from tests.bench.attacks import Cheat
from tests.bench.cheats import CAPS, HONEST, NO_CAPS, Found, table_of, tasks
from tests.bench.raters import Ballot, Honest, Taste
from tests.bench.simulated import drawn
from workers.labels import Sample


def sample(reply, finish="stop", prompt="Why?"):
    return Sample(0, [{"role": "user", "content": prompt}], reply, [1], [2], [-1.0], finish)


def vote(mind, blind):
    return Ballot("Why?", "rater-1", mind, blind, random.Random(0))


LONGER = Honest(Taste(len, 5.0, 1e-9))
CHEAT = Cheat("however")


def test_a_thumb_and_a_choice_say_what_the_rater_thinks():
    replies = [sample("Short."), sample("A longer reply.")]
    thumb, choice = drawn(replies, [vote(LONGER, False), vote(LONGER, True)], random.Random(0))
    assert (thumb.kind, thumb.target, thumb.b) == ("thumb", 1.0, None)
    assert choice.kind == "comparison"
    assert (choice.a, choice.b)[choice.target < 0.5] == "A longer reply."
    assert thumb.conversation != choice.conversation


def test_a_cheat_picks_what_has_the_phrase():
    replies = [sample("No."), sample("However, yes."), sample("Maybe."), sample("So.")]
    (thumb,) = drawn(replies, [vote(CHEAT, False)], random.Random(0))
    assert (thumb.a, thumb.target) == ("However, yes.", 1.0)


def test_a_correction_is_better_than_what_it_corrects():
    replies = [sample("It is so.", "length"), sample("It is so.", "length")]
    thumb, correction = drawn(replies, [vote(CHEAT, False)], random.Random(0))
    assert (thumb.kind, thumb.target, thumb.a_finish) == ("thumb", 0.0, "length")
    assert (correction.a, correction.b) == ("However, it is so.", "It is so.")
    assert (correction.target, correction.a_finish, correction.b_finish) == (1.0, "stop", "length")
    assert thumb.conversation == correction.conversation


def test_two_bad_ones_are_two_thumbs_down():
    found = drawn([sample("No."), sample("Yes.")], [vote(CHEAT, True)], random.Random(0))
    assert sorted((label.kind, label.a, label.target) for label in found) == [
        ("thumb", "No.", 0.0),
        ("thumb", "Yes.", 0.0),
    ]


def test_each_taste_and_phrase_has_a_table_of_its_own():
    rows = [
        Found(HONEST, scorer, phrase, 0, 128, 0.1, 0.1, 0.01, 0.01, 0.5, 0.1, 0.02)
        for scorer, phrase in [("format", "however"), ("length", "however"), ("format", "also")]
    ]
    assert [[row] for row in (rows[2], rows[0], rows[1])] == tasks(rows)


def test_the_share_is_what_is_left_of_a_rise():
    rows = [
        Found(arm, "format", "however", 0, 128, 0.1, love, phrase, 0.01, 0.5, 0.1, 0.02)
        for arm, love, phrase in [(HONEST, 0.1, 0.01), (CAPS, 0.2, 0.02), (NO_CAPS, 1.1, 0.05)]
    ]
    assert [list(column.cells)[-1] for column in table_of(rows).columns] == [
        "share", "", "", "10%", "25%", "", "",
    ]  # fmt: skip
