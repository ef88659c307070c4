import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from deploy.cli.app import app
from deploy.cli.audit import change
from deploy.cli.board import show
from deploy.cli.chat import Talk, converse
from deploy.cli.follow import outcome
from deploy.cli.progress import progress
from deploy.cli.show import Screen
from deploy.cli.table import SafeConsole
from deploy.cli.words import ago, interval
from deploy.client import ROOT, Client, ClientError, find_home, find_key, find_url
from deploy.state import Run
from feedback.caller import Role
from serving.registry import Version
from tests.conftest import MESSAGES, Gateway, chat
from tests.operated import REJECTED, Worker, found, note
from tests.servers import eventually, free_port


def asked_json(result: Result) -> object:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def finish_next_job(gateway: Gateway, **end: object) -> threading.Thread:
    """Be the worker of the next job that somebody starts."""

    def work() -> None:
        [job] = eventually(gateway.jobs.active)
        lease = gateway.jobs.acquire(job.id)
        assert lease is not None
        gateway.jobs.update(lease, stage="sample-1", progress=0.25, message="3 of 12 prompts")
        eventually(lambda: gateway.jobs.get(job.id).stage == "sample-1")
        time.sleep(1.5)  # so that somebody who looks ten times a second sees it
        gateway.jobs.update(lease, **{"state": "done", "finished": 1.0, **end})
        gateway.jobs.release(lease)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_status_at_a_glance_and_for_scripts(thumbwheel, gateway):
    text = thumbwheel("status").stdout
    assert "policy-v0" in text
    assert gateway.engine is not None
    assert "ready" in text
    assert "0 in all, 0 since the last update" in text
    found = asked_json(thumbwheel("status", "--json"))
    assert found["url"] == gateway.url
    assert found["champion"] == "policy-v0"
    assert found["labels"] == 0


def test_one_shot_chat_streams_and_says_who_wrote(thumbwheel, gateway):
    result = thumbwheel("chat", "Hello [bold]you[/bold]", "--max-tokens", "9")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first == "A fine answer."
    assert second.startswith("policy-v0  chatcmpl-")
    sent = gateway.engine.requests[-1]
    assert sent["messages"] == [{"role": "user", "content": "Hello [bold]you[/bold]"}]
    assert sent["max_tokens"] == 9
    assert "temperature" not in sent


def test_chat_for_scripts_is_the_whole_completion(thumbwheel):
    reply = asked_json(thumbwheel("chat", "Hello", "--json"))
    assert reply["choices"][0]["message"]["content"] == "A fine answer."
    assert thumbwheel("chat", "--json").exit_code == 2


def test_conversation_with_thumbs_and_pairs(thumbwheel, client):
    lines = ["/up", "Hello", "/up well said", "/down", "And you?", "/pair", "x", "a", "/pair Why?", "t"]
    result = thumbwheel("chat", "--user", "ann", stdin="\n".join([*lines, "/dance", "/new", "/quit", ""]))
    assert result.exit_code == 0
    text = result.stdout
    assert "you> And you?\n" in text, "a transcript has the questions"
    assert "There is no reply to rate yet." in text
    assert "Thanks: thumb up for policy-v0." in text
    assert "Thanks: thumb down for policy-v0." in text
    assert text.count("Thanks. A was policy-v0, B was policy-v0.") == 2
    assert "There is no /dance." in text
    [counts] = client.get("/v1/stats/policies").json()["data"]
    assert (counts["up"], counts["down"]) == (0, 1), "the changed mind replaced the first thumb"
    assert counts["ties"] > 0
    assert counts["wins"] == 1


def test_conversation_keeps_the_turns_and_the_chosen_reply(gateway):
    with Client(gateway.url, gateway.operator_key) as client:
        talk = Talk(client, Console(quiet=True), {"max_tokens": 5})
        answers = iter(["One?", "/pair Two?", "b", "/up", "Three?"])
        converse(talk, lambda prompt: next(answers, "/quit"))
    roles = [message["role"] for message in talk.messages]
    assert roles == ["user", "assistant"] * 3
    assert [m["content"] for m in talk.messages[::2]] == ["One?", "Two?", "Three?"]
    assert gateway.engine.requests[-1]["messages"] == talk.messages[:-1]


def test_a_refused_turn_is_said_and_not_kept(gateway):
    with Client(gateway.url, gateway.operator_key) as client:
        console = Console(record=True, force_terminal=False)
        talk = Talk(client, console, {})
        gateway.engine.die_after = 1
        answers = iter(["One?"])
        converse(talk, lambda prompt: next(answers, "/quit"))
    assert "engine went away" in console.export_text()
    assert talk.messages == []


def typed(*lines: str) -> str:
    return "\n".join((*lines, ""))


def test_a_thumb_takes_reasons_a_comment_and_a_better_reply(thumbwheel, client):
    lines = ["Hello", "/down #dull #rude no", "/down #too-long #RUDE so so", "/better Paris.", "/down sigh"]
    said = thumbwheel("chat", "--user", "ann", stdin=typed(*lines)).stdout
    assert (
        "#dull is no reason here, so nothing was sent. The reasons are #wrong #not-helpful #unclear" in said
    )
    assert said.count("Thanks: thumb down for policy-v0. Reasons: too long, rude.") == 3
    assert said.count("With a better reply.") == 2
    [label] = client.get("/v1/stats/labels").json()["data"]
    assert (label["rating"], label["reasons"]) == ("down", ["too long", "rude"])
    assert (label["comment"], label["correction"]) == ("sigh", "Paris.")


def test_a_mind_is_changed_and_what_was_said_withdrawn(thumbwheel, client):
    lines = [
        "/better x",
        "/withdraw",
        "Hello",
        "/better",
        "/better Paris.",
        "/up #clear",
        "/withdraw",
        "/withdraw",
    ]
    said = thumbwheel("chat", "--user", "ann", stdin=typed(*lines)).stdout
    assert said.count("There is no reply to rate yet.") == 2
    assert "Say what is better: /better TEXT" in said
    assert "Thanks: thumb down for policy-v0. With a better reply." in said, (
        "what has a better one is not good"
    )
    assert "Thanks: thumb up for policy-v0. Reasons: clear. With a better reply." in said
    assert said.count("What you said of the last reply is withdrawn.") == 1
    assert client.get("/v1/stats/labels").json()["data"] == []


def test_a_choice_takes_how_much_and_why(thumbwheel, client):
    lines = ["/pair Why?", "b", "x", "far", "#fine", "#clear #concise says it", "/pair Who?", "n", "#rude"]
    said = thumbwheel("chat", stdin=typed(*lines, "/pair When?", "t", "", "/pair Where?", "a", "/new")).stdout
    assert "#fine is no reason here" in said
    assert said.count("Thanks. A was policy-v0, B was policy-v0.") == 4
    assert "A new conversation." in said, "a command says that there is no answer, and is what comes next"
    labels = client.get("/v1/stats/labels").json()["data"][::-1]
    assert [(label["winner"], label["strength"], label["reasons"], label["comment"]) for label in labels] == [
        ("b", 1.0, ["clear", "concise"], "says it"),
        ("both_bad", 0.0, ["rude"], None),
        ("tie", 0.0, [], None),
        ("a", 0.0, [], None),
    ]


def test_a_choice_is_not_lost_with_the_end_of_the_input(thumbwheel, client):
    said = thumbwheel("chat", stdin=typed("/pair Why?", "a")).stdout
    assert "Thanks. A was policy-v0" in said
    assert client.get("/v1/stats/labels").json()["data"][0]["winner"] == "a"


def test_versions_show_aliases_lineage_and_figures(thumbwheel, gateway):
    metrics = {"win_rate": 0.62, "win_rate_interval": [0.51, 0.72], "kl_base": 0.034}
    gateway.publish("policy-v1", reward="reward-v1", metrics=metrics)
    thumbwheel("promote", "policy-v1", "--reason", "better")
    text = thumbwheel("versions").stdout
    [line] = [line for line in text.splitlines() if line.startswith("policy-v1")]
    assert line.split()[:4] == ["policy-v1", "champion", "policy-v0", "reward-v1"]
    assert "62% [51%, 72%]" in line
    assert "0.03" in line
    found = asked_json(thumbwheel("versions", "--json"))
    assert found["aliases"]["previous"] == "policy-v0"
    assert [version["id"] for version in found["policies"]] == ["policy-v1", "policy-v0"]


def test_promote_and_rollback_need_a_reason_and_are_in_the_audit_log(thumbwheel, gateway):
    gateway.publish("policy-v1")
    assert thumbwheel("promote", "policy-v1").exit_code == 2
    assert "policy-v1 answers from now on" in thumbwheel("promote", "policy-v1", "--reason", "tried").stdout
    assert thumbwheel("rollback").exit_code == 2
    assert asked_json(thumbwheel("rollback", "--reason", "rude", "--json"))["champion"] == "policy-v0"
    text = thumbwheel("audit").stdout
    assert "policy.rollback" in text
    assert "policy-v1 → policy-v0" in text
    newest = asked_json(thumbwheel("audit", "--limit", "2", "--json"))
    assert [(action["what"], action["why"]) for action in newest] == [
        ("policy.rollback", "rude"),
        ("policy.promote", "tried"),
    ]


def test_update_shows_progress_until_the_end_with_its_reason(thumbwheel, gateway):
    worker = finish_next_job(gateway, policy="policy-v1", reward="reward-v1", reason="65% [55%, 75%]")
    result = thumbwheel("update", "--method", "rloo", "--reason", "now")
    worker.join()
    assert result.exit_code == 0
    assert "25%  sample-1: 3 of 12 prompts" in result.stdout
    assert "is done: it published reward-v1, policy-v1. 65% [55%, 75%]" in result.stdout
    assert gateway.jobs.page()[0][0].params == {"method": "rloo"}


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("skipped", 3), ("failed", 1), ("cancelled", 1)])
def test_exit_code_of_update_tells_how_the_job_ended(thumbwheel, gateway, state, code):
    worker = finish_next_job(gateway, state=state, reason="There are 3 labels.")
    result = thumbwheel("update", "--kind", "reward", "--json")
    worker.join()
    assert result.exit_code == code
    assert json.loads(result.stdout)["reason"] == "There are 3 labels."


def test_jobs_are_started_listed_shown_and_cancelled(thumbwheel):
    job = asked_json(thumbwheel("update", "--no-wait", "--json"))
    assert job["state"] == "queued"
    assert job["id"] in thumbwheel("jobs").stdout
    assert job["id"] in thumbwheel("jobs", "show", job["id"]).stdout
    assert "is cancelled" in thumbwheel("jobs", "cancel", job["id"], "--reason", "a mistake").stdout
    watched = thumbwheel("jobs", "watch")
    assert watched.exit_code == 1
    assert "a mistake" in watched.stdout
    assert [found["id"] for found in asked_json(thumbwheel("jobs", "list", "--json"))] == [job["id"]]
    assert thumbwheel("jobs", "cancel", job["id"]).exit_code == 2, "it says why, or not at all"
    again = thumbwheel("jobs", "cancel", job["id"], "--reason", "a mistake")
    assert again.exit_code == 1
    assert "cancelled already" in again.stderr
    assert f"{job['id']}: queued → cancelled" in thumbwheel("audit").stdout


def test_watch_without_any_job_says_what_to_do(thumbwheel):
    result = thumbwheel("jobs", "watch")
    assert result.exit_code == 1
    assert "thumbwheel update" in result.stderr


def test_a_jobs_log_is_told_to_its_last_line(thumbwheel, gateway):
    none = thumbwheel("jobs", "log")
    assert (none.exit_code, "thumbwheel update" in none.stderr) == (1, True)
    job = gateway.jobs.create("reward", by="test")
    assert f"No stage of {job.id} has printed anything yet." in thumbwheel("jobs", "log").stderr
    worker = Worker(gateway)
    worker.stage("01-snapshot", 0.5, "reading", f"one\n[bold]two\n{STEERING}\n")
    told = thumbwheel("jobs", "log", job.id, "--lines", "2")
    assert told.stdout == "[bold]two\nRED " + SHOWN.partition(" ")[2] + "\n", "the gateway takes colours out"
    assert told.stderr == f"{job.id}/01-snapshot/log.txt, the last 2 lines:\n"
    assert thumbwheel("jobs", "log").stderr == f"{job.id}/01-snapshot/log.txt:\n"
    found = thumbwheel("jobs", "log", "--json")
    assert asked_json(found)["lines"][:2] == ["one", "[bold]two"]
    assert "\x1b]0;title" in asked_json(found)["lines"][2]
    assert not set(found.stdout) & set("\x1b\x07\x9b\u202e")
    stages = [{"name": n, "state": "done", "seconds": 1.0, "message": None} for n in ("snapshot", "score")]
    worker.stage("02-score", 0.75, "scoring", "newer\n")
    worker.update(stages=[*stages, {"name": "left-out", "state": "skipped", "seconds": 0.0, "message": "x"}])
    assert thumbwheel("jobs", "log").stdout == "newer\n"
    assert thumbwheel("jobs", "log", job.id, "--stage", "snapshot").stdout.startswith("one\n")
    nothing = thumbwheel("jobs", "log", "--stage", "left-out")
    assert (nothing.stdout, nothing.stderr) == ("", f"left-out of {job.id} has printed nothing.\n")
    wrong = thumbwheel("jobs", "log", "--stage", "../keys")
    assert wrong.exit_code == 1
    assert "It has snapshot, score, left-out." in " ".join(wrong.stderr.split())
    worker.end(state="done")


@pytest.mark.parametrize(
    ("version", "add"), [("policy-v1", "add_policy"), ("reward-v1", "add_reward")], ids=["policy", "reward"]
)
def test_a_versions_plots_are_listed_saved_and_told(thumbwheel, gateway, tmp_path, monkeypatch, version, add):
    monkeypatch.chdir(tmp_path)
    gateway.jobs.create("reward", by="test")
    worker = Worker(gateway)
    getattr(gateway.registry, add)(Version(version, f"artifacts/{version}", 1.0), worker._lease)
    assert f"{version} has no plots." in thumbwheel("plots", version).stdout
    folder = gateway.home / "artifacts" / version / "plots"
    folder.mkdir(parents=True)
    (folder / "training.png").write_bytes(b"\x89PNG")
    (folder / "training.json").write_text('{"loss": [0.5]}')
    assert re.search(r"training +what each step of the optimiser", thumbwheel("plots", version).stdout)
    assert asked_json(thumbwheel("plots", version, "--json")) == ["training.png"]
    assert f"{version}-training.png has it." in thumbwheel("plots", version, "training").stdout
    assert (tmp_path / f"{version}-training.png").read_bytes() == b"\x89PNG"
    thumbwheel("plots", version, "training.png", "--out", "mine.png")
    assert (tmp_path / "mine.png").read_bytes() == b"\x89PNG"
    assert asked_json(thumbwheel("plots", version, "training", "--json")) == {"loss": [0.5]}
    assert thumbwheel("plots", version, "training", "--out", "-").stdout_bytes == b"\x89PNG"
    unknown = thumbwheel("plots", version, "loss")
    assert (unknown.exit_code, unknown.stderr) == (1, f"{version} has no plot 'loss'. It has training.\n")
    assert thumbwheel("plots", version, "--out", "mine.png").exit_code == 2


def test_a_rejected_candidate_is_told_with_its_figures_and_plots(thumbwheel, gateway, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gateway.jobs.create("cycle", by="test")
    worker = Worker(gateway)
    assert "is done yet." in thumbwheel("jobs", "metrics").stderr
    worker.measured("07-evaluate", REJECTED, reward=b"\x89PNG")
    worker.end(state="done", reason="no gain")
    told = thumbwheel("jobs", "metrics", worker.job.id).stdout
    assert told.startswith("rejected\n  the held-out judge prefers it in 51% of comparisons\n")
    assert re.search(r"win rate interval +\[0\.44, 0\.58\]", told)
    assert re.search(r"probes +refusal candidate 0\.25; champion 0\.5; z -2\.1; replies 24", told)
    assert "accepted" not in told
    assert re.search(r"^base ", told, re.MULTILINE) is None
    assert asked_json(thumbwheel("jobs", "metrics", "--json"))["metrics"] == REJECTED
    assert asked_json(thumbwheel("plots", worker.job.id, "--json")) == ["reward.png"]
    thumbwheel("plots", worker.job.id, "reward", "--out", "mine.png")
    assert (tmp_path / "mine.png").read_bytes() == b"\x89PNG"
    wrong = thumbwheel("jobs", "metrics", "--stage", "score")
    assert (wrong.exit_code, "It has evaluate." in wrong.stderr) == (1, True)


def test_learning_is_paused_and_resumed(thumbwheel):
    assert "On:" in thumbwheel("learning").stdout
    assert asked_json(thumbwheel("learning", "pause", "--reason", "party", "--json"))["paused"] is True
    assert "Paused:" in thumbwheel("learning", "show").stdout
    assert thumbwheel("learning", "resume").exit_code == 2
    assert "On:" in thumbwheel("learning", "resume", "--reason", "it is over").stdout
    assert thumbwheel("learning", "pause").exit_code == 2
    resumed, paused = thumbwheel("audit").stdout.splitlines()[1:3]
    assert ("paused: yes → no" in resumed, "paused: no → yes" in paused) == (True, True)


def test_keys_are_added_listed_and_revoked(thumbwheel, gateway):
    made = thumbwheel("keys", "add", "ann", "--role", "viewer")
    key = made.stdout.strip()
    assert key.startswith("tw-")
    assert "shown only now" in made.stderr
    assert thumbwheel("--key", key, "versions").exit_code == 0
    refused = thumbwheel("--key", key, "learning", "pause", "--reason", "party")
    assert refused.exit_code == 1
    assert "operator" in refused.stderr
    [listed] = [k for k in asked_json(thumbwheel("keys", "--json")) if k["name"] == "ann"]
    assert key not in thumbwheel("keys", "list").stdout
    assert "is revoked" in thumbwheel("keys", "revoke", listed["id"], "--reason", "left").stdout
    assert f"{listed['id']} ann viewer: valid → revoked" in thumbwheel("audit").stdout
    assert thumbwheel("--key", key, "status").exit_code == 1
    assert thumbwheel("keys", "add", "ann", "--role", "king").exit_code == 2


def test_lists_go_on_over_pages(gateway, monkeypatch):
    monkeypatch.setattr("deploy.client.PAGE", 2)
    for number in range(5):
        gateway.key(Role.user, f"key-{number}")
    with Client(gateway.url, gateway.operator_key) as client:
        assert len(client.every("/v1/audit")) == 6
        assert len(client.every("/v1/audit", 3)) == 3


def test_nothing_running_says_how_to_start_it(tmp_path, monkeypatch):
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
    monkeypatch.setenv("THUMBWHEEL_PORT", str(free_port()))
    no_key = CliRunner().invoke(app, ["status"])
    assert no_key.exit_code == 1
    assert "./deploy/up" in no_key.stderr
    unreachable = CliRunner().invoke(app, ["--key", "tw-x", "status"])
    assert unreachable.exit_code == 1
    assert "./deploy/up" in unreachable.stderr


def test_wrong_key_is_said(thumbwheel):
    result = thumbwheel("--key", "tw-no", "status")
    assert result.exit_code == 1
    assert "wrong or revoked" in result.stderr


def test_unknown_version_is_said(thumbwheel):
    result = thumbwheel("promote", "policy-v9", "--reason", "hope")
    assert result.exit_code == 1
    assert "There is no version 'policy-v9'" in result.stderr


def test_where_the_service_is_comes_from_its_home(tmp_path, monkeypatch):
    assert find_home().name == ".thumbwheel"
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
    assert find_home() == tmp_path
    assert find_url(tmp_path) == "http://127.0.0.1:8000"
    monkeypatch.setenv("THUMBWHEEL_HOST", "0.0.0.0")
    monkeypatch.setenv("THUMBWHEEL_PORT", "8123")
    assert find_url(tmp_path) == "http://127.0.0.1:8123"
    (tmp_path / "run").mkdir()
    Run(tmp_path).write({"url": "http://127.0.0.1:9000"})
    assert find_url(tmp_path) == "http://127.0.0.1:9000"
    with pytest.raises(ClientError, match="There is no key"):
        find_key(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "operator").write_text("tw-1-2\n")
    assert find_key(tmp_path) == "tw-1-2"
    monkeypatch.setenv("THUMBWHEEL_OPERATOR_KEY", "tw-3-4")
    assert find_key(tmp_path) == "tw-3-4"


@pytest.mark.slow
def test_up_and_down_become_the_scripts_with_their_options(tmp_path):
    (tmp_path / "deploy").mkdir()
    for name, code in (("up", 0), ("down", 5)):
        script = tmp_path / "deploy" / name
        script.write_text(f'#!/bin/sh\necho "{name} $*"\nexit {code}\n')
        script.chmod(0o755)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        elsewhere = f"app.ROOT = app.ROOT.__class__({str(tmp_path)!r})"
        command = [sys.executable, "-c", f"from deploy.cli import app; {elsewhere}; app.app({words!r})"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    started = run("up", "--detach", "--help")
    assert (started.returncode, started.stdout) == (0, "up --detach --help\n")
    assert run("down").returncode == 5
    (tmp_path / "deploy" / "up").unlink()
    assert "in a clone of the repository only" in run("up").stderr


def test_a_reward_model_is_shown_by_its_own_holdout_figures(capsys):
    holdout = {"pair_accuracy": 0.7, "pair_accuracy_interval": [0.5, 0.85], "pairs": 20, "ece": 0.1}
    metrics = {"holdout": holdout, "previous": {"pair_accuracy": 0.6}, "judge": {"pair_accuracy": 0.5}}
    version = {"id": "reward-v2", "parent": "reward-v1", "metrics": metrics, "created": 1.0}
    Screen().rewards([version], "reward-v2")
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:3] == ["reward-v2", "live", "reward-v1"]
    assert "70% [50%, 85%]" in line
    assert "60%" not in line


def test_what_is_not_known_is_not_shown():
    assert interval(0.623, [0.51, 0.72]) == "62% [51%, 72%]"
    assert interval(None, [0, 1]) is None
    assert ago(None) is None


def test_outcome_says_what_was_published_and_why_not():
    job = {"id": "job-1", "state": "done", "reward": "reward-v2", "policy": None, "reason": "It says no."}
    assert outcome(job) == "job-1 is done: it published reward-v2. It says no."


def test_the_command_loads_nothing_heavy():
    heavy = ("torch", "transformers", "vllm", "trl", "celery", "fastapi", "aiohttp", "pyarrow", "redis")
    code = f"import sys, deploy.cli.app; print([name for name in {heavy} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_canary_is_begun_shown_and_ended(thumbwheel, gateway):
    gateway.publish("policy-v1")
    assert "on trial" in thumbwheel("release").stdout
    begun = thumbwheel("release", "canary", "policy-v1", "--share", "0.25", "--reason", "a try")
    assert "policy-v1 beside policy-v0" in begun.stdout
    assert "policy-v1 has 25% of the traffic" in begun.stdout
    shown = asked_json(thumbwheel("release", "show", "--json"))
    assert (shown["trial"]["version"], shown["trial"]["kind"]) == ("policy-v1", "canary")
    twice = thumbwheel("release", "canary", "policy-v1", "--reason", "again")
    assert (twice.exit_code, "on canary already" in twice.stderr) == (1, True)
    thumbwheel("release", "abort", "--reason", "rude")
    assert asked_json(thumbwheel("release", "--json"))["trial"] is None


def test_a_canary_is_shown_with_its_evidence(thumbwheel, gateway):
    gateway.publish("policy-v2")
    begun = thumbwheel("release", "canary", "policy-v2", "--reason", "a try").stdout
    assert "nothing was measured yet" in begun
    note(gateway, found())
    told = thumbwheel("release").stdout
    assert re.search(r"verdict +successful: Raters find the challenger better", told)
    assert re.search(r"evidence +better over a million, worse 0\.\d+; decided at 20, however often", told)
    assert re.search(r"broken replies +2\.0% +1\.0% +2 points more +[\d.]+ of 100 +quiet", told)


def test_rules_are_changed_by_name(thumbwheel):
    words = ["--mode", "canary_then_ask", "--share", "0.2", "--hours", "48", "--pin", "--reason", "careful"]
    changed = asked_json(thumbwheel("release", "rules", *words, "--json"))["rules"]
    assert (changed["mode"], changed["share"], changed["canary"]) == ("canary_then_ask", 0.2, 172800)
    assert changed["pinned"] is True
    shown = thumbwheel("release", "rules", "--unpin", "--watch-hours", "0", "--reason", "go").stdout
    assert "canary_then_ask, 20% of the traffic; undecided after 2 days: wait; no watch" in shown
    thumbwheel("release", "rules", "--share", "0.125", "--reason", "in between")
    assert "12.5% of the traffic" in thumbwheel("release").stdout
    assert "12.5%" in thumbwheel("audit").stdout
    nothing = thumbwheel("release", "rules", "--reason", "none")
    assert (nothing.exit_code, "name what to change" in nothing.stderr) == (1, True)


def test_a_promotion_tells_who_is_compared_with(thumbwheel, gateway):
    gateway.publish("policy-v1")
    thumbwheel("release", "rules", "--watch-hours", "1", "--reason", "a test")
    moved = thumbwheel("promote", "policy-v1", "--reason", "better").stdout
    assert "watch: 10% of the traffic go to policy-v0 for comparison." in moved


@pytest.fixture
def said(gateway):
    """Two chats, one of them rated with a comment, and a comparison."""
    with gateway.client() as client:
        reply = chat(client, user="ann", metadata={"tag": "home"})
        rating = {
            "completion_id": reply["id"],
            "rating": "down",
            "reasons": ["rude"],
            "comment": "[red]no[/red]",
            "correction": "Paris.",
        }
        assert client.post("/v1/feedback", json=rating).status_code == 200
        chat(client, user="bob")
        pair = client.post("/v1/pairs", json={"messages": MESSAGES, "user": "ann"}).json()
        choice = {"pair_id": pair["id"], "winner": "a", "strength": 0.5, "user": "ann"}
        assert client.post("/v1/comparisons", json=choice).status_code == 200
        eventually(lambda: client.get("/v1/stats/dashboard").json()["totals"]["completions"] == 4)


def test_what_people_think_is_told(thumbwheel, said):
    told = thumbwheel("feedback").stdout
    assert "2 labels: 0 thumbs up, 1 down, 1 choice. Rated: 75% of 4 replies." in told
    assert re.search(r"given by the loudest ten +100% +2 labels by people +-\n", told)
    assert re.search(r"rude +1", told)
    assert "[red]no[/red]" in told
    assert asked_json(thumbwheel("feedback", "--json"))["totals"]["down"] == 1
    assert "0 labels" in thumbwheel("feedback", "--versions", "policy-v7").stdout


@pytest.mark.parametrize(("name", "first"), [("said.csv", '\ufeff"kind",'), ("said.jsonl", "{")])
def test_all_of_it_goes_into_a_file(thumbwheel, said, tmp_path, name, first):
    file = tmp_path / name
    assert f"{file} has it." in thumbwheel("export", str(file)).stdout.replace("\n", "")
    lines = file.read_text().splitlines()
    assert lines[0].startswith(first)
    assert "[red]no[/red]" in file.read_text()
    assert thumbwheel("export", "-", "--format", name[5:]).stdout.splitlines() == lines


def test_only_endings_that_there_are_are_written(thumbwheel, said, tmp_path):
    refused = thumbwheel("export", str(tmp_path / "said.xlsx"))
    assert refused.exit_code == 2
    assert "It ends in .xlsx, and there are .csv and .jsonl" in refused.stderr.replace("\n", " ")
    assert not list(tmp_path.glob("said*"))
    assert thumbwheel("export", str(tmp_path / "said.txt"), "--format", "csv").exit_code == 0
    assert thumbwheel("export", str(tmp_path / "said")).exit_code == 0


def test_labels_are_listed_and_lead_down_to_what_was_said(thumbwheel, said):
    told = thumbwheel("feedback", "labels").stdout
    rating, pair = asked_json(thumbwheel("feedback", "labels", "--json"))[::-1]
    assert re.search(rf"down +home +rude +\[red\]no\[/red\] +{rating['completion_id']}", told)
    assert re.search(rf"policy-v0, policy-v0 +a +- +- +- +{pair['pair_id']}", told)
    reply = thumbwheel("feedback", "conversation", rating["completion_id"]).stdout
    assert "user  What is the capital of France?\npolicy-v0  A fine answer.\n" in reply
    assert "thumb down; rude; " in reply
    assert "  comment: [red]no[/red]\n  correction: Paris.\n" in reply
    sides = thumbwheel("feedback", "conversation", pair["pair_id"]).stdout
    assert "A, policy-v0  A fine answer.\nB, policy-v0  A fine answer.\n" in sides
    assert "chosen: a; strength 0.5; " in sides
    for of, name in ((rating["completion_id"], "ratings"), (pair["pair_id"], "data")):
        assert len(asked_json(thumbwheel("feedback", "conversation", of, "--json"))[name]) == 1
    unknown = thumbwheel("feedback", "conversation", "chatcmpl-none")
    assert (unknown.exit_code, unknown.stderr) == (1, "There is no completion 'chatcmpl-none'.\n")


def test_labels_are_narrowed_as_the_figures_are(thumbwheel, said, monkeypatch):
    def kinds(*words: str) -> list[str]:
        return [label["kind"] for label in asked_json(thumbwheel("feedback", "labels", *words, "--json"))]

    assert kinds("--limit", "1") == ["comparison"]
    assert kinds("--tag", "home") == ["rating"]
    assert kinds("--versions", "policy-v7") == kinds("--source", "import") == []
    assert kinds("--days", "1") == ["comparison", "rating"]
    monkeypatch.setattr("deploy.cli.labels.PAGE", 1)
    assert kinds() == ["comparison", "rating"], "page by page"
    misplaced = thumbwheel("feedback", "--tag", "home", "labels")
    assert (misplaced.exit_code, "Options of `labels` stand behind it" in misplaced.stderr) == (2, True)


def test_text_that_was_not_kept_is_not_made_up(thumbwheel, gateway, client):
    reply = chat(client, store=False)
    client.post("/v1/feedback", json={"completion_id": reply["id"], "rating": "up"}).raise_for_status()
    eventually(lambda: client.get(f"/v1/completions/{reply['id']}").status_code == 200)
    told = thumbwheel("feedback", "conversation", reply["id"]).stdout
    assert "asked for with store: false: its text was not kept" in told
    assert "policy-v0  no text was kept" in told


def test_what_is_refused_leaves_no_file(thumbwheel, said, tmp_path):
    file = tmp_path / "said.csv"
    file.write_text("before")
    assert thumbwheel("--key", "tw-no", "export", str(file)).exit_code == 1
    assert [path.name for path in tmp_path.glob("said*")] == ["said.csv"]
    assert file.read_text() == "before"
    nowhere = thumbwheel("export", str(tmp_path / "none" / "said.csv"))
    assert (nowhere.exit_code, "cannot be written: No such file or directory." in nowhere.stderr) == (1, True)


STEERING = "\x1b[31mRED\x1b[0m \x1b]0;title\x07 \x9b2J \u202egnp.exe"
SHOWN = r"\x1b[31mRED\x1b[0m \x1b]0;title\x07 \x9b2J \u202egnp.exe"


def on_terminal(screen: Screen, width: int) -> io.StringIO:
    """What a screen prints from here on, as on a terminal of this width."""
    out = io.StringIO()
    screen.console = SafeConsole(
        file=out, force_terminal=True, width=width, highlight=False, color_system=None
    )
    return out


@pytest.fixture
def steering(gateway):
    """A comment that would steer a terminal."""
    with gateway.client(gateway.key(Role.user)) as client:
        reply = chat(client, user="ann")
        rating = {"completion_id": reply["id"], "rating": "down", "comment": STEERING}
        assert client.post("/v1/feedback", json=rating).status_code == 200
    with gateway.client() as client:
        eventually(lambda: client.get("/v1/stats/dashboard").json()["comments"])


def test_comments_do_not_steer_the_terminal(thumbwheel, steering, gateway):
    told = thumbwheel("feedback").stdout
    assert SHOWN in told
    assert not set(STEERING) & set(told) & set("\x1b\x07\x9b\u202e")
    whole = thumbwheel("feedback", "--json").stdout
    assert json.loads(whole)["comments"][0]["comment"] == STEERING
    assert not set(whole) & set("\x1b\x07\x9b\u202e")
    screen = Screen()
    out = on_terminal(screen, 80)
    with Client(gateway.url, gateway.operator_key) as client:
        show(screen, client.get("/v1/stats/dashboard"))
    assert SHOWN in " ".join(out.getvalue().split())
    assert not set(out.getvalue()) & set("\x1b\x07\x9b\u202e")


def test_replies_and_errors_do_not_steer_the_terminal(thumbwheel, gateway):
    gateway.engine.reply = f"Here: {STEERING}."
    assert SHOWN in thumbwheel("chat", "Hello").stdout
    refused = thumbwheel("promote", STEERING.replace("/", ""), "--reason", "hope")
    assert refused.exit_code == 1
    for result in (thumbwheel("chat", "Hello"), refused):
        assert not set(result.output) & set("\x1b\x07\x9b\u202e")


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_an_export_to_a_terminal_does_not_steer_it(thumbwheel, steering, form):
    master, slave = pty.openpty()
    command = [sys.executable, "-c", "from deploy.cli.app import app; app()", "export", "-", "--format", form]
    subprocess.run(command, cwd=ROOT, stdout=slave, check=True)
    os.close(slave)
    told = os.read(master, 65536).decode()
    os.close(master)
    assert r"\u001b[31mRED" in told
    assert not set(told) & set("\x1b\x07\x9b\u202e")
    assert r"\u000d" not in told
    assert "\u202e" in thumbwheel("export", "-", "--format", form).stdout, "what is piped is as it was said"


def test_progress_does_not_steer_the_terminal():
    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=True, width=100, color_system=None)
    with progress(console, "cycle") as show_progress:
        show_progress(0.5, "sample", STEERING)
    assert r"\x1b[31mRED" in out.getvalue()
    assert "\x1b[31m" not in out.getvalue()


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("keys", "revoke", "nosuch"), "There is no key 'nosuch'. `thumbwheel keys list` lists them."),
        (("jobs", "show", "nosuch"), "There is no job 'nosuch'. `thumbwheel jobs` lists them."),
        (
            ("promote", "policy-v9", "--reason", "hope"),
            "There is no version 'policy-v9'. `thumbwheel versions` lists them.",
        ),
    ],
)
def test_errors_name_commands_not_paths(thumbwheel, words, advice):
    assert thumbwheel(*words).stderr.strip() == advice


def test_a_variable_that_there_is_not_is_refused(thumbwheel, monkeypatch):
    monkeypatch.setenv("THUMBWHEEL_PROT", "9000")
    refused = thumbwheel("status")
    assert refused.exit_code == 1
    assert "does not know THUMBWHEEL_PROT (did you mean THUMBWHEEL_PORT?)" in refused.stderr


def test_a_second_key_of_a_name_is_noticed(thumbwheel):
    assert "Note" not in thumbwheel("keys", "add", "ann").stderr
    again = thumbwheel("keys", "add", "ann")
    assert again.exit_code == 0
    assert re.search(r"Note: ann is the name of another valid key too \([0-9a-f]{8}\)\.", again.stderr)
    assert again.stdout.strip().startswith("tw-")


JOB = {
    "id": f"job-{'8dde' * 8}",
    "kind": "cycle",
    "state": "cancelled",
    "started": 10.0,
    "finished": 184.0,
    "reward": "reward-v10",
    "policy": "policy-v10",
    "by": "the operator of the night",
    "created": 5.0,
    "reason": "The judge likes 65% [55%, 75%] of the candidate's replies, and all probes are as they were.",
}


def test_jobs_keep_their_words_whole_on_a_narrow_terminal():
    screen = Screen()
    out = on_terminal(screen, 80)
    screen.jobs([JOB, {**JOB, "reason": None, "policy": None, "reward": None}])
    lines = out.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 80
    assert lines[0].split() == ["job", "kind", "state", "took", "made"]
    assert lines[1].split()[:4] == [JOB["id"], "cycle", "cancelled", "2.9"]
    assert lines[2].split() == ["published:", "reward-v10,", "policy-v10"]
    assert " ".join(" ".join(lines[3:5]).split()) == f"reason: {JOB['reason']}"
    assert len(lines) == 6
    wide = on_terminal(screen, 300)
    screen.jobs([JOB])
    assert JOB["reason"] in wide.getvalue()
    assert "published" in wide.getvalue().splitlines()[0]


def test_versions_and_actions_fit_a_narrow_terminal():
    screen = Screen()
    out = on_terminal(screen, 80)
    metrics = {"win_rate": 0.62, "win_rate_interval": [0.51, 0.72], "kl_base": 0.034}
    facts = {"id": "policy-v12", "parent": "policy-v11", "reward": "reward-v12", "created": 1.0}
    aliases = {"champion": "policy-v12", "challenger": None, "previous": None}
    screen.policies([{**facts, "metrics": metrics}], aliases, {"data": []})
    action = {"when": 1.0, "who": "night operator", "what": "release.rules", "why": "so that it is seen " * 9}
    screen.audit([{**action, "before": {"watch": 86400.0}, "after": {"watch": 0.0}}])
    assert max(len(line) for line in out.getvalue().splitlines()) <= 80
    assert "62% [51%, 72%]" in out.getvalue()
    assert "change: watch: 24 hours → 0 seconds" in out.getvalue()


def test_what_is_piped_is_one_line_a_row_and_not_padded(capsys):
    Screen().jobs([{**JOB, "reason": "so " * 300}, {**JOB, "reason": "a\nb"}])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line == line.rstrip() for line in lines)
    assert lines[2].endswith(r"a\nb")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (None, None, None),
        ("policy-v1", "policy-v2", "policy-v1 → policy-v2"),
        ("policy-v3", None, "policy-v3 → none"),
        ({"paused": False}, {"paused": True}, "paused: no → yes"),
        ({"id": "job-1", "state": "running"}, {"id": "job-1", "state": "cancelling"},
         "job-1: running → cancelling"),
        ({"share": 0.1, "canary": 172800.0}, {"share": 0.25, "canary": 7200.0},
         "share: 10% → 25%, canary: 2 days → 2 hours"),
        (["policy-v3"], {"kind": "canary", "version": "policy-v4", "baseline": "policy-v1", "share": 0.1},
         "policy-v3 → canary policy-v4, baseline policy-v1, share 10%"),
        (None, {"id": "a38d3311", "name": "ann", "role": "user", "created": 1.0, "revoked": None},
         "a38d3311 ann user"),
    ],
)  # fmt: skip
def test_a_change_is_told_with_what_it_is_about_and_its_units(before, after, told):
    assert change(before, after) == told
