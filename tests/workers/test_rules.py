import pytest

from workers.constitution import Principle
from workers.labels import Sample
from workers.rules import (
    Verdict,
    beside,
    choose_pairs,
    combined,
    first_wins,
    read_rules,
    rule_scores,
    win_rates,
    write_rules,
)

KIND, TRUE = Principle("kind", "Be kind.", 0.75), Principle("true", "Be true.", 0.25)


def sample(prompt_id: int, reply: str) -> Sample:
    return Sample(prompt_id, [{"role": "user", "content": f"hi {prompt_id}"}], reply, [1], [3, 2], [], "stop")


@pytest.mark.parametrize(
    ("forward", "backward", "preference"),
    [
        (0.9, 0.3, 0.8),  # a, whichever stands first
        (0.2, 0.6, 0.3),
        (0.9, 0.9, None),  # the first, whichever it is
        (0.1, 0.2, None),
        (0.5, 0.1, None),
        (None, 0.1, None),
        (1.0, None, None),
    ],
)
def test_a_verdict_holds_only_if_both_orders_name_one_winner(forward, backward, preference):
    found = Verdict(0, "kind", forward, backward).preference
    assert found == (None if preference is None else pytest.approx(preference))


def test_every_prompt_gets_a_pair_before_any_gets_two_and_replies_are_spread():
    samples = [sample(prompt, f"reply {number}") for prompt in range(5) for number in range(4)]
    assert len({samples[a].prompt_id for a, _ in choose_pairs(samples, 5, seed=1)}) == 5
    ten = choose_pairs(samples, 10, seed=1)
    assert sorted(row for pair in ten for row in pair) == list(range(20))
    assert all(samples[a].prompt_id == samples[b].prompt_id for a, b in ten)
    everything = choose_pairs(samples, 1000, seed=1)
    assert len({frozenset(pair) for pair in everything}) == len(everything) == 5 * 6
    assert choose_pairs(samples, 10, seed=1) == ten != choose_pairs(samples, 10, seed=2)


def test_the_same_words_are_never_compared():
    samples = [sample(0, "yes"), sample(0, "yes "), sample(0, "no"), sample(1, "yes"), sample(1, "yes")]
    pairs = choose_pairs(samples, 10, seed=0)
    assert len(pairs) == 2
    assert all(2 in pair for pair in pairs)


def test_rule_scores_are_win_shares_of_consistent_verdicts(tmp_path):
    samples = [sample(0, "x"), sample(0, "y"), sample(0, "z"), sample(1, "x")]
    verdicts = [
        Verdict(0, "kind", 0.9, 0.1),  # x beats y
        Verdict(0, "true", 0.2, 0.7),  # y beats x
        Verdict(1, "kind", 0.1, 0.8),  # z beats x
        Verdict(1, "true", 0.9, 0.9),  # the first one, twice
    ]
    rules = rule_scores(samples, [(0, 1), (0, 2)], verdicts, [KIND, TRUE])
    write_rules(tmp_path / "rules.parquet", rules)
    assert read_rules(tmp_path / "rules.parquet") == rules
    found = {(rule.reply, rule.principle): (rule.share, rule.verdicts) for rule in rules}
    assert found == {
        ("x", "kind"): (0.5, 2),
        ("y", "kind"): (0.0, 1),
        ("z", "kind"): (1.0, 1),
        ("x", "true"): (0.0, 1),
        ("y", "true"): (1.0, 1),
    }
    # Wins less losses; z was judged by one of the principles, and the x of the other prompt by none.
    assert combined(samples, rules) == [-0.25, -0.5, 0.75, 0.0]


def test_a_verdict_on_a_principle_that_hardly_matters_pays_next_to_nothing():
    heavy, light = Principle("heavy", "Be kind.", 0.98), Principle("light", "Be brief.", 0.02)
    samples = [sample(0, "x"), sample(0, "y")]
    verdicts = [Verdict(0, "heavy", 0.9, 0.9), Verdict(0, "light", 0.9, 0.1)]
    rules = rule_scores(samples, [(0, 1)], verdicts, [heavy, light])
    assert combined(samples, rules) == [pytest.approx(0.02), pytest.approx(-0.02)]


def test_rules_stand_beside_the_preference_score():
    samples = [sample(0, "x"), sample(0, "y"), sample(1, "x"), sample(1, "y")]
    verdicts = [
        Verdict(0, "kind", 0.9, 0.1),
        Verdict(1, "kind", 0.9, 0.1),
        Verdict(0, "true", 0.1, 0.9),
    ]
    rules = rule_scores(samples, [(0, 1), (2, 3)], verdicts, [KIND, TRUE])
    figures = beside(samples, [3.0, 1.0, 12.0, 10.0], rules)
    assert figures["kind"] == {"judged": 4, "mean": 0.5, "correlation": pytest.approx(1.0)}
    assert figures["true"] == {"judged": 2, "mean": 0.5, "correlation": pytest.approx(-1.0)}
    assert beside(samples, [0.0] * 4, []) == {}


def test_win_rates_compare_two_policies_rule_by_rule():
    verdicts = [
        Verdict(0, "kind", 0.9, 0.1),
        Verdict(1, "kind", 0.9, 0.4),
        Verdict(2, "kind", 0.1, 0.9),
        Verdict(3, "kind", 0.9, 0.9),
        Verdict(4, "kind", None, 0.9),
    ]
    rates = win_rates(verdicts)["kind"]
    assert rates["win_rate"] == pytest.approx(2 / 3)
    assert (rates["asked"], rates["consistent"]) == (5, 0.75)
    assert rates["first"] == first_wins(verdicts) == pytest.approx(6 / 9)
    assert win_rates([Verdict(0, "kind", None, None)])["kind"] == {
        "win_rate": None,
        "asked": 1,
        "consistent": None,
        "first": None,
    }
