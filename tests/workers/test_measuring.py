import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from workers.evidence import LengthTaste, Quality, Sides
from workers.gate import Limits, judge_candidate, over_optimised
from workers.labels import Label, Sample
from workers.measuring import Measured, Ruler, Side, judge_quality, length_taste, weigh

RULER = Ruler(confidence=0.8, min_prompts=4)
FINE = Measured(kl_base=0.1, kl_champion=0.1, nll=Sides(2.0, 2.0), probes={})
GOOD_JUDGE = Quality(0.8, (0.7, 0.9), 50)


def reply(prompt: int, text: str) -> Sample:
    return Sample(prompt, [], text, [1], [2], [0.0], "stop")


def side(
    texts: list[str], judge: list[float], members: list[tuple[float, float]] | None = None, k: int = 2
) -> Side:
    """`k` replies a prompt; the members say what the judge says unless told otherwise."""
    samples = [reply(row // k, text) for row, text in enumerate(texts)]
    scored = np.array(members or [(value, value) for value in judge])
    return Side(samples, scored, np.array(judge))


def words(n: int, salt: int) -> str:
    return " ".join(f"w{salt}-{i}" for i in range(n))


def test_what_is_weighed_reaches_the_gate_and_the_metrics():
    candidate = side([words(10, i) for i in range(12)], [1.0] * 12)
    champion = side([words(15, 50 + i) for i in range(12)], [0.0, 2.0] * 6)
    evidence, figures = weigh(candidate, champion, FINE, GOOD_JUDGE, None, RULER)
    assert (evidence.raw.value, evidence.raw.prompts) == (0.5, 6)
    assert evidence.words == Sides(10.0, 15.0)
    assert figures["win_rate"] == 0.5
    assert figures["length_tolerance"] == 0.35, "nothing is alike within a quarter"
    assert (figures["length_matched_prompts"], figures["length_matched_pairs"]) == (6, 24)
    assert figures["rewards"]["judge"] == {"candidate": 1.0, "champion": 1.0, "std": 1.0, "gain": 0.0}
    assert figures["words"] == {"candidate": 10.0, "champion": 15.0}
    assert figures["reference_nll_rise"] == 0.0


def test_a_reply_twice_as_long_is_not_of_like_length():
    candidate = side([words(20, i) for i in range(12)], [1.0] * 12)
    champion = side([words(10, 50 + i) for i in range(12)], [0.0] * 12)
    assert weigh(candidate, champion, FINE, GOOD_JUDGE, None, RULER)[0].matched is None


def test_the_tolerance_is_as_small_as_the_prompts_that_were_answered_allow():
    """Two prompts, fewer than are asked for, and both of like length."""
    one, other = side([words(10, i) for i in range(4)], [1.0] * 4), side(["a b c d e f g h i"] * 4, [0.0] * 4)
    assert weigh(one, other, FINE, GOOD_JUDGE, None, RULER)[1]["length_tolerance"] == 0.25


def test_a_gain_by_length_alone_is_none_at_like_length():
    """The judge pays for length. Every reply of the candidate is longer but for one a prompt, which ties."""
    candidate = side([words(n, i) for i in range(8) for n in (40, 10)], [40.0, 10.0] * 8)
    champion = side([words(n, 50 + i) for i in range(8) for n in (10, 10)], [10.0, 10.0] * 8)
    evidence, figures = weigh(candidate, champion, FINE, GOOD_JUDGE, None, RULER)
    assert (figures["win_rate"], figures["length_matched_win_rate"]) == (0.75, 0.5)
    assert not judge_candidate(evidence, Limits()).accepted
    proven = LengthTaste(0.8, (0.7, 0.9), 40)
    wanted, _ = weigh(candidate, champion, FINE, GOOD_JUDGE, proven, RULER)
    assert judge_candidate(wanted, Limits()).accepted


def test_a_planted_flaw_of_the_members_is_caught_before_it_is_promoted():
    """The members love a closing; the candidate learned to append it; the judge, which learned from other
    conversations, is indifferent. Of many such candidates next to none may pass, though by the judge alone
    one in ten would."""
    dice, passed, alone = np.random.default_rng(1), 0, 0
    for _ in range(60):
        judge = dice.normal(size=(2, 120))
        love = [(value + 5.0, value + 5.0) for value in judge[0]]
        candidate = side(
            [f"{words(8, i)} Hope this helps!" for i in range(120)], judge[0].tolist(), love, k=3
        )
        champion = side([words(11, 200 + i) for i in range(120)], judge[1].tolist(), k=3)
        evidence, _ = weigh(candidate, champion, FINE, GOOD_JUDGE, None, RULER)
        assert any("end like" in sign for sign in over_optimised(evidence, Limits()))
        alone += evidence.raw.interval[0] > 0.5
        passed += judge_candidate(evidence, Limits()).accepted
    assert alone >= 3
    assert passed <= 1


def test_members_that_spread_are_seen_with_an_interval():
    champion = side([words(9, i) for i in range(16)], [0.0] * 16, [(0.0, 1.0)] * 16)
    candidate = side([words(9, 50 + i) for i in range(16)], [0.1] * 16, [(1.0, 4.0)] * 16)
    evidence, figures = weigh(candidate, champion, FINE, GOOD_JUDGE, None, RULER)
    assert evidence.disagreement == Sides(1.5, 0.5)
    assert evidence.disagreement_rise == (2.0, 2.0)
    assert figures["disagreement"]["rise_interval"] == [2.0, 2.0]
    assert any("disagree more" in sign for sign in over_optimised(evidence, Limits()))
    one = side([words(9, i) for i in range(16)], [0.0] * 16, [(0.0, 0.0)] * 16)
    assert weigh(one, one, FINE, GOOD_JUDGE, None, RULER)[0].disagreement_rise == (0.0, 0.0)


def test_the_member_that_likes_it_least_is_measured_alone():
    """One gains three where the other loses one: their mean rises, and they disagree more."""
    champion = side([words(9, i) for i in range(16)], [0.0] * 16, [(0.0, 1.0)] * 16)
    candidate = side([words(9, 50 + i) for i in range(16)], [1.0] * 16, [(3.0, 0.0)] * 16)
    evidence, figures = weigh(candidate, champion, FINE, GOOD_JUDGE, None, RULER)
    assert (evidence.members.value, evidence.doubter.value) == (1.0, 0.0)
    assert figures["doubter_win_rate"] == 0.0
    verdict = judge_candidate(evidence, Limits())
    assert [reason for reason in verdict.reasons if reason.startswith("over-optimised: ")]
    alike = side([words(9, 50 + i) for i in range(16)], [1.0] * 16, [(3.0, 4.0)] * 16)
    assert weigh(alike, champion, FINE, GOOD_JUDGE, None, RULER)[0].doubter.value == 1.0


def test_the_judges_quality_is_its_share_of_right_labels():
    found = judge_quality({"pair_accuracy": 0.75, "pairs": 20, "thumb_auroc": 0.5, "thumbs": 20})
    assert (found.accuracy, found.labels) == (0.625, 40)
    assert found.interval[0] < 0.5 < found.interval[1]
    only_pairs = {"pair_accuracy": 0.75, "pairs": 20, "thumb_auroc": None, "thumbs": 3}
    assert judge_quality(only_pairs).labels == 20
    assert judge_quality({}) == Quality(None, (0.0, 1.0), 0)


def test_of_thumbs_that_are_nearly_all_up_few_tell_how_good_the_judge_is():
    judge = {"thumb_auroc": 0.3, "thumbs": 30}
    said = [thumb("a", number > 0, number) for number in range(30)]
    assert judge_quality(judge, said).labels == 2
    assert judge_quality(judge, [*said, *[thumb("a", False, number) for number in range(28)]]).labels == 30


def pair(a: str, b: str, target: float, number: int, **more: object) -> Label:
    return Label("comparison", [], a, b, target, conversation=str(number), **more)  # type: ignore[arg-type]


def thumb(a: str, up: bool, number: int) -> Label:
    return Label("thumb", [], a, None, float(up), conversation=str(number))


def test_people_who_like_the_shorter_one_are_heard_in_pairs_and_in_thumbs():
    pairs = [pair("a b c", "a", 0.0, number) for number in range(20)] + [pair("a", "a b", 0.0, 20)]
    found = length_taste(pairs, RULER)
    assert found is not None
    assert found.longer == pytest.approx(1 / 21)
    assert found.labels == 21
    assert found.interval[1] < 0.5
    thumbs = [thumb("a b c", False, number) for number in range(9)] + [thumb("a", True, 9)]
    heard = length_taste(thumbs, RULER)
    assert heard is not None
    assert (heard.longer, heard.labels) == (0.0, 10)


def test_nobody_is_heard_who_says_nothing_of_length():
    said = [
        pair("a b", "a", 0.5, 1),
        pair("a b", "c d", 1.0, 2),
        pair("a b", "a", 1.0, 3, source="ai"),
        pair("a b", "a", 1.0, 4, weight=0.0),
        thumb("a b", True, 5),
    ]
    assert length_taste(said, RULER) is None
    assert length_taste([*said, pair("a b", "a", 1.0, 6)], RULER) is None, "one conversation has no spread"


def test_a_label_weighs_what_it_weighs():
    labels = [pair("a b", "a", 1.0, number, weight=0.1) for number in range(30)]
    labels += [pair("a b", "a", 0.0, 100 + number) for number in range(10)]
    found = length_taste(labels, RULER)
    assert found is not None
    assert found.longer == pytest.approx(3 / 13)


def test_thumbs_that_say_nothing_of_length_seldom_seem_to():
    """At a confidence of 80 %; each thumb as if it were one of all would seem to in half of the draws."""
    dice, seemed = np.random.default_rng(5), 0
    for _ in range(200):
        thumbs = [thumb("w " * int(dice.integers(1, 60)), number < 32, number) for number in range(64)]
        found = length_taste(thumbs, RULER)
        assert found is not None
        seemed += not found.interval[0] <= 0.5 <= found.interval[1]
    assert RULER.confidence == 0.8
    assert 20 <= seemed <= 56


def test_replies_that_are_all_a_little_longer_win_nothing_by_that():
    """The judge pays for length alone, and all pairs are of like length within the tolerance."""
    dice = np.random.default_rng(6)

    def written(usual: float, first: int) -> Side:
        counts = [int(usual * dice.uniform(0.9, 1.1)) for _ in range(120)]
        texts = [words(count, first + number) for number, count in enumerate(counts)]
        return side(texts, [float(count) for count in counts], k=3)

    evidence, figures = weigh(written(48, 0), written(40, 500), FINE, GOOD_JUDGE, None, RULER)
    assert figures["win_rate"] > 0.9
    assert evidence.matched is not None
    assert not judge_candidate(evidence, Limits()).accepted


def test_thumbs_of_many_lengths_vote_as_pair_by_pair_and_not_each_with_each():
    dice = np.random.default_rng(0)
    thumbs = [thumb("w " * int(dice.integers(0, 9)), bool(dice.integers(2)), number) for number in range(200)]
    found = length_taste(thumbs, RULER)
    pairs = [
        (len(up.a.split()), len(down.a.split()))
        for up in thumbs if up.target for down in thumbs if not down.target
    ]  # fmt: skip
    auroc = np.mean([(up > down) + 0.5 * (up == down) for up, down in pairs])
    assert found is not None
    assert found.longer == pytest.approx(auroc, abs=0.001)
    few, many = (memory(lambda times=times: length_taste(thumbs * times, RULER)) for times in (5, 50))
    assert many < 20 * few, "not quadratic: with a number for each pair it would be a hundred times as much"


def memory(work: Callable[[], object]) -> int:
    """The most that Python and numpy hold while it works, bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
