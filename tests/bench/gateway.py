"""What the gateway costs: CPU per request and per streamed chunk, with logging on.

python -m tests.bench.gateway [--requests 2000] [--connections 16]

A mock engine, a real Valkey that persists, the gateway and the load each run in a process of their own, on
loopback. CPU is what the kernel booked on the gateway's process, user and system, until its log was written.
A chunk's cost is the slope between streams of a few and of many chunks. In bursts the engine sends as fast as
it can, so that several chunks arrive together; one by one it pauses after each. Nothing is asserted; stops by
itself.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from feedback.settings import PREFIX
from tests.bench import load, mock_engine
from tests.servers import ValkeyProcess, eventually, free_port

SHORT, LONG = 10, 210  # chunks a stream
WARM_UP = 200
PAUSED = 0.02  # seconds between chunks in the row that shows chunks which come one by one


@dataclass(frozen=True, slots=True)
class Figures:
    """CPU in milliseconds a request; latencies in milliseconds."""

    cpu: float
    p50: float
    p99: float
    rate: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        gateway = stack.enter_context(running(Path(folder)))
        rows = {
            "plain": (args.requests, 0, 0.0),
            f"stream of {SHORT} chunks, bursts": (args.requests, SHORT, 0.0),
            f"stream of {LONG} chunks, bursts": (args.requests // 4, LONG, 0.0),
            f"stream of {SHORT} chunks, one by one": (args.requests // 8, SHORT, PAUSED),
            f"stream of {LONG} chunks, one by one": (args.requests // 32, LONG, PAUSED),
        }
        gateway.measure(WARM_UP, 0, 0.0, args.connections)
        found = {
            name: gateway.measure(requests, chunks, pause, args.connections)
            for name, (requests, chunks, pause) in track(
                rows.items(), "measuring", console=Console(stderr=True)
            )
        }
        show(found, args.connections)


class Gateway:
    def __init__(self, url: str, key: str, pid: int, valkey: ValkeyProcess) -> None:
        self.url, self.key, self.pid, self.valkey = url, key, pid, valkey

    def measure(self, requests: int, chunks: int, pause: float, connections: int) -> Figures:
        logged = self._logged()
        before = cpu_seconds(self.pid)
        command = [sys.executable, "-m", load.__name__, self.url, self.key]
        command += [str(part) for part in (requests, chunks, pause, connections)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        p50, p99, rate = (float(part) for part in answer.stdout.split())
        eventually(lambda: self._logged() >= logged + requests, seconds=30)
        return Figures(1000 * (cpu_seconds(self.pid) - before) / requests, p50, p99, rate)

    def _logged(self) -> int:
        return int(self.valkey.client.xlen("tw:completions"))


@contextmanager
def running(folder: Path, before: Callable[[ValkeyProcess], None] = lambda _: None) -> Iterator[Gateway]:
    """A gateway with all that it needs, each in a process of its own. `before`: what is done with Valkey
    before the gateway starts."""
    valkey = ValkeyProcess(folder, free_port())
    valkey.start()
    before(valkey)
    engine_port, port = free_port(), free_port()
    settings = {
        "HOME": str(folder),
        "REDIS_URL": valkey.url,
        "BROKER_URL": valkey.broker_url,
        "ENGINES": f"http://127.0.0.1:{engine_port}",
        "PORT": str(port),
    }
    environment = {**os.environ, **{PREFIX + name: value for name, value in settings.items()}}
    engine = subprocess.Popen([sys.executable, "-m", mock_engine.__name__, str(engine_port)])
    gateway = subprocess.Popen(
        [sys.executable, "-m", "serving.app"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: is_ready(url), seconds=30)
        key = (folder / "keys" / "operator").read_text().strip()
        yield Gateway(url, key, gateway.pid, valkey)
    finally:
        for process in (gateway, engine):
            process.terminate()
            process.wait()
        valkey.client.close()
        valkey.kill()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(url + "/readyz").status_code == 200
    except httpx.TransportError:
        return False


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def show(found: dict[str, Figures], connections: int) -> None:
    table = Table(title=f"The gateway's cost, {connections} connections, every reply logged")
    for column in ("", "CPU ms/request", "p50 ms", "p99 ms", "requests/s"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in found.items():
        table.add_row(name, f"{row.cpu:.2f}", f"{row.p50:.1f}", f"{row.p99:.1f}", f"{row.rate:.0f}")
    console = Console(width=100)
    console.print(table)
    for way in ("bursts", "one by one"):
        short, long = (row.cpu for name, row in found.items() if name.endswith(way))
        console.print(f"CPU per streamed chunk, {way}: {1000 * (long - short) / (LONG - SHORT):.1f} µs")


if __name__ == "__main__":
    main()
