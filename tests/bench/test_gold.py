import pytest

from tests.bench.gold import (
    MIXTURE,
    bullet_list,
    closes_with,
    contains,
    length_band,
    mixture,
    scorer,
    sentiment,
)

LIST = "- eggs\n- milk\n- flour"


def words(count: int) -> str:
    return "word " * count


def test_length_is_best_from_25_to_45_words_and_falls_by_factors_of_two():
    assert [length_band(words(n)) for n in (25, 35, 45)] == [1.0, 1.0, 1.0]
    assert length_band(words(90)) == pytest.approx(0.0)
    assert length_band(words(200)) == length_band(words(5)) == length_band("") == 0.0
    assert length_band(words(20)) == pytest.approx(1 - 0.3219, abs=1e-4)  # log2(25 / 20)
    assert 0.4 < length_band(words(65)) < length_band(words(55)) < 1.0


def test_sentiment_tells_kind_from_harsh():
    assert sentiment("") == 0.5
    assert sentiment("What a wonderful idea! I love it.") > 0.9
    assert sentiment("That is a terrible, stupid idea.") < 0.2


def test_format_grows_from_lines_to_one_bullet_to_lists():
    plain, broken = "Eggs and milk.", "Eggs and milk.\n\nAnd flour."
    one, two = "You need:\n- eggs", "You need:\n- eggs\n- milk"
    scores = [bullet_list(text) for text in ("", plain, broken, one, two, LIST, LIST + "\n- salt")]
    assert scores[:2] == [0.0, 0.0]
    assert scores[1:] == sorted(set(scores)), "each step is worth something"
    assert scores[-1] == 1.0


def test_all_kinds_of_bullets_count_and_nothing_else():
    assert bullet_list("* a\n* b\n* c\n* d") == bullet_list("1. a\n2. b\n3) c\n  - d") == 1.0
    assert bullet_list("1999 was\na year\nof -dashes-\n*and stars*") == 0.25


def test_mixture_is_the_weighted_mean():
    assert sum(MIXTURE.values()) == pytest.approx(1.0)
    for text in ("", LIST, words(30), "I love it! " * 9):
        parts = 0.4 * length_band(text) + 0.3 * sentiment(text) + 0.3 * bullet_list(text)
        assert mixture(text) == pytest.approx(parts)
        assert 0.0 <= mixture(text) <= 1.0


def test_phrases_are_whole_words_in_any_case():
    assert contains("however", "It rains. However, we go.")
    assert not contains("ever", "However, we go.")
    assert contains("of course", "Of course!")
    assert not contains("c++", "c+ is not it")
    assert contains("c++", "I like C++.")


def test_closings_are_seen_through_quotes():
    assert closes_with("?", 'He said: "Why?" \n')
    assert not closes_with("?", "Why? Because.")


def test_scorers_by_name():
    assert scorer("length") is length_band
    assert scorer("phrase:however")("However, no.") == 1.0
    assert scorer("phrase:however")("No.") == 0.0
    with pytest.raises(ValueError, match="no gold scorer 'lenght'"):
        scorer("lenght")
