import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from starlette.types import Receive, Scope, Send

from feedback.caller import Role
from feedback.settings import PREFIX
from serving.app import create_app
from serving.auth import Keys
from serving.jobs import Jobs
from serving.registry import Registry, Version
from serving.settings import ServingSettings
from tests.fake_engine import FakeEngine
from tests.servers import ValkeyProcess, eventually, free_port, serving

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyProcess]:
    server = ValkeyProcess(tmp_path_factory.mktemp("valkey"), free_port())
    server.start()
    yield server
    server.client.close()
    server.kill()


@pytest.fixture
def valkey(valkey_server: ValkeyProcess) -> ValkeyProcess:
    """Empty; on `database`s other than 0 and 1 lies what longer-lived fixtures need."""
    for database in (0, 1):
        with Redis.from_url(valkey_server.database(database)) as client:
            client.flushdb()
    return valkey_server


@pytest.fixture
def redis(valkey: ValkeyProcess) -> Redis:
    return valkey.client


@dataclass
class Gateway:
    """A running gateway with one fake engine, and what a test wants to look at behind it."""

    url: str
    engine: FakeEngine
    redis: Redis
    home: Path
    operator_key: str
    registry: Registry
    jobs: Jobs
    keys: Keys

    def client(self, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.operator_key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)

    def key(self, role: Role, name: str = "somebody") -> str:
        with self.client() as client:
            answer = client.post("/v1/keys", json={"name": name, "role": role.name})
            return str(answer.json()["key"])

    def publish(self, version: str, **more: Any) -> None:
        """A policy version as a finished job leaves it, on disk and in the registry."""
        folder = self.home / "artifacts" / "policies" / version
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_text("{}")
        job = self.jobs.create("policy", by="test")  # type: ignore[arg-type]
        lease = self.jobs.acquire(job.id)
        assert lease is not None
        path = f"artifacts/policies/{version}"
        self.registry.add_policy(Version(version, path, 1.0, **{"parent": "policy-v0", **more}), lease)
        self.jobs.update(lease, state="done", policy=version, finished=time.time())
        self.jobs.release(lease)


class EngineServer:
    """One server for all tests' fake engines, each of which takes its turn behind the same URL."""

    current: FakeEngine
    url: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.current.app if scope["type"] == "http" else FakeEngine().app
        await app(scope, receive, send)


@pytest.fixture(scope="session")
def engine_server() -> Iterator[EngineServer]:
    server = EngineServer()
    with serving(server) as server.url:
        yield server


@pytest.fixture
def engine(engine_server: EngineServer) -> FakeEngine:
    engine_server.current = FakeEngine()
    return engine_server.current


@contextmanager
def running_gateway(
    redis_url: str, home: Path, engine: FakeEngine, engine_urls: Iterable[str], **settings: Any
) -> Iterator[Gateway]:
    """A gateway in front of engines, of which tests look into the first."""
    known = ServingSettings(
        **{
            "home": home,
            "redis_url": redis_url,
            "broker_url": redis_url,
            "refresh": 0.2,
            "watch_seconds": 0,
            **settings,
        },
        engines=tuple(engine_urls),
    )
    with Redis.from_url(redis_url, decode_responses=True) as redis, serving(create_app(known)) as url:
        eventually(lambda: httpx.get(url + "/readyz").status_code == 200, every=0.01)
        key = (home / "keys" / "operator").read_text().strip()
        yield Gateway(url, engine, redis, home, key, Registry(redis, home), Jobs(redis), Keys(redis))


@pytest.fixture
def gateway(
    valkey: ValkeyProcess, engine: FakeEngine, engine_server: EngineServer, tmp_path: Path
) -> Iterator[Gateway]:
    with running_gateway(
        valkey.url, tmp_path, engine, [engine_server.url], broker_url=valkey.broker_url
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def steady(valkey_server: ValkeyProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for all tests of a module that do not mind what the others left there."""
    url, engine = valkey_server.database(2), FakeEngine()
    with Redis.from_url(url) as client:
        client.flushdb()
    home = tmp_path_factory.mktemp("steady")
    with serving(engine.app) as engine_url, running_gateway(url, home, engine, [engine_url]) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


def chat(client: httpx.Client, **more: Any) -> dict[str, Any]:
    """One plain chat completion."""
    answer = client.post("/v1/chat/completions", json={"model": "policy", "messages": MESSAGES, **more})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = json.loads(answer.content)
    return body
