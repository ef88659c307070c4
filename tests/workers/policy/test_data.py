import pytest
from transformers import AutoTokenizer

from workers.labels import Label, Sample, Score
from workers.policy import data as policy_data
from workers.policy.data import Tokens, best_and_worst, best_of, full_groups, preferences, thumbs, well_rated
from workers.stage import StageError

HI = [{"role": "user", "content": "hi"}]
END = 2


@pytest.fixture
def tokens(tiny_model) -> Tokens:
    return Tokens(AutoTokenizer.from_pretrained(tiny_model))


def scored(*rewards: list[float], fresh: int = 99) -> policy_data.Rollouts:
    """A prompt a list, the first `fresh` of them of this round; every reply is another one, but for those of
    equal reward."""
    rows = [
        (
            Sample(prompt, HI, "…", [1], [int(reward * 10) + 50], [-1.0], "stop", fresh=prompt < fresh),
            Score(reward, 0.0, [reward]),
        )
        for prompt, group in enumerate(rewards)
        for reward in group
    ]
    return policy_data.rollouts(rows)


def test_pairs_are_of_the_outermost_first_and_only_where_they_differ():
    data = scored([3, 1, 2, 0], [5, 5], [1, 2])
    assert best_and_worst(data, 1) == [(0, 3), (7, 6)]
    assert best_and_worst(data, 2) == [(0, 3), (2, 1), (7, 6)]
    assert best_and_worst(data, 9) == [(0, 3), (2, 1), (7, 6)]


def test_the_best_of_n_is_none_where_all_are_as_good():
    assert best_of(scored([3, 1], [5, 5], [1, 2])) == [0, 5]


def test_only_prompts_with_all_their_replies_make_groups():
    assert full_groups(scored([3, 1], [5], [1, 2])) == ([[0, 1], [3, 4]], 2)
    with pytest.raises(StageError, match="at least 2 replies"):
        full_groups(scored([3], [5]))


def test_this_round_says_how_many_replies_a_group_has_whatever_earlier_jobs_sampled():
    assert full_groups(scored([3, 1], [5], [1, 2, 3, 4], [2, 1], [7], fresh=2)) == (
        [[0, 1], [3, 4], [7, 8]],
        2,
    )
    assert full_groups(scored([3, 1], [1, 2, 3], fresh=0)) == ([[2, 3, 4]], 3), "there is none of this round"
    with pytest.raises(StageError, match="at least 2 replies"):
        full_groups(scored([3], [1, 2, 3], fresh=1))


def test_what_people_said_becomes_tokens_as_an_engine_writes_them(tokens, tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    labels = [
        Label("comparison", HI, "good", "bad", 0.0, b_finish="length"),
        Label("comparison", HI, "nice", "rude", 0.5),
        Label("thumb", HI, "lovely", None, 1.0),
        Label("thumb", HI, "grim", None, 0.0),
    ]
    (pair,) = preferences(labels, tokens, 0)
    assert pair.chosen.tokens == tokenizer.encode("bad")  # it was cut, so it does not end
    assert pair.rejected.tokens == [*tokenizer.encode("good"), END]
    assert pair.chosen.prompt == tokenizer.apply_chat_template(
        HI, add_generation_prompt=True, return_dict=False
    )
    assert [thumb.up for thumb in thumbs(labels, tokens, 0)] == [True, False]
    liked = well_rated(labels, tokens, 0)
    assert [tokenizer.decode(reply.tokens[:1]) for reply in liked] == ["lovely", "bad"]


def test_over_long_texts_are_cut_and_not_dropped(tokens):
    long = "good " * 600
    (thumb,) = thumbs([Label("thumb", [{"role": "user", "content": long * 2}], long, None, 1.0)], tokens, 0)
    assert len(thumb.reply.prompt) == policy_data.MAX_PROMPT
    assert len(thumb.reply.tokens) == policy_data.MAX_REPLY
    assert thumb.reply.tokens[-1] != END


def test_labels_are_drawn_by_their_weight_within_their_kind(tokens):
    light, heavy = (
        Label("thumb", HI, word, None, 1.0, weight=w) for word, w in (("good", 0.5), ("nice", 2.0))
    )
    others = [Label("comparison", HI, "good", "bad", 1.0, weight=99.0)] * 10
    taken = thumbs([light] * 200 + [heavy] * 200 + others, tokens, 1)
    count = sum(thumb.reply.tokens == tokens.reply(HI, "good", "stop").tokens for thumb in taken)
    assert count == pytest.approx(80, abs=20)
    assert len(taken) - count == pytest.approx(320, abs=20)
    assert thumbs([Label("thumb", HI, "good", None, 1.0, weight=0.0)] * 9, tokens, 1) == []
    assert len(preferences(others, tokens, 1)) == 10


def test_a_heavy_label_is_learnt_from_more_often_and_the_others_are_not_dropped(tokens):
    def choice(word: str, weight: float) -> Label:
        return Label("comparison", HI, word, "bad", 1.0, weight=weight)

    found = [
        sum(pair.chosen.tokens == tokens.reply(HI, word, "stop").tokens for pair in taken)
        for taken in (
            preferences([choice("good", 1.0)] * 92 + [choice("nice", 8.0)], tokens, n) for n in range(9)
        )
        for word in ("good", "nice")
    ]
    assert min(found[::2]) > 72, "of 92, a twelfth is the heavy one's"
    assert set(found[1::2]) <= {7, 8}


def test_a_thumb_of_either_kind_is_left_however_little_it_weighs(tokens):
    ups = [Label("thumb", HI, "good", None, 1.0, weight=1.0)] * 30
    down = Label("thumb", HI, "bad", None, 0.0, weight=0.1)
    for seed in range(20):
        assert [thumb.up for thumb in thumbs([*ups, down], tokens, seed)] == [True] * 30 + [False]


def test_an_empty_reply_is_its_end_of_turn_and_nothing_where_it_was_cut(tokens):
    def empty(finish: str) -> list[Label]:
        return [
            Label("thumb", HI, "", None, 0.0, a_finish=finish),
            Label("comparison", HI, "", "good", 0.0, a_finish=finish),
            Label("comparison", HI, "bad", "", 1.0, b_finish=finish),
        ]

    (down,) = thumbs(empty("stop"), tokens, 0)
    assert down.reply.tokens == [END]
    worse, better = preferences(empty("stop"), tokens, 0)
    assert worse.rejected.tokens == better.rejected.tokens == [END]
    liked = [Label("thumb", HI, "", None, 1.0), Label("comparison", HI, "", "bad", 1.0)]
    assert [reply.tokens for reply in well_rated(liked, tokens, 0)] == [[END], [END]]
    assert thumbs(empty("length"), tokens, 0) == preferences(empty("length"), tokens, 0) == []
