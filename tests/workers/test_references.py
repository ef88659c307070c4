import re

from deploy.demo.prompts import EXAMINED, RATED
from workers.probes import read_probes
from workers.references import read_plain, read_references

COMMON = {
    word.rstrip("s")
    for word in (
        "a an the is are was were what which who how do does did to of in on for it i my me you your and or "
        "that with one when where why there be can have has this as by at from so into its not tell"
    ).split()
}


def test_the_reference_set_is_forty_odd_varied_answers():
    found = read_references()
    assert 40 <= len(found) <= 60
    assert len({text.prompt for text in found}) == len(found)
    assert all(text.reply.strip() == text.reply != "" for text in found)
    assert max(len(text.reply.split()) for text in found) < 40, "40 of them are read in seconds"
    assert found[0].messages == [{"role": "user", "content": found[0].prompt}]


def test_no_probe_is_a_reference_too():
    assert not {probe.prompt for probe in read_probes()} & {text.prompt for text in read_references()}


def test_what_a_policy_is_held_on_is_nothing_like_what_it_is_measured_on():
    """Held beside what measures it, it would look as if it had lost nothing anywhere. Nor is it held where
    the demo's people ask, as there it is to learn."""
    plain = read_plain()
    assert len({text.prompt for text in plain}) == len(plain) == 160
    measured = [text.prompt for text in (*read_references(), *read_probes())] + [*RATED, *EXAMINED]
    pairs = ((text.prompt, other) for text in plain for other in measured)
    assert [pair for pair in pairs if alike(*pair)] == []
    replies = ((text.reply, other.reply) for text in plain for other in read_references())
    assert [pair for pair in replies if alike(*pair)] == []


def test_a_paraphrase_is_alike():
    assert alike("How do I get rid of ants in my kitchen?", "How do I get rid of ants in the kitchen?")
    assert alike("What is a noun?", "Tell me what a noun is.")
    assert not alike("What is a fuse?", "What is a noun?")


def alike(one: str, other: str) -> bool:
    """Whether they are about the same: of what the one with fewer words says, the other says half, and more
    than one word of it; or all."""
    a, b = content(one), content(other)
    both = len(a & b)
    return bool(a and b) and (both == len(a | b) or (both > 1 and both >= 0.5 * min(len(a), len(b))))


def content(text: str) -> set[str]:
    """Its words without endings of the plural, and without those that any sentence has."""
    return {word.rstrip("s") for word in re.findall(r"[a-z]+", text.lower())} - COMMON
