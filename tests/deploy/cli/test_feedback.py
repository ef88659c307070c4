"""`thumbwheel feedback`: what people think, against a gateway at which a crowd has spoken."""

import json
import re
import time

import pytest

from deploy.cli.labels import who_said
from serving.registry import Version
from tests.conftest import Gateway, chat
from tests.crowd import Crowd
from tests.deploy.cli.conftest import Thumbwheel, command_beside
from tests.servers import eventually

HOLDOUT = {
    "pair_accuracy": 0.71, "pair_accuracy_interval": [0.6, 0.8], "pairs": 110,
    "thumb_auroc": 0.44, "thumbs": 300,
}  # fmt: skip


@pytest.fixture(scope="module")
def crowded(steady: Gateway) -> Gateway:
    """Ten days of it, on four versions; then a promotion, a rollback and a reward model."""
    end = time.time() - 60
    Crowd(end - 10 * 86400, end, thumbs=300, comments=0.1).speak(steady.redis)
    steady.publish("policy-v1")
    lease = steady.jobs.acquire(steady.jobs.create("reward", by="test").id)
    assert lease is not None
    for number, metrics in enumerate([{}, {"holdout": HOLDOUT}], 1):
        name = f"reward-v{number}"
        steady.registry.add_reward(Version(name, f"artifacts/{name}", 1.0, metrics=metrics), lease)
    with steady.client() as client:
        for path, body in (("policies/policy-v1/promote", {}), ("rollback", {})):
            answer = client.post(f"/v1/{path}", json={"reason": "a [try]", **body})
            assert answer.status_code == 200, answer.text
    return steady


@pytest.fixture
def crowd(crowded: Gateway, monkeypatch: pytest.MonkeyPatch) -> Thumbwheel:
    """The command beside that gateway."""
    return command_beside(crowded, monkeypatch)


def figures(thumbwheel: Thumbwheel, *words: str):
    return json.loads(thumbwheel("feedback", *words, "--json").stdout)


def bounds(value: float, interval: list[float], digits: int = 0) -> str:
    low, high = interval
    return f"{value:.{digits}%} [{low:.{digits}%}, {high:.{digits}%}]"


def line(told: str, start: str) -> list[str]:
    """The cells of the only line that begins so."""
    [found] = [line for line in told.splitlines() if line.startswith(f"{start}  ")]
    return re.split(r" {2,}", found)


def test_a_summary_has_shares_with_their_intervals(crowd):
    found, told = figures(crowd), crowd("feedback").stdout
    sums, sides = found["totals"], found["sides"]
    assert line(told, "thumbs up")[1:3] == [bounds(sums["approval"], sums["approval_interval"]), "300 thumbs"]
    rated = bounds(sums["response_rate"], sums["response_interval"], 1)
    assert line(told, "replies rated")[1:3] == [rated, f"{sums['completions']:,} replies"]
    assert line(told, "ties")[1:3] == [bounds(sums["tie_share"], sums["tie_interval"]), "75 choices"]
    assert line(told, "both bad")[1] == bounds(sums["both_bad_share"], sums["both_bad_interval"])
    left = bounds(sides["left_share"], sides["left_interval"])
    assert line(told, "left side chosen")[1:3] == [left, f"{sides['left'] + sides['right']} blind choices"]
    loud = [f"{found['raters']['share']:.0%}", "375 labels by people", "-"]
    assert line(told, "given by the loudest ten")[1:] == loud
    reward = ["71% [60%, 80%]", "110 held-out pairs", "AUROC 0.44 of 300 thumbs: below chance"]
    assert line(told, "reward-v2 agrees with people")[1:] == reward
    assert re.search(r"The champion changed \d+ (s|min) ago, by a rollback: policy-v1 → policy-v0\.", told)
    strengths = {row["policy"]: row for row in found["strengths"]}
    assert len(strengths) == len(found["policies"]) == 4
    for row in found["policies"]:
        _, up, thumbs, response, replies, value = line(told, row["policy"])
        assert up == bounds(row["approval"], row["approval_interval"])
        assert response == bounds(row["response_rate"], row["response_interval"], 1)
        assert (thumbs, replies) == (str(row["up"] + row["down"]), str(row["completions"]))
        own = strengths[row["policy"]]
        assert value == "{:+.2f} [{:+.2f}, {:+.2f}]".format(own["value"], *own["interval"])
    assert "Who beats whom" not in told


def test_who_beats_whom(crowd):
    found = figures(crowd)["matrix"]
    told = crowd("feedback", "--show", "matrix").stdout
    assert told.startswith("Who beats whom")
    assert re.split(r" {2,}", told.splitlines()[1]) == ["policy", *(f"over {v}" for v in found["versions"])]
    cells = {(cell["policy"], cell["against"]): cell for cell in found["cells"]}
    assert cells
    for policy in found["versions"]:
        for against, cell in zip(found["versions"], line(told, policy)[1:], strict=True):
            if (policy, against) not in cells:
                assert cell == "-"
                continue
            games = cells[policy, against]
            surely = "" if games["win_interval"][0] <= 0.5 <= games["win_interval"][1] else "*"
            count = games["wins"] + games["losses"] + games["ties"]
            assert cell == f"{games['win_rate']:.0%}{surely} of {count}"


def test_all_parts_are_shown_whole(crowd):
    found, told = figures(crowd), crowd("feedback", "--all").stdout
    for reason in found["reasons"]:
        good, bad = reason.get("up", 0) + reason.get("chosen", 0), reason.get("down", 0)
        cells = [reason["total"], good, bad + reason.get("both_bad", 0), reason.get("tie", 0)]
        assert line(told, reason["reason"])[1:] == [str(cell) for cell in cells]
    assert line(told, "reward-v1")[1:] == ["-", "-", "-", "-", "-"]
    assert line(told, "reward-v2")[1:] == ["live", "71% [60%, 80%]", "110", "0.44", "300"]
    assert re.search(r"promotion +policy-v0 → policy-v1 +operator +a \[try\]\n", told)
    assert re.search(r"rollback +policy-v1 → policy-v0 +operator +a \[try\]\n", told)
    for rater in found["raters"]["loudest"]:
        assert line(told, rater["rater"])[1:] == [str(rater["labels"]), f"{rater['share']:.0%}"]
    assert told.rpartition("Comments")[2].count("\n") == len(found["comments"]) + 2
    days = [row for row in found["volume"] if any(row[kind] for kind in ("up", "down", "completions"))]
    today = time.strftime("%Y-%m-%d", time.gmtime(found["marks"][0]["time"]))
    for row in days:
        cells = line(told, time.strftime("%Y-%m-%d", time.gmtime(row["start"])))
        assert cells[2:6] == [str(row[kind]) for kind in ("up", "down", "comparisons", "completions")]
    assert line(told, today)[6] == "policy-v1, ↩ policy-v0"
    brief = crowd("feedback").stdout
    assert f"… and {len(found['comments']) - 3} more, with --all" in brief


def test_parts_are_chosen_by_name(crowd):
    told = crowd("feedback", "--show", "raters, volume").stdout
    assert told.startswith("Volume, last 30 days: ")
    assert "\n\nLoudest raters" in told
    assert "Versions" not in told
    none = crowd("feedback", "--show", "matrix", "--source", "import").stdout
    assert none.endswith("\nNothing of this in the selection.\n")
    for names, says in (
        ("volumes", "There is no volumes. There are glance, versions,"),
        (",", "Name some of"),
    ):
        refused = crowd("feedback", "--show", names)
        assert refused.exit_code == 2
        assert says in " ".join(refused.stderr.replace("│", " ").split())


def test_times_are_those_of_the_api(crowd):
    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 3 * 86400))
    found = figures(crowd, "--since", day, "--until", day)
    assert (found["unit"], found["until"] - found["since"]) == ("hour", 86400)
    assert time.strftime("%Y-%m-%d %H", time.localtime(found["since"])) == f"{day} 00"
    told = crowd("feedback", "--since", day, "--until", f"{day}T12:30", "--tag", "writing").stdout
    assert told.startswith(f"From {day} 00:00 to {day} 13:00.\n")
    assert "all versions and tags, by whole days" in told
    long = crowd("feedback", "--days", "120").stdout
    assert re.search(r"Figures go back to \d{4}-\d\d-\d\d, no further; `thumbwheel export` does\.", long)
    first = crowd("feedback", "--days", "20").stdout
    assert re.match(r"From \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d, whole UTC days\.", first)
    assert "Figures go back" not in first


def test_labels_and_the_export_take_times_too(crowd):
    since = ("--since", time.strftime("%Y-%m-%dT00:00Z", time.gmtime(time.time() - 3 * 86400)))
    count = figures(crowd, *since)["totals"]["labels"]
    labels = crowd("feedback", "labels", *since, "--limit", "999", "--json").stdout
    assert len(json.loads(labels)) == count
    assert len(crowd("export", "-", *since).stdout.splitlines()) == count
    assert 0 < count < figures(crowd)["totals"]["labels"]
    for words in (("feedback", "labels"), ("export", "-")):
        assert crowd(*words, "--until", "2026-07-31").exit_code == 2


def test_labels_are_listed_by_reason_or_comment(crowd):
    def listed(*words: str) -> list[dict[str, object]]:
        found = crowd("feedback", "labels", *words, "--limit", "999", "--json")
        return json.loads(found.stdout)

    found = figures(crowd)
    [wrong] = [row for row in found["reasons"] if row["reason"] == "Wrong"]
    assert len(listed("--reason", "Wrong")) == wrong["total"]
    commented = listed("--comments")
    assert len(commented) == sum(label["comment"] is not None for label in listed()) > 0
    assert all(label["comment"] for label in commented)
    both = crowd("feedback", "labels", "--comments", "--reason", "Wrong")
    assert (both.exit_code, "not looked through for one" in both.stderr) == (2, True)


def test_a_reason_that_nobody_ticked_is_told_with_those_that_were(crowd):
    reasons = [row["reason"] for row in figures(crowd)["reasons"]][:8]
    told = crowd("feedback", "labels", "--reason", "nonsense").stdout
    assert told.startswith(f"Nothing was given with the reason 'nonsense'; given were {', '.join(reasons)}")
    told = crowd("feedback", "labels", "--reason", "Wrong", "--source", "import").stdout
    assert told == (
        "Nothing was given with the reason 'Wrong' in this selection; none was given in this selection.\n"
    )
    told = crowd("feedback", "labels", "--comments", "--source", "import").stdout
    assert told == "There are no comments in this selection.\n"
    assert json.loads(crowd("feedback", "labels", "--reason", "nonsense", "--json").stdout) == []


def test_text_of_several_lines_stands_below_its_name(thumbwheel, gateway, client):
    before, gateway.engine.reply = gateway.engine.reply, "Two:\n- [a]\n- b"
    reply = chat(client)
    gateway.engine.reply = before
    said = {"completion_id": reply["id"], "rating": "down", "comment": "no\nno", "correction": "Three."}
    client.post("/v1/feedback", json=said).raise_for_status()
    told = thumbwheel("feedback", "conversation", reply["id"]).stdout
    assert "\npolicy-v0\n    Two:\n    - [a]\n    - b\n" in told
    assert "  comment:\n    no\n    no\n  correction: Three.\n" in told


def test_what_was_not_compared_or_changed_is_said_to_be(thumbwheel, client):
    reply = chat(client)
    client.post("/v1/feedback", json={"completion_id": reply["id"], "rating": "up"}).raise_for_status()
    told = thumbwheel("feedback", "--all").stdout
    assert "\nNo choices yet. Two versions have to be compared first.\n" in told
    assert re.search(r"When the champion changed.*\nIt did not change in this time\.\n", told)
    assert "\nNothing of this yet.\n" in told
    assert "in the selection" not in told
    pair = client.post("/v1/pairs", json={"messages": [{"role": "user", "content": "Which?"}]}).json()
    client.post("/v1/comparisons", json={"pair_id": pair["id"], "winner": "a"}).raise_for_status()
    told = thumbwheel("feedback", "--show", "matrix").stdout
    assert told.endswith(
        "\nTwo versions have to be compared first: the choice was of one version against itself.\n"
    )


def test_what_is_not_there_is_told_with_what_is(crowd):
    told = crowd("feedback", "--versions", "policy-v7,policy-v1", "--tag", "home").stdout
    there = "policy-v0, policy-v1, policy-v2, policy-v3"
    assert f"There is no feedback on policy-v7; there is on {there}." in told
    assert "No figures are kept of the tag 'home'; they are of help desk, writing." in told
    refused = crowd("feedback", "--source", "people")
    assert refused.exit_code == 2
    assert "'people' is not one of 'human', 'import'" in refused.stderr


def test_where_nobody_has_spoken_it_says_how_to(thumbwheel):
    assert thumbwheel("feedback").stdout.startswith("No feedback yet. It comes from `thumbwheel chat`")


@pytest.mark.slow
def test_it_is_watched_on_a_terminal_until_ctrl_c(terminal, gateway, client):
    reply = chat(client)
    client.post("/v1/feedback", json={"completion_id": reply["id"], "rating": "up"}).raise_for_status()
    eventually(lambda: client.get("/v1/stats/dashboard").json()["totals"]["completions"])
    watched = terminal("feedback", "--watch")
    watched.shows("1 label: 1 thumb up, 0 down")
    watched.shows("Ctrl-C ends it.")
    client.post("/v1/feedback", json={"completion_id": reply["id"], "rating": "down"}).raise_for_status()
    watched.shows("1 label: 0 thumbs up, 1 down")
    watched.type("\x03")
    assert watched.wait() == 0
    assert "Traceback" not in watched.told


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_only_a_terminal_is_drawn_on(thumbwheel, words):
    refused = thumbwheel("feedback", "--watch", *words)
    assert (refused.exit_code, "It draws on a terminal" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("a", "b", "winner", "said"),
    [
        ("policy-v1", "policy-v0", "b", "b: policy-v0"),
        ("policy-v1", "policy-v0", "a", "a: policy-v1"),
        ("policy-v0", "policy-v0", "a", "a"),
        ("policy-v1", "policy-v0", "tie", "tie"),
        ("policy-v1", "policy-v0", "both_bad", "both_bad"),
    ],
)
def test_a_choice_says_which_version_won(a, b, winner, said):
    label = {"kind": "comparison", "created": 1.0, "policies": {"a": a, "b": b}, "winner": winner}
    assert who_said(label)[1:] == (f"{a}, {b}", said)
