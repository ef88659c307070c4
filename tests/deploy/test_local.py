"""The supervisor as people start it, with real children; a fake engine stands in for the slow one."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.state import Run
from tests.fake_engine import FakeEngine
from tests.servers import alive, eventually, free_port, serving


class Home:
    """A home of its own, and `deploy.local` on it."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder = folder
        self.variables = {
            "THUMBWHEEL_HOME": str(folder),
            "THUMBWHEEL_PORT": str(free_port()),
            "THUMBWHEEL_ENGINES": engine,
            "THUMBWHEEL_MODEL": str(folder.parent),
        }

    def local(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-P", "-m", "deploy.local", *arguments]
        environment = os.environ | self.variables | variables
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def facts(self) -> dict[str, Any]:
        return Run(self.folder).read()

    def key(self) -> str:
        return (self.folder / "keys" / "operator").read_text().strip()

    def said(self) -> str:
        return (self.folder / "logs" / "supervisor.log").read_text()


@pytest.fixture
def home(tmp_path: Path, engine: FakeEngine) -> Iterator[Home]:
    with serving(engine.app) as url:
        made = Home(tmp_path / "home", url)
        yield made
        made.local("down")


@pytest.mark.slow
def test_up_chats_restarts_what_dies_and_keeps_its_state_over_down_and_up(home: Home) -> None:
    started = home.local("up", "--detach")
    assert started.returncode == 0, started.stdout + started.stderr
    facts, key = home.facts(), home.key()
    assert set(facts["pids"]) == {"valkey", "gateway", "worker-train", "worker-control", "beat"}
    assert facts["url"] in started.stdout
    assert str(home.folder / "keys" / "operator") in started.stdout
    assert "a first chat was answered: A fine answer." in started.stdout
    assert '"temperature": 0.3' in started.stdout
    assert all(f"{facts['url']}/{page} " in started.stdout for page in ("dashboard", "operate"))

    again = home.local("up")
    assert again.returncode == 1
    assert f"already up at {facts['url']}" in again.stdout
    assert home.local("up", "--detach").returncode == 0

    killed = facts["pids"]["worker-control"]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: home.facts()["pids"]["worker-control"] != killed)
    assert "worker-control ended (signal SIGKILL); starting it again in 0.5 s" in home.said()
    eventually(lambda: "worker-control is ready" in home.said().rpartition("started again")[2])

    pids = [*home.facts()["pids"].values(), facts["supervisor"]]
    stopped = home.local("down")
    assert (stopped.returncode, stopped.stdout.splitlines()[-1]) == (0, "Nothing is left running.")
    assert not any(alive(pid) for pid in pids)
    assert home.local("down").stdout == "Nothing runs.\n"

    assert home.local("up", "--detach").returncode == 0
    assert home.key() == key
    answer = httpx.get(f"{home.facts()['url']}/v1/models", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert [stat.S_IMODE(path.stat().st_mode) for path in (home.folder / "keys").iterdir()] == [0o600, 0o600]


@pytest.mark.slow
def test_a_start_replaces_a_revoked_operator_key_but_not_one_that_was_given(home: Home) -> None:
    assert home.local("up", "--detach").returncode == 0
    first, url = home.key(), home.facts()["url"]
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {first}"}) as client:
        other = client.post("/v1/keys", json={"name": "ann", "role": "operator"}).json()["key"]
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {other}"}) as client:
        assert client.delete(f"/v1/keys/{first.split('-')[1]}").status_code == 200
    assert home.local("down").returncode == 0

    refused = home.local("up", "--detach", THUMBWHEEL_OPERATOR_KEY=first)
    assert refused.returncode == 1
    assert "THUMBWHEEL_OPERATOR_KEY is the key" in refused.stdout
    assert "which is revoked. Give another one, or unset the variable" in refused.stdout

    started = home.local("up", "--detach")
    assert started.returncode == 0, started.stdout + started.stderr
    assert f"the operator's key was revoked; {home.folder / 'keys' / 'operator'} holds" in started.stdout
    assert home.key() not in (first, other)
    statuses = [
        httpx.get(f"{url}/v1/keys", headers={"Authorization": f"Bearer {key}"}).status_code
        for key in (first, other, home.key())
    ]
    assert statuses == [401, 200, 200]


@pytest.mark.slow
def test_ctrl_c_in_front_of_it_stops_everything(home: Home) -> None:
    command = [sys.executable, "-P", "-m", "deploy.local", "up"]
    environment = os.environ | home.variables
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        eventually(lambda: home.facts().get("ready"), 60)
        pids = list(home.facts()["pids"].values())
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output.splitlines()[-1] == "Nothing is left running."
    assert not any(alive(pid) for pid in pids)
    assert home.facts() == {}


@pytest.mark.slow
def test_a_killed_supervisor_leaves_nothing_and_the_next_one_starts(home: Home) -> None:
    assert home.local("up", "--detach").returncode == 0
    facts = home.facts()
    os.kill(facts["supervisor"], signal.SIGKILL)
    eventually(lambda: not Run(home.folder).is_locked())
    eventually(lambda: not any(alive(pid) for pid in facts["pids"].values()))
    assert home.local("up", "--detach").returncode == 0


@pytest.mark.slow
def test_a_taken_port_is_said_before_anything_is_started(home: Home) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        for arguments in (["up"], ["up", "--detach"]):
            failed = home.local(*arguments, THUMBWHEEL_PORT=port)
            assert failed.returncode == 1
            assert f"Port {port} on 127.0.0.1 is taken.\nStop what listens there" in failed.stdout
    assert not (home.folder / "valkey").exists()


@pytest.mark.slow
def test_a_process_that_cannot_start_is_shown_with_its_log_and_the_others_are_stopped(home: Home) -> None:
    failed = home.local("up", "--detach", THUMBWHEEL_BROKER_URL="pigeon://there")
    assert failed.returncode == 1
    assert "did not start (exit code 1)" in failed.stdout
    assert "No such transport: pigeon" in failed.stdout
    assert f"Its log: {home.folder / 'logs'}" in failed.stdout
    assert failed.stdout.splitlines()[-1] == "Nothing is left running."
    assert not Run(home.folder).is_locked()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("THUMBWHEEL_REDIS_URL", "redis://127.0.0.1:1", "Nothing answers at THUMBWHEEL_REDIS_URL"),
        ("THUMBWHEEL_REDIS_URL", "localhost:6379", "Nothing answers at THUMBWHEEL_REDIS_URL"),
        ("THUMBWHEEL_BROKER_URL", "redis://127.0.0.1:1", "Nothing answers at THUMBWHEEL_BROKER_URL"),
        ("THUMBWHEEL_ENGINES", "http://127.0.0.1:1", "No engine answers at http://127.0.0.1:1"),
        ("THUMBWHEEL_ENGINES", "engine", "No engine answers at engine"),
    ],
)
def test_a_server_that_should_run_already_is_asked_first(
    home: Home, variable: str, value: str, message: str
) -> None:
    failed = home.local("up", **{variable: value})
    assert failed.returncode == 1
    assert message in failed.stdout
    assert "Traceback" not in failed.stdout + failed.stderr


@pytest.mark.parametrize("arguments", [["up"], ["up", "--detach"], ["down"]])
def test_a_home_that_is_no_folder_is_said_in_a_sentence(home: Home, arguments: list[str]) -> None:
    home.folder.write_text("a file")
    failed = home.local(*arguments)
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
    assert failed.stderr.startswith("THUMBWHEEL_HOME cannot be used (Not a directory: ")
    home.folder.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_a_start_in_the_background_stops_that_start(home: Home, number: signal.Signals) -> None:
    command = [sys.executable, "-P", "-m", "deploy.local", "up", "--detach"]
    environment = os.environ | home.variables
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        eventually(lambda: (home.folder / "logs" / "valkey.log").exists(), 30)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output.splitlines()[-1] == "Nothing is left running."
    assert not Run(home.folder).is_locked()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "THUMBWHEEL_PROT",
            "1",
            "DeploySettings does not know THUMBWHEEL_PROT (did you mean THUMBWHEEL_PORT?).",
        ),
        ("THUMBWHEEL_PORT", "many", "THUMBWHEEL_PORT Input should be a valid integer"),
        ("THUMBWHEEL_MODEL", "nowhere", "THUMBWHEEL_MODEL: nowhere is neither a folder nor a hub id"),
    ],
)
def test_wrong_settings_are_refused_in_a_sentence(
    home: Home, variable: str, value: str, message: str
) -> None:
    failed = home.local("up", **{variable: value})
    assert failed.returncode == 2
    assert failed.stderr.startswith(message)
    assert "Traceback" not in failed.stderr


@pytest.mark.slow
def test_facts_are_json_for_scripts(home: Home) -> None:
    assert home.local("up", "--detach").returncode == 0
    facts = json.loads((home.folder / "run" / "thumbwheel.json").read_text())
    assert facts["ready"]
    assert facts["home"] == str(home.folder)
    assert facts["engines"] == [home.variables["THUMBWHEEL_ENGINES"]]
