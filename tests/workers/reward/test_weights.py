import random
from dataclasses import replace

import numpy as np
import pytest

from workers.labels import Label
from workers.reward.weights import (
    LEVERAGE,
    RISE,
    balanced,
    beside_ai,
    burst_shares,
    capped,
    drawn,
    one_vote,
    rater_shares,
    vote_shares,
    weigh,
    weigh_each,
)

WORDS = [f"word{number}" for number in range(400)]
DICE = random.Random(0)


def text(count: int = 20) -> str:
    return " ".join(DICE.choices(WORDS, k=count))


def thumb(
    rater: str, reply: str | None = None, up: bool = True, time: float = 0.0, asked: str = "hi"
) -> Label:
    said = text() if reply is None else reply
    messages = [{"role": "user", "content": asked}]
    return Label("thumb", messages, said, None, float(up), rater=rater, time=time)


def pair(rater: str, a: str, b: str, target: float = 1.0, time: float = 0.0) -> Label:
    return Label("comparison", [{"role": "user", "content": "hi"}], a, b, target, rater=rater, time=time)


def shares(labels: list[Label], cap: float = 0.02) -> dict[str, float]:
    kept, _ = weigh(labels, cap, 0.5)
    return dict(rater_shares(np.array([label.weight for label in kept]), [label.rater for label in kept]))


def test_of_votes_on_one_reply_or_one_pair_in_any_order_the_newest_counts():
    old, new = thumb("ann", "nice", up=True, time=1), thumb("ann", "nice", up=False, time=2)
    first, second = pair("ann", "x", "y", 1.0, time=3), pair("ann", "y", "x", 1.0, time=4)
    bob = thumb("bob", "nice")
    assert one_vote([new, old, first, second, bob]) == [new, second, bob]
    other = thumb("ann", "nice", asked="another question")
    assert one_vote([new, other]) == [new, other]


def test_a_burst_of_near_copies_weighs_as_much_as_one_label():
    reply = text(60)
    copies = [thumb("ann", f"{reply} v{number}", time=60.0 * number) for number in range(5)]
    assert burst_shares([*copies, thumb("ann", time=10)]).tolist() == pytest.approx([0.2] * 5 + [1.0])
    kept, _ = weigh([*copies, thumb("bob")], 1.0, 0.5)
    assert [label.weight for label in kept] == pytest.approx([0.2 * 6 / 2] * 5 + [6 / 2])


def test_what_is_no_burst_counts_in_full():
    reply = text(60)
    half = " ".join(reply.split()[:30])
    apart = [
        [thumb("ann", reply), thumb("bob", reply)],  # agreement
        [thumb("ann", reply), thumb("ann", f"{reply} more", up=False)],  # another verdict
        [thumb("ann", reply), thumb("ann", f"{reply} more", time=7200)],  # another day
        [thumb("ann", reply), thumb("ann", half)],  # other words
        [thumb("ann", "Yes."), thumb("ann", "Yes.", asked="is it raining here now")],  # another answer
        [thumb("ann", reply), pair("ann", f"{reply} more", text())],  # another kind
    ]
    for labels in apart:
        assert burst_shares(labels).tolist() == [1.0, 1.0], labels


def test_a_comparison_is_a_copy_whichever_side_its_replies_are_on():
    a, b = text(60), text(60)
    assert burst_shares([pair("ann", a, b, 1.0), pair("ann", f"{b} x", a, 0.0)]).tolist() == [0.5, 0.5]
    assert burst_shares([pair("ann", a, b, 1.0), pair("ann", f"{b} x", a, 1.0)]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("changed", "burst"), [(3, True), (12, False)])
def test_near_copies_are_found_up_to_the_edge_that_is_named(changed, burst):
    """Each changed word changes three of 198 runs of three: 9 or 36, so that 0.91 or 0.69 is shared."""
    words = [f"w{number}" for number in range(200)]
    other = [f"v{n}" if n % 16 == 7 and n // 16 < changed else word for n, word in enumerate(words)]
    found = burst_shares([thumb("ann", " ".join(words)), thumb("ann", " ".join(other))])
    assert found.tolist() == ([0.5, 0.5] if burst else [1.0, 1.0])


def test_thumbs_do_not_drown_comparisons_nor_the_other_way_round():
    def share(pairs: int, thumbs: int, wanted: float = 0.5) -> tuple[float, float]:
        kinds = [True] * pairs + [False] * thumbs
        weights = balanced(np.ones(len(kinds)), kinds, wanted)
        return float(weights[kinds].sum() / weights.sum()), float(weights.sum())

    assert share(100, 300) == (pytest.approx(0.5), pytest.approx(400))
    assert share(100, 300, wanted=0.25)[0] == pytest.approx(0.25)
    assert share(50, 1000)[0] == pytest.approx(50 * LEVERAGE / (50 * LEVERAGE + 1000))
    assert share(1000, 50)[0] == pytest.approx(1000 / (1000 + 50 * LEVERAGE))
    assert share(7, 0) == (1.0, 7.0)


def test_no_rater_has_more_than_the_cap_of_what_is_left():
    raters = ["loud"] * 300 + ["keen"] * 60 + [f"r{number}" for number in range(200) for _ in range(3)]
    weights, held = capped(np.ones(len(raters)), raters, 0.02)
    after = rater_shares(weights, raters)
    assert held == pytest.approx(0.02)
    assert after["loud"] == pytest.approx(0.02)
    assert after["keen"] == pytest.approx(0.02)
    assert weights[-600:].tolist() == [1.0] * 600, "the others keep what they have"


def test_a_cap_that_nobody_reaches_changes_nothing():
    raters = [f"r{number % 60}" for number in range(240)]
    weights, held = capped(np.ones(240), raters, 0.02)
    assert weights.tolist() == [1.0] * 240
    assert held == pytest.approx(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("cap", [0.02, 0.05, 0.3])
def test_the_cap_holds_wherever_it_can(cap):
    dice = np.random.default_rng(1)
    for _ in range(50):
        count = int(np.ceil(1 / cap)) + int(dice.integers(0, 40))
        raters = [f"r{number}" for number in range(count) for _ in range(int(dice.pareto(0.7)) + 1)]
        weights, _ = capped(dice.uniform(0.1, 1, len(raters)), raters, cap)
        assert max(rater_shares(weights, raters).values()) <= cap * (1 + 1e-9)


def test_where_raters_are_too_few_for_the_cap_none_has_more_than_the_one_in_the_middle():
    raters = ["loud"] * 40 + ["a"] * 4 + ["b"] * 5 + ["c"] * 6 + ["shy"]
    weights, held = capped(np.ones(len(raters)), raters, 0.02)
    totals = {rater: share * weights.sum() for rater, share in rater_shares(weights, raters).items()}
    assert totals == pytest.approx({"loud": 5, "a": 4, "b": 5, "c": 5, "shy": 1})
    assert held == pytest.approx(5 / 20)
    alone, held = capped(np.ones(3), ["me"] * 3, 0.02)
    assert alone.tolist() == [1.0, 1.0, 1.0]
    assert held == 1.0


def test_a_label_of_a_passer_by_does_not_weigh_as_much_as_dozens_of_those_who_test_for_long():
    raters = [f"passer-{number}" for number in range(30)]
    raters += [f"tester-{number}" for number in range(5) for _ in range(100)]
    weights, held = capped(np.ones(530), raters, 0.02)
    assert weights.max() / weights.mean() == pytest.approx(RISE)
    after = rater_shares(weights, raters)
    assert after["tester-0"] == after["tester-4"] == pytest.approx((1 - 30 * RISE / 530) / 5) == held


@pytest.mark.parametrize("votes", [60, 300, 3000])
def test_however_much_a_few_shout_they_come_to_their_fair_share(votes):
    raters = [f"h{number}" for number in range(38) for _ in range(3)]
    raters += [f"cheat{number % 2}" for number in range(votes)]
    weights, _ = capped(np.ones(len(raters)), raters, 0.02)
    cheats = sum(share for rater, share in rater_shares(weights, raters).items() if "cheat" in rater)
    assert cheats == pytest.approx(2 / 40)


@pytest.mark.parametrize(("honest", "cheats", "most"), [(19, 1, 0.055), (38, 2, 0.055), (95, 5, 0.1)])
def test_a_twentieth_of_the_raters_with_a_third_of_the_votes_come_to_what_the_cap_says(honest, cheats, most):
    labels = [thumb(f"h{number}") for number in range(honest) for _ in range(7)]
    stuffed = round(len(labels) * 0.3 / 0.7)
    labels += [thumb(f"cheat{n % cheats}", f"{text()} buy gold now", time=n) for n in range(stuffed)]
    before = sum(label.rater.startswith("cheat") for label in labels) / len(labels)
    after = sum(share for rater, share in shares(labels).items() if rater.startswith("cheat"))
    assert before == pytest.approx(0.3, abs=0.01)
    assert after <= most * (1 + 1e-9)


def test_weights_are_one_on_average_and_the_report_says_what_was_done():
    copies = [thumb("loud", f"v{n} {' '.join(WORDS[:60])}", time=n) for n in range(30)]
    labels = [*copies, *(thumb("loud") for _ in range(20)), *(thumb(f"r{n % 70}") for n in range(210))]
    labels.append(labels[-1])
    kept, report = weigh(labels, 0.02, 0.5)
    assert np.mean([label.weight for label in kept]) == pytest.approx(1.0)
    assert (report.repeated, report.in_bursts) == (1, 30)
    assert report.capped == 50
    assert report.capped_raters == 1
    assert report.largest_share_before == pytest.approx(50 / 260)
    assert report.largest_share == pytest.approx(0.02) == report.cap
    assert weigh([], 0.02, 0.5)[0] == []


def test_labels_that_weigh_less_go_on_weighing_less():
    light = Label(**{**vars(thumb("ann")), "weight": 0.25})
    kept, _ = weigh([light, thumb("bob")], 1.0, 0.5)
    assert kept[1].weight == pytest.approx(4 * kept[0].weight)


def test_a_rater_who_rules_only_one_part_of_what_is_learnt_is_levelled_there():
    members = [thumb(f"r{n % 60}") for n in range(240)]
    judge = [*(thumb("loud") for _ in range(60)), *(thumb(f"r{n}") for n in range(60))]
    weighed, report = weigh_each([members, [], judge], 0.02, 0.5)
    assert [label.a for label in weighed] == [label.a for label in [*members, *judge]]
    mine = sum(label.weight for label in weighed if label.rater == "loud")
    assert mine / sum(label.weight for label in weighed[240:]) == pytest.approx(0.02)
    assert report.largest_share_before == pytest.approx(1 / 6)
    assert report.largest_share < 0.02
    assert np.mean([label.weight for label in weighed]) == pytest.approx(1.0)
    assert (report.capped, report.capped_raters) == (60, 1)
    assert weigh_each([[], []], 0.02, 0.5)[0] == []


def test_a_loud_rater_does_not_crowd_the_others_out_of_what_is_drawn():
    labels = [thumb(f"r{n}", time=n) for n in range(20) for _ in range(2)]
    labels += [thumb("loud", time=100 + n) for n in range(500)]
    found = drawn(labels, 50, 1)
    assert [sum(label.rater == rater for label in found) for rater in ("loud", "r0", "r19")] == [10, 2, 2]
    assert found == sorted(found, key=lambda label: label.time)
    assert drawn(labels, 50, 1) == found != drawn(labels, 50, 2)
    assert drawn(labels, 1000, 1) == labels
    assert drawn(labels, 0, 1) == []


def by_ai(weight: float) -> Label:
    return replace(pair("judge", text(), text()), source="ai", weight=weight)


def test_comparisons_by_ai_leave_the_kinds_balanced_and_weigh_less_than_peoples():
    people, _ = weigh(
        [*(thumb(f"t{n}") for n in range(30)), *(pair(f"p{n}", text(), text()) for n in range(10))], 1.0, 0.5
    )
    found = beside_ai([*people, *(by_ai(0.5) for _ in range(20))])
    pairs = [label.weight for label in found if label.kind == "comparison"]
    thumbs = [label.weight for label in found if label.kind == "thumb"]
    assert sum(thumbs) == pytest.approx(sum(pairs))
    assert [label.weight for label in found if label.source == "ai"] == [0.5] * 20
    assert min(pairs) == 0.5 < min(weight for weight in pairs if weight != 0.5)
    assert beside_ai(people) == people, "without any nothing changes"


def test_beside_many_by_ai_few_comparisons_of_people_lend_thumbs_no_more_than_they_can_bear():
    people = [thumb("ann"), pair("bob", text(), text())]
    found = beside_ai([*people, *(by_ai(0.5) for _ in range(100))])
    assert found[0].weight == LEVERAGE
    thumbs = [thumb("ann"), by_ai(0.5)]
    assert beside_ai(thumbs) == thumbs, "people compared nothing"


def test_what_a_rater_says_of_one_reply_in_several_ways_is_one_vote():
    """A thumb down, the correction that beats it, a choice against it; another reply, another rater."""
    rows = [
        thumb("ann", "no", up=False),
        pair("ann", "a better one", "no"),
        pair("ann", "no", "yes", 0.0),
        thumb("ann", "something else"),
        thumb("ben", "no", up=False),
        thumb("ann", "no", up=False, asked="what else?"),
    ]
    third = pytest.approx(1 / 3)
    assert vote_shares(rows).tolist() == [third, third, third, 1.0, 1.0, 1.0]
    weighed, report = weigh(rows, 1.0, 0.5)
    assert weighed[4].weight == pytest.approx(3 * weighed[0].weight)
    assert report.in_bursts == 0
