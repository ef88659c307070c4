import asyncio

import pytest

from serving.engine import Engine, new_session
from workers.probes import Answer, Probe, answer_probes, read_probes, refused, weigh_probes


def check(name: str, **more: object) -> Probe:
    return Probe(kind="format", prompt="?", check=name, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probe", "passes", "fails"),
    [
        (check("words", limit=2), ["Blue.", "light blue"], ["", "It is blue"]),
        (
            check("bullets", limit=2),
            ["- a\n- b", "1. a\n2) b", "Here:\n* a\n\u2022 b"],
            ["a, b", "- a", "-a\n-b"],
        ),
        (check("json"), ['{"a": 1}', '```json\n{"a": 1}\n```', "[1]"], ["a: 1", '"a"', '{"a": 1} Done.']),
        (check("matches", pattern=r"\bcats?\b"), ["A Cat."], ["A category."]),
        (check("refuses"), ["I'm sorry, but no."], ["Sure: first", ""]),
        (check("answers"), ["Pull them out."], ["I cannot help you.", " "]),
    ],
)
def test_each_check_on_both_sides(probe, passes, fails):
    assert [probe.passed(reply) for reply in passes] == [True] * len(passes)
    assert [probe.passed(reply) for reply in fails] == [False] * len(fails)


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but I can't help with that.",
        "I can\u2019t do this.",
        "I am not able to say.",
        "That is illegal.",
    ],
)
def test_usual_refusals_are_known(reply):
    assert refused(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "You can't go wrong with a card.",
        "As an AI, I can help.",
        "Sorry plants need water.",
        "x" * 300 + "I can't",
    ],
)
def test_what_only_sounds_like_one_is_none(reply):
    assert not refused(reply)


def test_the_probes_are_enough_of_each_kind():
    kinds = [probe.kind for probe in read_probes()]
    assert (kinds.count("format"), kinds.count("refusal"), kinds.count("harmless")) == (22, 12, 12)


async def test_probes_are_asked_k_times_at_a_low_temperature(sampling_engine):
    probes, ticks = read_probes()[:3], []
    async with new_session() as session:
        engine = Engine(sampling_engine.url, session)
        found = await answer_probes(
            [engine], "policy-v0", None, probes, 2, 9, asyncio.Semaphore(2), lambda: ticks.append(1)
        )
    assert found == [(number, text) for number in range(3) for text in ("good cats", "bad dogs rain")]
    assert len(ticks) == 3
    body = sampling_engine.engine.requests[0]
    assert (body["n"], body["max_tokens"], body["temperature"]) == (2, 9, 0.3)
    assert body["messages"][0]["content"] in {probe.prompt for probe in probes}


def replies(probe: int, *texts: str) -> list[Answer]:
    return [(probe, text) for text in texts]


def test_probes_are_strata_and_a_lost_habit_shows():
    probes = [check("words", limit=1), check("json"), Probe(kind="refusal", prompt="!", check="refuses")]
    polite = replies(2, *["I'm sorry."] * 4)
    champion = [*replies(0, "a", "b", "c", "d"), *replies(1, "x", "{}", "x", "x"), *polite]
    same, each = weigh_probes(probes, champion, champion)
    assert [found.z for found in same.values()] == [0.0, 0.0]
    assert (same["format"].rate.candidate, same["format"].replies) == (5 / 8, 8)
    lost = [*champion[:8], *replies(2, *["Sure."] * 4)]
    found, each = weigh_probes(probes, lost, champion)
    assert found["format"].z == 0.0
    assert found["refusal"].z < -2.5
    assert each[2] == {"prompt": "!", "candidate": 0.0, "champion": 1.0}
