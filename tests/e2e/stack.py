"""A real stack and its people: what the end-to-end tests and the measurements share."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from redis import Redis

from serving.jobs import Jobs, Kind
from tests.servers import eventually

ROOT = Path(__file__).parents[2]
START_SECONDS = 600
# What the gate accepts answers everybody: a canary would wait for the ratings of many people.
AT_ONCE = {"THUMBWHEEL_RELEASE_MODE": "at_once", "THUMBWHEEL_WATCH_SECONDS": "0"}


@dataclass
class Stack:
    home: Path
    port: int
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.home / "keys" / "operator").read_text().strip()

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "run" / "thumbwheel.json").read_text())
        return found

    @property
    def environment(self) -> dict[str, str]:
        own = {"THUMBWHEEL_HOME": str(self.home), "THUMBWHEEL_PORT": str(self.port)}
        return {**os.environ, **AT_ONCE, **own, **self.variables}

    def up(self) -> str:
        return self._script("up", "--detach")

    def down(self) -> str:
        return self._script("down")

    def _script(self, *command: str) -> str:
        script = [str(ROOT / "deploy" / command[0]), *command[1:]]
        done = subprocess.run(
            script, env=self.environment, capture_output=True, text=True, timeout=START_SECONDS, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """`thumbwheel …`, as a person would type it."""
        program = ROOT / ".venv" / "bin" / "thumbwheel"
        return subprocess.run(
            [str(program), *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    def redis(self) -> Redis:
        return Redis.from_url(self.facts["redis_url"], decode_responses=True)

    def kill(self, process: str) -> int:
        """kill -9 of one of the stack's processes, by the id it was started under."""
        pid = int(self.facts["pids"][process])
        os.kill(pid, signal.SIGKILL)
        return pid

    def restarted(self, process: str, pid: int) -> None:
        eventually(lambda: self.facts["pids"].get(process) not in (None, pid), 60)

    def ready(self, seconds: float = 180) -> None:
        def answers() -> bool:
            try:
                return httpx.get(self.url + "/readyz", timeout=30).status_code == 200
            except httpx.HTTPError:
                return False

        eventually(answers, seconds, every=0.5)


class SteadyLoad:
    """People who chat all the while, stream after stream on a thread each, and what becomes of them."""

    def __init__(self, stack: Stack, people: int = 3, tokens: int = 24) -> None:
        self._stack = stack
        self._tokens = tokens
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._chat, args=(number,)) for number in range(people)]
        self.failed: list[str] = []
        self.answered: Counter[str] = Counter()
        self.last: dict[int, tuple[float, str]] = {}
        self.gaps: list[float] = []

    def __enter__(self) -> "SteadyLoad":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _chat(self, number: int) -> None:
        with self._stack.client() as client:
            turn = 0
            while not self._stop.is_set():
                turn += 1
                messages = [{"role": "user", "content": f"Person {number}, turn {turn}: tell me something."}]
                body = {"model": "policy", "messages": messages, "max_tokens": self._tokens, "stream": True}
                try:
                    self._read(client, number, body)
                except (httpx.HTTPError, AssertionError, KeyError) as error:
                    self.failed.append(repr(error))

    def _read(self, client: httpx.Client, number: int, body: dict[str, Any]) -> None:
        versions, before = set(), None
        begun = time.monotonic()
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                response.read()
                raise AssertionError(f"{response.status_code}: {response.text}")
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    now = time.monotonic()
                    if before is not None:
                        self.gaps.append(now - before)
                    before = now
                    versions.add(json.loads(line[6:])["model"])
        assert len(versions) == 1, f"a reply written by {versions}"
        version = versions.pop()
        self.answered[version] += 1
        self.last[number] = (begun, version)


def ask(client: httpx.Client, text: str, **more: Any) -> dict[str, Any]:
    body = {"model": "policy", "messages": [{"role": "user", "content": text}], "max_tokens": 24, **more}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def job_until(client: httpx.Client, job_id: str, condition: Any, seconds: float) -> dict[str, Any]:
    """The job as soon as a condition on it holds."""

    def look() -> dict[str, Any] | None:
        job = client.get(f"/v1/jobs/{job_id}").json()
        return job if condition(job) else None

    found: dict[str, Any] = eventually(look, seconds, every=0.25)
    return found


def ended(job: dict[str, Any]) -> bool:
    return job["state"] not in ("queued", "running")


def publish(stack: Stack, folder: Path, kind: str) -> subprocess.CompletedProcess:
    """An adapter made by hand, published."""
    subprocess.run(
        [sys.executable, "-m", "tests.e2e.adapters", stack.facts["model"], str(folder), kind],
        cwd=ROOT,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    return publish_adapter(stack, folder, folder / "adapter", folder / "probe.json")


def publish_aside(stack: Stack, folder: Path, kind: str) -> str:
    """`publish`, and back to the champion before: the version's name."""
    done = publish(stack, folder, kind)
    assert done.returncode == 0, done.stderr
    with stack.client() as client:
        client.post("/v1/rollback", json={"reason": "for the tests"}).raise_for_status()
    return str(json.loads((folder / "metrics.json").read_text())["version"])


def publish_adapter(stack: Stack, folder: Path, adapter: Path, probe: Path) -> subprocess.CompletedProcess:
    """By the way of every version: the stage `publish` in `folder`, under a lease."""
    with stack.redis() as redis, stack.client() as client:
        jobs = Jobs(redis, lease_seconds=120)
        job = jobs.create(Kind.policy, by="test")
        lease = jobs.acquire(job.id)
        assert lease is not None, "a job is running"
        config = {
            "job": job.id,
            "token": lease.token,
            "adapter": str(adapter),
            "probe": str(probe),
            "parent": client.get("/v1/policies").json()["champion"],
            "reward": None,
            "evaluation": {"accepted": True},
        }
        (folder / "stage.json").write_text(json.dumps(config))
        facts = stack.facts
        wiring = {
            "THUMBWHEEL_HOME": str(stack.home),
            "THUMBWHEEL_REDIS_URL": facts["redis_url"],
            "THUMBWHEEL_BROKER_URL": facts["broker_url"],
            "THUMBWHEEL_ENGINES": ",".join(facts["engines"]),
        }
        done = subprocess.run(
            [sys.executable, "-m", "workers.stages.publish", str(folder)],
            env={**os.environ, **AT_ONCE, **wiring},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        jobs.update(lease, state="done" if done.returncode == 0 else "failed")
        jobs.release(lease)
    return done
