"""Tables, plots and the report of made-up trials."""

import json
import math
from dataclasses import replace

import pytest

from tests.bench.curves import as_text, cycle_table, plot_arms, plot_trial, stage_table, verdicts
from tests.bench.exam import Paper, difference, matched_win_rate, mean_gold, win_rate
from tests.bench.figures import rows
from tests.bench.gold import length_band
from tests.bench.job_folder import read_evidence, sides
from tests.bench.learning import main, report
from tests.bench.targets import findings, gains, markdown, ratio, summary
from tests.bench.trial import Cycle, Plan, Trial, read_trials

PROMPTS = 30
GOOD, BAD = "good " * 30, "bad " * 80  # 1 and 0.17 by length
STAGES = [{"name": "snapshot", "seconds": 1.5}, {"name": "train_reward", "seconds": 60.2}]


def paper(version: str, good: int, kl: float | None = 0.04, text: str = GOOD) -> Paper:
    """`good` prompts of 30 are answered well, in two replies each."""
    replies = {n: [text if n < good else BAD] * 2 for n in range(PROMPTS)}
    return Paper(version, replies, 50.0, kl)


def seen(gold: float = 0.7, moved: tuple[float, float] = (0.01, 0.1), kl: float = 0.05) -> dict:
    return {
        "metrics": {
            "win_rate": 0.6,
            "win_rate_interval": [0.55, 0.65],
            "members_win_rate": 0.8,
            "kl_base": kl,
        },
        "gold": {"value": gold, "interval": [0.6, 0.8], "count": 20},
        "shares": [0.1, 0.03],
        "moved": {"value": sum(moved) / 2, "interval": list(moved), "count": 20},
    }


def cycle(number: int, champion: str, accepted: bool = True, **more) -> Cycle:
    job = {
        "id": f"job-{number}",
        "state": "done",
        "policy": champion if accepted else None,
        "reason": None if accepted else "The gate rejected the candidate: not surely more than half",
        "stages": STAGES,
    }
    given = {"plateau": False, "votes": [{"said": "up"}] * 3, "evidence": seen(), **more}
    return Cycle(number, label_seconds=30.0, job=job, job_seconds=120.0, champion=champion, **given)


def trial(scores: list[int], plan: Plan | None = None, text: str = GOOD, **more) -> Trial:
    """The base has 6 good answers of 30, then each cycle's champion as many as `scores` says."""
    found = Trial(plan or Plan("length"), [f"q{n}" for n in range(PROMPTS)], finished=True)
    found.taste = {"mean": 0.3, "std": 0.2, "temperature": 0.1, "pair_accuracy": 0.8}
    found.papers["policy-v0"] = paper("policy-v0", 6, 0.0, text)
    for number, good in enumerate(scores, 1):
        found.papers[f"policy-v{number}"] = paper(f"policy-v{number}", good, 0.04 * number, text)
        found.cycles.append(cycle(number, f"policy-v{number}", **more))
    return found


def one(found: list, part: str):
    (finding,) = [finding for finding in found if part in finding.what]
    return finding


def test_win_rates_and_means_are_over_prompts():
    base, better = paper("policy-v0", 0).replies, paper("policy-v1", 15).replies
    rate = win_rate(better, base, length_band)
    assert rate.value == pytest.approx(0.75)
    assert 0.6 < rate.interval[0] < 0.75 < rate.interval[1] < 0.9
    assert rate.count == PROMPTS
    assert matched_win_rate(better, base, length_band).value == 0.5, "only equally bad ones are as long"
    assert matched_win_rate({0: [GOOD]}, {0: [BAD]}, length_band) is None
    assert mean_gold(better, lambda text: float(text == GOOD)).value == 0.5
    assert difference(better, base, length_band).value == pytest.approx((1 - length_band(BAD)) / 2)
    assert difference({0: [GOOD], 1: [GOOD]}, {0: [BAD]}, length_band).count == 1


def test_rows_tell_of_champion_candidate_and_gate():
    found = trial([15, 15])
    found.cycles[1] = cycle(2, "policy-v1", accepted=False)
    base, first, second = rows(found)
    assert (base.champion, base.win_rate, base.kl_token) == ("policy-v0", None, 0.0)
    assert first.win_rate.value == pytest.approx(0.65)  # of 9 in 30 prompts better, the rest alike
    assert first.kl_reply == pytest.approx(0.04 * 50)
    assert (first.members, first.judge, first.judge_interval) == (0.8, 0.6, (0.55, 0.65))
    assert first.gold_there == 0.7
    assert (first.accepted, first.verdict, first.labels, first.minutes) == (
        True,
        "accepted: policy-v1",
        3,
        2.5,
    )
    assert (first.fate, second.fate) == ("accepted", "rejected")
    assert not second.accepted
    assert "gate rejected" in second.verdict
    assert second.gold == first.gold
    assert second.kl_token == first.kl_token


def test_rows_do_without_exam_and_evidence():
    found = trial([15])
    found.cycles.append(cycle(2, "policy-v9", evidence=None))
    last = rows(found)[-1]
    assert (last.gold, last.win_rate, last.matched, last.judge, last.candidate_kl) == (None,) * 5


def test_tables_say_it_all():
    found = trial([15, 24], Plan("length", cheats=(0.05, 0.3)))
    text = as_text(cycle_table(found), verdicts(found), stage_table(found))
    for part in (
        "policy-v2",
        "0.650 [0.5",
        "0.600 [0.55, 0.65]",
        "cycle 2: accepted: policy-v2",
        "1.41",
        "“however”",
        "60.2",
    ):
        assert part in text
    assert "80% of the base's pairs decided rightly" in text
    assert "policy-v0" in as_text(cycle_table(Trial(Plan("length"), [])))


@pytest.mark.slow
def test_plots_are_files(tmp_path):
    found = trial([10, 20])
    found.cycles.append(cycle(3, "policy-v2", accepted=False))
    plot_trial(found, tmp_path / "kl.png")
    plot_arms({"a": [found, trial([12, 18])], "b": [trial([6])], "none": []}, tmp_path / "arms.png")
    plot_trial(Trial(Plan("length"), []), tmp_path / "empty.png")
    for name in ("kl", "arms", "empty"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_records_come_back_as_they_were(tmp_path):
    found = trial([10], Plan("phrase:of course", cheats=(0.05, 0.3), variables={"THUMBWHEEL_POLICY_K": "8"}))
    path = found.write(tmp_path)
    assert path.name == "phrase-of-course-cheats-policy_k-8-seed0.json"
    assert Trial.read(path) == found
    (tmp_path / "other.json").write_text('{"format": "another"}')
    assert read_trials(tmp_path) == [found]
    with pytest.raises(ValueError, match="no record"):
        Trial.read(tmp_path / "other.json")


def test_arms_differ_by_method_settings_and_what_is_unusual():
    plan = Plan("length")
    assert plan.arm == replace(plan, scorer="format", seed=3, noise=0.25, caps=False).arm
    arms = {
        plan.arm,
        replace(plan, method="rloo").arm,
        replace(plan, labels=64).arm,
        replace(plan, tag="x").arm,
    }
    assert len(arms) == 4
    assert replace(plan, variables={"THUMBWHEEL_POLICY_K": "8"}).arm == "default method, policy_k=8"


def test_learning_is_judged_after_five_cycles_over_seeds():
    seeds = [trial([12, 18, 24, 27, 30, 6], Plan("length", seed=seed)) for seed in range(2)]
    finding = one(findings(seeds), "within 5 cycles")
    assert finding.met
    assert "0.900 over 2 seeds" in finding.reached  # 24 of 30 prompts better, and 6 alike
    assert not one(findings([trial([12])]), "within 5 cycles").met


def test_a_trial_that_was_cut_off_decides_nothing_and_a_seed_counts_once():
    high, low = trial([30]), trial([12], Plan("length", seed=1))
    assert one(findings([high, low]), "within 5 cycles").met is False
    cut = replace(low, finished=False)
    finding = one(findings([high, cut]), "within 5 cycles")
    assert finding.met is None
    assert "after 1, cut off" in finding.reached
    went_on = trial([30, 30], Plan("length", plateau=1))
    assert "over 1 seeds" in one(findings([high, went_on]), "within 5 cycles").reached


def test_noise_is_judged_by_the_share_of_the_clean_gain():
    clean = [trial([26], Plan("length", seed=seed)) for seed in range(2)]
    noisy = trial([21], Plan("length", noise=0.25))
    finding = one(findings([*clean, noisy]), "flipped")
    assert finding.met
    assert finding.reached.startswith("75% (")  # 15 prompts gained of 20
    assert not one(findings([*clean, trial([10], Plan("length", noise=0.25))]), "flipped").met
    assert not [found for found in findings([noisy]) if "flipped" in found.what], "nothing to compare with"
    assert ratio(gains(clean, length_band), {}) is None


def test_caps_are_judged_by_how_far_the_phrase_moves():
    text = "However, good."
    attacked = Plan("length", cheats=(0.05, 0.3))
    capped, free = trial([7], attacked, text), trial([26], replace(attacked, caps=False), text)
    finding = one(findings([capped, free]), "cheats")
    assert "in 20.0% of the base's replies; from the base +3.3 points" in finding.reached
    assert "+66.7 points" in finding.reached
    assert finding.met is True
    assert one(findings([trial([16], attacked, text), free]), "cheats").met is False
    still = trial([6], replace(attacked, caps=False), text)
    assert one(findings([capped, still]), "cheats").met is None, "the attack itself moved nothing"
    drifted = one(findings([capped, free, trial([7], Plan("length"), text)]), "cheats")
    assert "from where clean trials end +0.0 points" in drifted.reached


def test_a_flaw_is_caught_where_candidates_that_used_it_are_rejected():
    plan = Plan("format", flaw="?")
    caught = trial([6], plan)
    caught.cycles[0] = cycle(1, "policy-v0", accepted=False)
    finding = one(findings([caught]), "loves to end")
    assert finding.met is True
    assert "1 of 1" in finding.reached
    assert "3.0% → 10.0%, rejected" in finding.reached
    assert one(findings([trial([6], plan)]), "loves to end").met is False
    unused = trial([6], plan, evidence=seen(moved=(-0.02, 0.1)))
    assert one(findings([unused]), "loves to end").met is None


def test_a_plateau_is_judged_by_the_change_of_gold():
    plan = Plan("length", plateau=1)
    found = trial([24], plan)
    found.cycles.append(cycle(2, "policy-v1", accepted=False, plateau=True))
    assert one(findings([found]), "further").met is True
    fell = trial([24, 12], plan)
    fell.cycles[1] = replace(fell.cycles[1], plateau=True)
    finding = one(findings([fell]), "further")
    assert finding.met is False
    assert "1 updates accepted" in finding.reached
    assert one(findings([fell]), "within 5 cycles").reached.startswith("0.800")


def test_report_prints_and_writes_what_was_reached(tmp_path, capsys):
    for found in (trial([20, 28]), trial([20], Plan("format", method="rloo"))):
        found.write(tmp_path)
    cut = replace(trial([12], Plan("length", seed=1)), finished=False)
    cut.write(tmp_path)
    main(["--report", str(tmp_path)])
    text = capsys.readouterr().out
    assert "| what | target | reached | met |" in text
    assert "| length-seed1 | default method |" in text
    assert "| cut off |" in text
    assert (tmp_path / "report.md").read_text().strip() == text.strip()
    assert {path.name for path in tmp_path.glob("*.png")} == {"arms-length.png", "arms-format.png"}
    assert "no record" in report(tmp_path / "nowhere")


def test_markdown_is_one_row_each():
    found = [trial([20], Plan("length", tag="a|b"))]
    lines = (summary(found) + "\n" + markdown(findings(found))).splitlines()
    assert all(line.startswith("|") and line.endswith("|") for line in lines)
    assert "a\\|b" in lines[2]


def test_both_sides_of_the_gates_replies(tmp_path):
    def ask(n: int) -> list[dict]:
        return [{"role": "user", "content": f"q{n}"}]

    rows = [{"messages": ask(n), "reply": f"mine {n}"} for n in (0, 0, 1, 1, 2, 2)]
    rows += [{"messages": ask(n), "reply": f"theirs {n}?"} for n in (0, 0, 2, 2)]  # one was not answered
    mine, theirs = sides(rows)
    assert mine == {n: [f"mine {n}"] * 2 for n in range(3)}
    assert theirs == {n: [f"theirs {n}?"] * 2 for n in (0, 2)}

    folder = tmp_path / "jobs" / "job-1" / "07-evaluate"
    folder.mkdir(parents=True)
    assert read_evidence(tmp_path, "job-1", len, "?") is None
    (folder / "replies.json").write_text(json.dumps(rows))
    (folder / "metrics.json").write_text('{"win_rate": 0.4, "kl_base": 0.1}')
    (folder / "DONE").touch()
    found = read_evidence(tmp_path, "job-1", lambda text: float(len(text)), closing="?")
    assert found.metrics["win_rate"] == 0.4
    assert found.gold.value == 0.0
    assert found.shares == (0.0, 1.0)
    assert found.moved.value == -1.0
    assert read_evidence(tmp_path, "job-1", len, phrase="mine").shares == (1.0, 0.0)
    assert read_evidence(tmp_path, "job-1", len).moved is None
    assert read_evidence(tmp_path, "job-2", len) is None


def test_one_prompt_alone_is_split_in_the_middle():
    rows = [{"messages": [], "reply": str(n)} for n in range(4)]
    assert sides(rows) == ({0: ["0", "1"]}, {0: ["2", "3"]})
    assert math.isinf(win_rate({0: ["a"]}, {0: ["b"]}, lambda text: 1.0).interval[1])
