import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import supervisor as module
from deploy.console import Console
from deploy.supervisor import Process, StartError, Stopped, Supervisor
from deploy.watchdog import Watchdog
from tests.servers import alive, eventually

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
# Like vLLM's API server: a child of its own that nobody but the group knows of.
PARENT = f"""
import subprocess, sys
print(subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]).pid, flush=True)
{SLEEPER}
"""


class Machine:
    """A supervisor with real children in a folder of its own."""

    def __init__(self, home: Path) -> None:
        self.logs = home
        self.stop_asked = threading.Event()
        self.lock = os.open(home / "lock", os.O_CREAT | os.O_RDWR)
        self.watchdog = Watchdog(self.lock)
        self.supervisor = Supervisor(home, Console(home / "supervisor.log"), self.watchdog, self.stop_asked)

    def close(self) -> None:
        self.supervisor.stop()
        self.watchdog.close()
        os.close(self.lock)

    def said(self) -> str:
        return (self.logs / "supervisor.log").read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.close()


def python(name: str, code: str, **options: object) -> Process:
    return Process(name, (sys.executable, "-c", code), dict(os.environ), **options)  # type: ignore[arg-type]


def test_waits_until_its_log_says_that_it_is_ready(machine: Machine) -> None:
    machine.supervisor.start(python("one", SLEEPER, ready=lambda log: "up" in log))
    machine.supervisor.await_ready(10)
    assert "one is ready" in machine.said()


def test_readiness_ignores_what_an_earlier_start_logged(machine: Machine) -> None:
    (machine.logs / "one.log").write_text("up\n")
    machine.supervisor.start(python("one", "import time; time.sleep(600)", ready=lambda log: "up" in log))
    with pytest.raises(StartError, match="was not ready within 0 s"):
        machine.supervisor.await_ready(0.4)


def test_failing_start_names_the_step_with_its_last_lines_and_advice(machine: Machine) -> None:
    code = "print(*range(40), sep='\\n'); raise SystemExit('no room for the model')"
    machine.supervisor.start(python("engine", code, advice="Free some memory.", ready=lambda log: False))
    with pytest.raises(StartError, match=r"engine did not start \(exit code 1\)") as failure:
        machine.supervisor.await_ready(10)
    assert len(failure.value.lines) == 15
    assert failure.value.lines[-1] == "no room for the model"
    assert failure.value.advice == f"Free some memory. Its log: {machine.logs / 'engine.log'}"


def test_asking_to_stop_ends_the_wait(machine: Machine) -> None:
    machine.supervisor.start(python("one", SLEEPER, ready=lambda log: False))
    machine.stop_asked.set()
    with pytest.raises(Stopped):
        machine.supervisor.await_ready(10)


def test_run_returns_after_a_success_and_raises_after_a_failure(machine: Machine) -> None:
    machine.supervisor.run(python("model", "pass"), "Preparing")
    with pytest.raises(StartError, match=r"Preparing failed \(exit code 3\)"):
        machine.supervisor.run(python("model", "raise SystemExit(3)"), "Preparing")
    assert machine.supervisor.pids == {}


def test_a_killed_child_is_restarted_with_growing_delays_and_that_is_said(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.05)
    child = machine.supervisor.start(python("worker", SLEEPER))
    for _ in range(3):
        pid = machine.supervisor.pids["worker"]
        os.kill(pid, signal.SIGKILL)
        eventually(machine.supervisor.tend)
        assert machine.supervisor.pids["worker"] != pid
    assert child.failures == 1
    said = machine.said()
    for delay in ("0.05", "0.1", "0.2"):
        assert f"worker ended (signal SIGKILL); starting it again in {delay} s" in said
    assert "worker was started again (attempt 3)" in said


def test_a_restart_after_a_steady_run_begins_with_the_first_delay(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(module, "STEADY", 0.0)
    machine.supervisor.start(python("worker", SLEEPER))
    for _ in range(2):
        os.kill(machine.supervisor.pids["worker"], signal.SIGKILL)
        eventually(machine.supervisor.tend)
    assert machine.said().count("starting it again in 0.05 s") == 2


def test_a_dead_child_takes_its_own_children_along(machine: Machine) -> None:
    child = machine.supervisor.start(python("engine", PARENT))
    eventually(child.output)
    grandchild = int(child.output().splitlines()[0])
    os.kill(child.popen.pid, signal.SIGKILL)
    eventually(lambda: child.popen.poll() is not None)
    assert alive(grandchild)
    machine.supervisor.tend()
    eventually(lambda: not alive(grandchild))


def test_stop_ends_all_of_them_higher_tiers_first(machine: Machine) -> None:
    goodbye = (
        "import signal, sys, time\n"
        "def bye(*_): print('bye', time.time(), flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM, bye); print('up', flush=True); time.sleep(600)"
    )
    for tier in (0, 1, 2):
        machine.supervisor.start(python(f"tier-{tier}", goodbye, ready=lambda log: "up" in log, tier=tier))
    machine.supervisor.await_ready(10)
    pids = list(machine.supervisor.pids.values())
    machine.supervisor.stop()
    assert not any(alive(pid) for pid in pids)
    times = [float((machine.logs / f"tier-{tier}.log").read_text().split()[-1]) for tier in (2, 1, 0)]
    assert times == sorted(times)


def test_stop_kills_one_that_does_not_listen(machine: Machine) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
    machine.supervisor.start(python("deaf", deaf, ready=lambda log: "up" in log, grace=0.2))
    machine.supervisor.await_ready(10)
    pid = machine.supervisor.pids["deaf"]
    machine.supervisor.stop()
    assert not alive(pid)
    assert "deaf did not stop in time and was killed" in machine.said()


def test_the_watchdog_ends_everything_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, threading, time\n"
        "from pathlib import Path\n"
        "from deploy.console import Console\n"
        "from deploy.supervisor import Process, Supervisor\n"
        "from deploy.watchdog import Watchdog\n"
        f"home = Path({str(tmp_path)!r})\n"
        "lock = os.open(home / 'lock', os.O_CREAT | os.O_RDWR)\n"
        "supervisor = Supervisor(home, Console(), Watchdog(lock), threading.Event())\n"
        f"child = supervisor.start(Process('engine', (sys.executable, '-c', {PARENT!r}), dict(os.environ)))\n"
        "while not child.output(): time.sleep(0.02)\n"
        "print(child.popen.pid, child.output().split()[0], flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert all(alive(pid) for pid in pids)
        process.kill()
    eventually(lambda: not any(alive(pid) for pid in pids))


def test_a_killed_watchdog_is_replaced_and_the_new_one_knows_the_groups(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    watchdog = Watchdog(lock)
    one, two = [subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2)]
    watchdog.add(one.pid)
    os.kill(watchdog.pid, signal.SIGKILL)
    eventually(lambda: not alive(watchdog.pid))
    watchdog.add(two.pid)
    watchdog.close()
    assert [one.wait(10), two.wait(10)] == [-signal.SIGKILL, -signal.SIGKILL]
    os.close(lock)


def test_a_log_that_has_grown_large_is_set_aside_while_its_writer_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 4)
    log = machine.logs / "one.log"
    log.write_text("an older story\n")
    code = "import time\nwhile True: print('word', flush=True); time.sleep(0.05)"
    child = machine.supervisor.start(python("one", code))
    assert (machine.logs / "one.log.1").read_text() == "an older story\n"
    eventually(lambda: log.stat().st_size > 4)
    machine.supervisor.tend()
    assert (machine.logs / "one.log.1").read_text().startswith("word\n")
    eventually(lambda: child.output().startswith("word"))
