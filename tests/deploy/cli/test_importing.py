"""`thumbwheel import` against the real gateway."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from deploy.cli.app import app
from deploy.cli.importing import ranges
from deploy.client import Client
from deploy.state import Run
from feedback.caller import Role
from tests.conftest import Gateway, running_gateway
from tests.servers import ValkeyProcess

Thumbwheel = Callable[..., Result]
PAIR = {"prompt": "The sky is", "chosen": "blue.", "rejected": "green."}
THUMB = {"prompt": "Grass is", "completion": "green.", "label": True}
PROMPT = {"prompt": "Snow is"}


@pytest.fixture
def thumbwheel(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Thumbwheel:
    monkeypatch.setenv("THUMBWHEEL_HOME", str(gateway.home))
    run = Run(gateway.home)
    run.folder.mkdir()
    run.write({"url": gateway.url})

    def call(*words: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(words), input=stdin)

    return call


def written(path: Path, *lines: object) -> str:
    """A file of JSON lines; bytes among them as they are."""
    raw = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(b"".join(line + b"\n" for line in raw))
    return str(path)


def test_a_good_file_is_imported_and_what_comes_next_is_said(thumbwheel, tmp_path, client):
    file = written(tmp_path / "a.jsonl", PAIR, THUMB, PROMPT)
    result = thumbwheel("import", file, "--reason", "to begin with")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first == "imported 3 (1 preference, 1 unpaired, 1 prompts), 0 already there."
    assert second.startswith("2 new labels")
    assert "thumbwheel update" in second
    assert client.get("/v1/stats/policies").json()["labels"] == 2
    assert "2 in all" in thumbwheel("status").stdout
    newest, oldest = client.get("/v1/audit", params={"limit": 2}).json()["data"]
    assert (newest["after"]["name"], newest["after"]["imported"], newest["why"]) == (
        "a.jsonl",
        3,
        "to begin with",
    )
    assert oldest["after"]["state"] == "begun"
    assert "a.jsonl finished" in thumbwheel("audit").stdout


def test_bad_lines_are_numbered_in_order_and_the_good_ones_imported(thumbwheel, tmp_path):
    file = written(tmp_path / "a.jsonl", PAIR, b"{", b"", THUMB, {"prompt": ""}, b"\xff", PROMPT)
    result = thumbwheel("import", file)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "imported 3 (1 preference, 1 unpaired, 1 prompts), 0 already there, 3 bad lines:"
    assert [line.split(":")[0] for line in lines[1:4]] == ["  line 2", "  line 5", "  line 6"]
    assert "`prompt` is empty" in lines[2]


def test_again_nothing_is_added(thumbwheel, tmp_path, redis):
    file = written(tmp_path / "a.jsonl", PAIR, THUMB, PROMPT, PAIR)
    assert (
        "imported 3 (1 preference, 1 unpaired, 1 prompts), 1 already there."
        in thumbwheel("import", file).stdout
    )
    events = redis.xlen("tw:events")
    result = thumbwheel("import", file)
    assert result.stdout.splitlines() == [
        "imported 0 (0 preference, 0 unpaired, 0 prompts), 4 already there."
    ]
    assert result.exit_code == 0
    assert redis.xlen("tw:events") == events


def test_after_an_interruption_halfway_the_rest_is_imported(thumbwheel, tmp_path, monkeypatch):
    lines = [
        {"prompt": f"{number} + 1 =", "completion": str(number + 1), "label": True} for number in range(500)
    ]
    file = written(tmp_path / "a.jsonl", *lines)
    post, posted = Client.post, []

    def interrupted(self: Client, path: str, body: dict) -> object:
        posted.append(path)
        if len(posted) == 3:
            raise KeyboardInterrupt
        return post(self, path, body)

    monkeypatch.setattr(Client, "post", interrupted)
    result = thumbwheel("import", file)
    assert result.exit_code == 130
    assert "imported 400" in result.stderr
    assert "Run it again" in result.stderr
    monkeypatch.undo()
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
    again = thumbwheel("import", file)
    assert "imported 100 (0 preference, 100 unpaired, 0 prompts), 400 already there." in again.stdout


@pytest.mark.slow
def test_a_gateway_that_goes_away_halfway_leaves_a_sentence(
    thumbwheel, tmp_path, valkey: ValkeyProcess, monkeypatch
):
    file = written(tmp_path / "a.jsonl", *({"prompt": f"{number}"} for number in range(300)))
    post, posted = Client.post, []

    def broken(self: Client, path: str, body: dict) -> object:
        posted.append(path)
        if len(posted) == 2:
            valkey.kill()
        return post(self, path, body)

    monkeypatch.setattr(Client, "post", broken)
    result = thumbwheel("import", file)
    valkey.start()
    assert result.exit_code == 1
    assert "The store is not to be reached" in result.stderr
    assert "Until then: imported 200" in result.stderr


def test_a_file_whose_name_is_no_text_is_imported_too(thumbwheel, tmp_path, client):
    file = written(tmp_path / "a\udcff.jsonl", PROMPT)
    assert thumbwheel("import", file).exit_code == 0
    assert client.get("/v1/audit").json()["data"][0]["after"]["name"] == "a?.jsonl"


def test_for_scripts(thumbwheel, tmp_path):
    file = written(tmp_path / "a.jsonl", PAIR, THUMB, b"{", 7)
    result = thumbwheel("import", file, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["imported"] == {"preference": 1, "unpaired": 1, "prompt": 0}
    assert (found["already"], found["bad"]) == (0, 2)
    assert [error["line"] for error in found["errors"]] == [3, 4]
    assert found["errors"][1]["message"] == "it is not a JSON object"


def test_the_audit_log_counts_the_bad_lines_that_were_not_sent_too(thumbwheel, tmp_path, client):
    thumbwheel("import", written(tmp_path / "a.jsonl", PAIR, THUMB, b"{", 7))
    assert client.get("/v1/audit").json()["data"][0]["after"]["bad"] == 2
    assert "a.jsonl finished, imported 2, already 0, bad 2" in thumbwheel("audit").stdout


def test_many_bad_lines_are_counted_and_the_first_ones_shown(thumbwheel, tmp_path):
    file = written(tmp_path / "a.jsonl", *[b"{"] * 1500, PROMPT)
    lines = thumbwheel("import", file).stdout.splitlines()
    assert any("1,500 bad lines" in line for line in lines)
    assert sum(line.startswith("  line ") for line in lines) == 20
    assert any(line.startswith("  … and 1,480 more, in lines 21-1000, and 500 after these") for line in lines)
    assert "on these prompts too" in lines[-1]
    assert len(json.loads(thumbwheel("import", file, "--json").stdout)["errors"]) == 1000


def test_a_dry_run_checks_and_imports_nothing(thumbwheel, tmp_path, redis):
    file = written(tmp_path / "a.jsonl", PAIR, THUMB, {"prompt": ""})
    result = thumbwheel("import", file, "--dry-run")
    assert result.exit_code == 1
    assert result.stdout.startswith("would have imported 2 (1 preference, 1 unpaired, 0 prompts)")
    assert "line 3" in result.stdout
    assert "update" not in result.stdout
    assert redis.keys("tw:prompt*") == []
    assert redis.get("tw:labels") is None


def test_standard_input(thumbwheel, redis):
    content = b"\xef\xbb\xbf" + json.dumps(PAIR).encode() + b"\r\n\r\n" + json.dumps(PROMPT).encode()
    result = thumbwheel("import", "-", "--source", "a pipe", stdin=content)
    assert result.exit_code == 0
    assert "imported 2 (1 preference, 0 unpaired, 1 prompts)" in result.stdout
    [key] = redis.keys("tw:pair:*")
    side = json.loads(redis.hget(key, "body"))["a"]
    body = json.loads(redis.hget(f"tw:completion:{side}", "body"))
    assert body["metadata"] == {"import": "a pipe"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.jsonl", "There is no file"),
        ("folder", "cannot be read"),
        ("array.json", "JSON array, not JSON lines"),
    ],
)
def test_files_that_are_none_get_a_sentence(thumbwheel, tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "array.json").write_text(json.dumps([PAIR, THUMB], indent=2))
    result = thumbwheel("import", str(tmp_path / name))
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""


def test_only_operators_import(thumbwheel, gateway, tmp_path):
    file = written(tmp_path / "a.jsonl", PAIR)
    result = thumbwheel("--key", gateway.key(Role.viewer), "import", file)
    assert result.exit_code == 1
    assert "needs a key with the role operator" in result.stderr
    assert "Until then" not in result.stderr


def test_what_one_body_cannot_hold_is_sent_in_parts(
    valkey: ValkeyProcess, engine, engine_server, tmp_path, monkeypatch
):
    """A gateway may take less than a batch, and less than one line."""
    lines = [{"prompt": f"{number} " + "x" * 900} for number in range(40)]
    file = written(tmp_path / "a.jsonl", *lines[:20], {"prompt": "y" * 9000}, *lines[20:])
    with running_gateway(valkey.url, tmp_path, engine, [engine_server.url], max_body=5000) as small:
        monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
        words = ["--url", small.url, "import", file]
        result = CliRunner().invoke(app, words)
    assert "imported 40 (0 preference, 0 unpaired, 40 prompts), 0 already there, 1 bad line:" in result.stdout
    assert "line 21: it is longer than the gateway takes" in result.stdout


def test_long_files_show_how_far_they_are(thumbwheel, tmp_path):
    file = written(tmp_path / "a.jsonl", *({"prompt": f"{number}"} for number in range(450)))
    result = thumbwheel("import", file)
    told = [line for line in result.stdout.splitlines() if "reading" in line]
    assert len(told) == 1, "where there is no terminal, one line now and then"
    assert "line 400, 400 imported" in told[0]
    quiet = thumbwheel("import", file, "--json")
    assert json.loads(quiet.stdout)["already"] == 450


def test_lines_without_a_gap_are_told_together():
    assert ranges([3, 7, 8, 9, 11]) == "3, 7-9, 11"
    assert ranges([]) == ""
