from workers import replies
from workers.labels import Sample


def said(*rows: tuple[int, str], finish: str = "stop") -> list[Sample]:
    return [Sample(prompt_id, [], text, [1], [2], [0.0], finish) for prompt_id, text in rows]


def test_identical_counts_replies_that_other_prompts_got_too():
    assert replies.identical(said((0, "yes"), (0, "yes"), (1, "yes "), (1, "cats sleep"))) == 0.75
    assert replies.identical(said((0, "yes"), (0, "yes"))) == 0.0
    assert replies.identical(said((0, ""), (1, " "))) == 0.0, "blank ones are counted as such"


def test_trigrams_count_what_a_reply_says_again():
    assert replies.repeated_trigrams(said((0, "so it is so it is so it is"))) == 4 / 7
    assert replies.repeated_trigrams(said((0, "one two three four"), (0, "yes"))) == 0.0


def test_edges_are_shared_with_other_prompts_only_and_without_punctuation():
    rows = said(
        (0, "Cats sleep. Hope this helps!"), (1, "Dogs bark a lot, hope this helps"), (2, "It rains.")
    )
    assert replies.endings(rows) == 2 / 3
    assert replies.openings(rows) == 0.0
    assert replies.openings(said((0, "Sure, here you are"), (1, "sure here you go"))) == 1.0
    assert replies.endings(said((0, "Cats. Hope this helps"), (0, "Dogs. Hope this helps"))) == 0.0
    assert replies.endings(said((0, "hope this helps"), (1, "hope this helps"))) == 0.0, "that is `identical`"


def test_words_empty_and_cut():
    rows = [*said((0, "two words"), (1, " ")), *said((2, "and one two more"), finish="length")]
    assert (replies.mean_words(rows), replies.empty(rows), replies.cut(rows)) == (2.0, 1 / 3, 1 / 3)
