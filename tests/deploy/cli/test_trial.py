import json
import time

import pytest

from deploy.cli.show import Screen
from deploy.cli.trial import evidence
from serving.canary.guards import Replies
from serving.canary.rule import Rule
from serving.canary.verdict import Verdict, verdict
from tests.operated import found

RULES = {
    "mode": "auto", "share": 0.1, "canary": 604800.0, "undecided": "wait", "watch": 0.0, "pinned": False,
}  # fmt: skip


def shown(capsys: pytest.CaptureFixture[str], what: Verdict, **more: object) -> str:
    """What `thumbwheel release` prints of a canary that has come to this."""
    trial = {
        **{"kind": "canary", "version": "policy-v2", "baseline": "policy-v0", "share": 0.1, "asks": None},
        **{"started": 1.0, "ends": time.time(), "evidence": {**what.as_dict(), "looked": time.time()}},
    }
    decides = {"raters": 20.0, "guards": 100.0}
    release = {"rules": RULES, "trial": {**trial, **more}, "waiting": [], "decides": decides}
    Screen().release(json.loads(json.dumps(release)))
    return capsys.readouterr().out


def test_the_lead_and_both_arms_are_told_in_figures(capsys):
    what = found()
    told = " ".join(shown(capsys, what).split())
    assert what.lead is not None
    assert what.interval is not None
    low, high = (f"{100 * bound:+.1f}" for bound in what.interval)
    assert f"lead {100 * what.lead.lead:+.1f} points, surely between {low} and {high}; 60 raters" in told
    up, down = what.challenger
    assert f"policy-v2 {up} {down} {up / (up + down):.0%} 60 0" in told
    up, down = what.champion
    assert f"policy-v0 {up} {down} {up / (up + down):.0%} 30 0" in told


def test_guards_are_told_in_their_units(capsys):
    lines = shown(capsys, found()).splitlines()
    guards = [" ".join(line.split()) for line in lines[-5:]]
    assert [guard.rpartition(" more ")[0] or guard.rpartition(" less ")[0] for guard in guards] == [
        "broken replies 2.0% 1.0% 2 points",
        "time to first token 0.31 s 0.30 s 25%",
        "longer replies 81 tokens 75 tokens 50%",
        "shorter replies 81 tokens 75 tokens 33%",
        "refusals 1.0% 2.0% 5 points",
    ]
    assert all(guard.endswith("of 100 quiet") for guard in guards)


def test_before_raters_have_spoken_nothing_is_claimed(capsys):
    told = " ".join(shown(capsys, verdict([], Replies(), Replies(), 1.0, Rule())).split())
    assert "lead too few raters have spoken to tell: 0" in told
    assert "better 1, worse 1; decided at 20" in told
    assert "policy-v2 0 0 - 0 0" in told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0314, "0.031"), (1.0, "1"), (19.96, "20"), (99.7, "100"), (4321.4, "4,321"), (1e9, "over a million")],
)
def test_evidence_of_any_size_is_short(value, told):
    assert evidence(value) == told
