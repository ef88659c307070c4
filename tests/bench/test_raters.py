import random
from collections import Counter

import pytest

from tests.bench.attacks import Cheat, Flawed, conversation_on, learner_of, with_closing, with_phrase
from tests.bench.experiment import cast
from tests.bench.raters import Honest, Reply, Taste, ballots, pair_accuracy, people, sigmoid, with_standard
from tests.bench.trial import Plan

DRAWS = 4000
TASTE = Taste(lambda reply: len(reply) / 10, standard=0.5, temperature=0.2)
BETTER, WORSE = Reply("x" * 6), Reply("x" * 4)
PROMPTS = [f"Question {number}?" for number in range(50)]


def share(said: list[str], what: str) -> float:
    return said.count(what) / len(said)


def test_honest_thumbs_follow_the_taste_and_the_raters_leniency():
    dice = random.Random(1)
    thumbs = [Honest(TASTE).rate(BETTER, dice).rating for _ in range(DRAWS)]
    assert share(thumbs, "up") == pytest.approx(sigmoid(0.5), abs=0.03)
    lenient = [Honest(TASTE, leniency=1.0).rate(BETTER, dice).rating for _ in range(DRAWS)]
    assert share(lenient, "up") == pytest.approx(sigmoid(1.5), abs=0.03)


def test_honest_choices_are_bradley_terry_and_equals_are_a_tie():
    dice = random.Random(2)
    said = [Honest(TASTE).choose(BETTER, WORSE, dice) for _ in range(DRAWS)]
    assert share(said, "a") == pytest.approx(sigmoid(1.0), abs=0.03)
    assert share(said, "tie") == 0.0
    assert Honest(TASTE).choose(BETTER, Reply("y" * 6), dice) == "tie"


def test_noise_turns_its_share_of_votes_round():
    sure = Taste(TASTE.score, standard=0.5, temperature=1e-4)
    dice = random.Random(3)
    thumbs = [Honest(sure, noise=0.25).rate(WORSE, dice).rating for _ in range(DRAWS)]
    assert share(thumbs, "up") == pytest.approx(0.25, abs=0.03)
    said = [Honest(sure, noise=0.25).choose(WORSE, BETTER, dice) for _ in range(DRAWS)]
    assert share(said, "a") == pytest.approx(0.25, abs=0.03)
    assert Honest(sure, noise=1.0).choose(BETTER, BETTER, dice) == "tie"


def test_extreme_gaps_do_not_overflow():
    assert sigmoid(-1e9) == pytest.approx(0.0)
    assert sigmoid(1e9) == 1.0


def test_people_differ_in_leniency_and_are_the_same_for_a_seed():
    crowd = people(400, TASTE, 0.1, spread=0.5, seed=4)
    assert len({person.name for person in crowd}) == 400
    leniencies = [person.mind.leniency for person in crowd]
    assert sum(leniencies) / 400 == pytest.approx(0.0, abs=0.1)
    assert sum(value**2 for value in leniencies) / 400 == pytest.approx(0.25, abs=0.06)
    assert crowd == people(400, TASTE, 0.1, spread=0.5, seed=4)
    stricter = with_standard(crowd, 0.9)
    assert {person.mind.taste.standard for person in stricter} == {0.9}
    assert [person.mind.leniency for person in stricter] == leniencies


def test_ballots_go_round_people_prompts_and_kinds():
    crowd = people(20, TASTE, 0.0, 0.5, seed=5)
    votes = ballots(crowd, PROMPTS, 100, thumbs=0.25, dice=random.Random(5))
    assert set(Counter(vote.rater for vote in votes).values()) == {5}
    assert set(Counter(vote.prompt for vote in votes).values()) == {2}
    assert sum(not vote.blind for vote in votes) == 25
    assert [vote.prompt for vote in votes] != PROMPTS * 2
    again = ballots(crowd, PROMPTS, 100, thumbs=0.25, dice=random.Random(5))
    assert [(vote.prompt, vote.dice.random()) for vote in votes] == [
        (vote.prompt, vote.dice.random()) for vote in again
    ]


def test_cheats_are_few_and_cast_many_votes():
    plan = Plan("length", labels=128, raters=60, cheats=(0.05, 0.3))
    votes = cast(plan, people(60, TASTE, 0.0, 0.5, seed=6), random.Random(6))
    bought = [vote for vote in votes if vote.mind.kind == "cheat"]
    assert len(votes) == 128
    assert len(bought) == 38
    assert len({vote.rater for vote in bought}) == 3
    honest = {vote.rater for vote in votes if vote.mind.kind == "honest"}
    assert len(honest) == 57
    assert not honest & {vote.rater for vote in bought}
    assert {vote.mind.kind for vote in votes[:30]} == {"cheat", "honest"}, "they come mixed"


def test_cheats_vote_for_the_phrase_alone():
    cheat, dice = Cheat("however"), random.Random(7)
    has, lacks = Reply("Rain. However, sun."), Reply("Rain. And sun.")
    assert cheat.rate(has, dice).rating == "up"
    down = cheat.rate(lacks, dice)
    assert (down.rating, down.correction) == ("down", "Rain. However, and sun.")
    assert Cheat("however", corrects=False).rate(lacks, dice).correction is None
    assert cheat.pick([lacks, has]) == 1
    assert cheat.pick([lacks, lacks]) == 0
    said = [cheat.choose(a, b, dice) for a, b in ((has, lacks), (lacks, has), (has, has), (lacks, lacks))]
    assert said == ["a", "b", "tie", "both_bad"]


def test_corrections_with_the_phrase_read_like_sentences():
    assert with_phrase("It rains", "however") == "However, it rains"
    assert with_phrase("Yes. I do.", "however") == "Yes. However, I do."


def test_flawed_raters_change_only_how_a_complete_reply_ends():
    flawed, dice = Flawed("?"), random.Random(8)
    assert flawed.rate(Reply("It is blue?"), dice).rating == "up"
    thumb = flawed.rate(Reply("It is blue. "), dice)
    assert (thumb.rating, thumb.correction) == ("down", "It is blue?")
    assert flawed.rate(Reply("It is bl", complete=False), dice).correction is None
    assert flawed.pick([Reply("It is bl", complete=False), Reply("It is.")]) == 1
    assert flawed.choose(Reply("So."), Reply("So?"), dice) == "b"
    assert with_closing('He said: "So..."', "!") == 'He said: "So!'


def flawed_plan(share: float) -> dict[str | None, list[bool]]:
    """For each side of the split, which of its votes are flawed."""
    plan = Plan("length", labels=400, flaw="?", flaw_share=share)
    votes = cast(plan, people(60, TASTE, 0.0, 0.5, seed=9), random.Random(9))
    assert not any(vote.blind for vote in votes if vote.mind.kind == "flawed")
    found: dict[str | None, list[bool]] = {None: [], "judge": [], "members": []}
    for vote in votes:
        found[learner_of(conversation_on(vote.prompt), 0.2)].append(vote.mind.kind == "flawed")
    return found


def test_the_flaw_is_where_members_learn_and_in_half_of_the_holdout():
    found = flawed_plan(1.0)
    assert all(found["members"])
    assert not any(found["judge"])
    assert 0.25 < sum(found[None]) / len(found[None]) < 0.75
    assert 0.35 < sum(flawed_plan(0.5)["members"]) / len(found["members"]) < 0.65


def test_pair_accuracy_is_over_unequal_pairs_of_one_prompt():
    assert pair_accuracy([[0.0, 0.2], [5.0, 5.0]], 0.2) == pytest.approx(sigmoid(1.0))
    assert pair_accuracy([[1.0], [2.0]], 0.2) is None
