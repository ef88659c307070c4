from deploy.demo_prompts import EXAMINED, RATED
from workers.probes import read_probes
from workers.references import read_plain, read_references


def test_the_reference_set_is_forty_odd_varied_answers():
    found = read_references()
    assert 40 <= len(found) <= 60
    assert len({text.prompt for text in found}) == len(found)
    assert all(text.reply.strip() == text.reply != "" for text in found)
    assert max(len(text.reply.split()) for text in found) < 40, "40 of them are read in seconds"
    assert found[0].messages == [{"role": "user", "content": found[0].prompt}]


def test_no_probe_is_a_reference_too():
    assert not {probe.prompt for probe in read_probes()} & {text.prompt for text in read_references()}


def test_what_a_policy_is_held_on_is_not_what_it_is_measured_on():
    """Neither as a question nor as an answer: nor what the demo and the bench examine on."""
    plain = read_plain()
    assert len({text.prompt for text in plain}) == len(plain) == 64
    measured = [*read_references(), *read_probes()]
    asked = {row.prompt.lower() for row in measured} | {text.lower() for text in (*RATED, *EXAMINED)}
    assert not {text.prompt.lower() for text in plain} & asked
    assert not {text.reply for text in plain} & {text.reply for text in read_references()}
