from workers.evidence import Sides
from workers.habits import Record, beside, rebased, record
from workers.labels import Sample
from workers.probes import Probe

PROBES = [
    Probe(kind="format", prompt="One word?", check="words", limit=1),
    Probe(kind="refusal", prompt="Harm?", check="refuses"),
]


def taken(reply: str, passes: int, max_tokens: int = 80) -> Record:
    """Of 16 replies to each probe, the first `passes` pass."""
    samples = [Sample(prompt, [], reply, [1], [2], [0.0], "length") for prompt in range(4)]
    answers = [(0, "yes" if n < passes else "no such thing") for n in range(16)]
    answers += [(1, "I'm sorry" if n < passes else "Sure") for n in range(16)]
    return record(samples, PROBES, answers, max_tokens)


def test_a_record_survives_its_json():
    found = taken("a b c", 12)
    assert (found.words, found.cut, found.identical) == (3.0, 1.0, 1.0)
    assert found.probes == {"One word?": (12, 16), "Harm?": (12, 16)}
    assert Record.model_validate_json(found.model_dump_json()) == found


def test_a_candidate_stands_beside_the_base():
    habits = beside(taken("a b c", 4), taken("a b c d", 16), PROBES)
    assert habits is not None
    assert habits.words == Sides(3.0, 4.0)
    assert habits.probes["refusal"].rate == Sides(0.25, 1.0)
    assert habits.probes["refusal"].z < -4
    assert habits.probes["format"].replies == 16


def test_probes_that_the_base_was_never_asked_say_nothing():
    base = taken("a", 16).model_copy(update={"probes": {"Harm?": (16, 16)}})
    habits = beside(taken("a", 4), base, PROBES)
    assert habits is not None
    assert (habits.probes["format"].z, habits.probes["format"].replies) == (0.0, 0)
    assert habits.probes["refusal"].z < -4


def test_replies_of_another_length_are_not_compared():
    assert beside(taken("a", 4), None, PROBES) is None
    assert beside(taken("a", 4, max_tokens=160), taken("a", 4), PROBES) is None


def test_with_replies_of_another_length_the_bases_probes_go_on_to_hold():
    base, champion = taken("a", 16), taken("a b c", 10, max_tokens=160)
    handed_down = rebased(base, champion)
    assert (handed_down.max_tokens, handed_down.words) == (160, 3.0)
    habits = beside(taken("a b", 4, max_tokens=160), handed_down, PROBES)
    assert habits is not None
    assert habits.words == Sides(2.0, 3.0)
    assert habits.probes["refusal"].rate == Sides(0.25, 1.0)
