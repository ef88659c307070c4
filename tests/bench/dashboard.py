"""What the dashboard costs: a look at few and at many ratings, and the chat with and without an open page.

python -m tests.bench.dashboard [--ratings 1000 10000 1000000] [--looks 100] [--rounds 6] [--requests 5000]

Gateways, each with a Valkey that persists and a mock engine, all in processes of their own: they have that
many thumbs, given over 30 days through the scripts that take people's. Looks at them take turns, so that
other work on the machine falls on all; CPU is what the kernel booked on the gateway and on Valkey. Of few
ratings many hours are empty, which is quicker; once they are filled, a look takes the same. Then chats are
served in rounds, with and without a page that listens and asks for its figures at each change, as the
browser's does. Nothing is asserted; stops by itself. A million take some minutes, and 1.5 GB.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.bench.gateway import Figures, Gateway, cpu_seconds, running
from tests.crowd import Crowd

DAY = 86400
PAUSE = 2.0  # seconds between two looks of one page, as in dashboard.js
WINDOWS = {"30 days": 30, "7 days": 7, "all time": None}
CONNECTIONS = 8
console = Console(width=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ratings", type=int, nargs="+", default=[1000, 10_000, 1_000_000])
    parser.add_argument("--looks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--requests", type=int, default=5000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        gateways = {n: stack.enter_context(_filled(Path(folder) / str(n), n)) for n in args.ratings}
        for name, days in WINDOWS.items():
            show_looks(name, compare(gateways, days, args.looks))
        show_chats(*chats(gateways[args.ratings[-1]], args.rounds, args.requests))


@contextmanager
def _filled(folder: Path, thumbs: int) -> Iterator[Gateway]:
    folder.mkdir()
    with running(folder) as gateway:
        start, end = time.monotonic(), time.time() - 60
        each = 4 if thumbs >= 100_000 else 1
        crowd = Crowd(end - 29 * DAY, end, thumbs, raters=max(50, thumbs // 100), each=each, comments=0.01)
        crowd.speak(gateway.valkey.client)
        console.print(f"{thumbs:,} thumbs given in {time.monotonic() - start:.0f} s")
        yield gateway


class Looks:
    """Seconds of looks, and of CPU a look."""

    def __init__(self, gateway: Gateway, days: int | None) -> None:
        self._gateway = gateway
        since = {} if days is None else {"since": int(time.time() - days * DAY)}
        self._request = httpx.Request(
            "GET",
            httpx.URL(gateway.url + "/v1/stats/dashboard", params=since),
            headers={"Authorization": f"Bearer {gateway.key}"},
        )
        self.seconds: list[float] = []
        self.cpu = {"gateway": 0.0, "Valkey": 0.0}

    def look(self, client: httpx.Client) -> None:
        before = self._booked()
        start = time.perf_counter()
        client.send(self._request).raise_for_status()
        self.seconds.append(time.perf_counter() - start)
        for name, booked in self._booked().items():
            self.cpu[name] += booked - before[name]

    def _booked(self) -> dict[str, float]:
        pids = {"gateway": self._gateway.pid, "Valkey": self._gateway.valkey.process.pid}
        return {name: cpu_seconds(pid) for name, pid in pids.items()}

    def quantile(self, share: float) -> float:
        return 1000 * sorted(self.seconds)[int(share * len(self.seconds))]


def compare(gateways: dict[int, Gateway], days: int | None, count: int) -> dict[int, Looks]:
    looks = {ratings: Looks(gateway, days) for ratings, gateway in gateways.items()}
    with httpx.Client(timeout=60) as client:
        for one in looks.values():
            one.look(client)  # the first one imports and connects
            one.seconds.clear()
            one.cpu = dict.fromkeys(one.cpu, 0.0)
        for _ in range(count):
            for one in looks.values():
                one.look(client)
    return looks


def show_looks(name: str, looks: dict[int, Looks]) -> None:
    table = Table(title=f"A look at {name}")
    for column in (
        "thumbs",
        "p50 ms",
        "p99 ms",
        "times as the line above",
        "gateway CPU ms",
        "Valkey CPU ms",
    ):
        table.add_column(column, justify="right")
    above: Looks | None = None
    for thumbs, one in looks.items():
        cpu = (f"{1000 * seconds / len(one.seconds):.1f}" for seconds in one.cpu.values())
        table.add_row(
            f"{thumbs:,}", f"{one.quantile(0.5):.1f}", f"{one.quantile(0.99):.1f}", _times(one, above), *cpu
        )
        above = one
    console.print(table)


def _times(one: Looks, above: Looks | None) -> str:
    """The median over looks in turn."""
    if above is None:
        return ""
    return f"{statistics.median(b / a for a, b in zip(above.seconds, one.seconds, strict=True)):.2f}"


@contextmanager
def open_page(gateway: Gateway) -> Iterator[list[float]]:
    """What the browser's page asks for, while the block lasts: the seconds of its looks."""
    closed, looks = threading.Event(), list[float]()
    headers = {"Authorization": f"Bearer {gateway.key}"}

    def listen() -> None:
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
            since = {"since": int(time.time() - 30 * DAY)}
            with client.stream("GET", "/v1/stats/live") as stream:
                for line in stream.iter_lines():
                    if closed.is_set():
                        return
                    if line.startswith("data:"):
                        start = time.perf_counter()
                        client.get("/v1/stats/dashboard", params=since).raise_for_status()
                        looks.append(time.perf_counter() - start)
                        closed.wait(PAUSE)

    page = threading.Thread(target=listen)
    page.start()
    try:
        yield looks
    finally:
        closed.set()
        gateway.valkey.client.xadd("tw:completions", {"id": "nobody"})  # one more change ends the wait
        page.join()


def chats(gateway: Gateway, rounds: int, requests: int) -> tuple[list[Figures], list[Figures], list[float]]:
    """The same load in rounds: without a page, with one, and the seconds of its looks."""
    alone, beside, looks = list[Figures](), list[Figures](), list[float]()
    gateway.measure(200, 0, 0.0, CONNECTIONS)
    for number in track(range(2 * rounds), "chatting", console=Console(stderr=True)):
        # In the order A B B A, so that a machine that gets slower favours neither.
        if number % 4 in (0, 3):
            alone.append(gateway.measure(requests, 0, 0.0, CONNECTIONS))
        else:
            with open_page(gateway) as seen:
                time.sleep(0.2)
                beside.append(gateway.measure(requests, 0, 0.0, CONNECTIONS))
            looks += seen
    return alone, beside, looks


def show_chats(alone: list[Figures], beside: list[Figures], looks: list[float]) -> None:
    table = Table(title=f"Plain chats, {CONNECTIONS} connections, median of {len(alone)} rounds each")
    for column in ("", "without a page", "with an open one", "ratio, lowest and highest of pairs"):
        table.add_column(column, justify="left" if not column else "right")
    names = {"rate": "requests/s", "p50": "p50 ms", "p99": "p99 ms", "cpu": "gateway CPU ms/request"}
    for name, title in names.items():
        one, other = ([getattr(figures, name) for figures in rows] for rows in (alone, beside))
        ratios = sorted(b / a for a, b in zip(one, other, strict=True))
        row = (f"{statistics.median(rows):.2f}" for rows in (one, other))
        span = f"{statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]"
        table.add_row(title, *row, span)
    console.print(table)
    console.print(f"the page looked {len(looks)} times, {1000 * statistics.median(looks):.1f} ms each")


if __name__ == "__main__":
    main()
