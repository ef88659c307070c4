"""What the dashboard costs: a look at few and at many ratings, and the chat with and without an open page.

python -m tests.bench.dashboard [--ratings 1000 10000 1000000] [--versions 4] [--looks 100] [--rounds 6]

Gateways, each with a Valkey that persists and a mock engine, all in processes of their own: they have that
many thumbs, given over 30 days through the scripts that take people's, and a quarter as many comparisons of
some versions, each with each. Before each look somebody compares once more, so that no strengths are known
for these counts. Looks at the gateways take turns, so that other work on the machine falls on all; CPU is
what the kernel booked on the gateway and on Valkey. The first look, some seconds after the gateway's start,
stands beside them. Of few ratings of many versions (12) much of the page is empty, which is quicker; once it
is filled, a look takes the same. Strengths are also timed alone. Then chats are served in rounds, with and
without a page that listens and asks for its figures at each change, as the browser's does, while in either
people go on comparing, so that each of its looks finds new strengths. Nothing is asserted; stops by itself. A
million take some minutes, and 1.5 GB.
"""

import argparse
import itertools
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import exp
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from feedback.layout import RECOUNT
from feedback.strengths import strengths
from feedback.tally import Choices, PairOf
from tests.bench.gateway import Figures, Gateway, cpu_seconds, running
from tests.crowd import Crowd, Version
from tests.servers import ValkeyProcess

DAY = 86400
PAUSE = 2.0  # seconds between two looks of one page, as in dashboard.js
# What is asked for: of which route, of the last so many days, and with which filters.
ASKED: dict[str, tuple[str, int | None, dict[str, str]]] = {
    "The dashboard, 30 days": ("dashboard", 30, {}),
    "The dashboard, 7 days": ("dashboard", 7, {}),
    "The dashboard, all time": ("dashboard", None, {}),
    "Its list of all labels, 30 days": ("labels", 30, {}),
    "… of a tag that none of the newest has": ("labels", 30, {"tag": "none"}),
}
VERSIONS = tuple(Version(f"policy-v{number}", 0.5 + 0.025 * number, 0.0, 1.0) for number in range(12))
COMMENTED = 0.05  # of the thumbs
CONNECTIONS = 8
STARTED = 5.0  # seconds from a gateway's start to the first look
console = Console(width=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ratings", type=int, nargs="+", default=[1000, 10_000, 1_000_000])
    parser.add_argument("--versions", type=int, default=4, help=f"at most {len(VERSIONS)}")
    parser.add_argument("--looks", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--requests", type=int, default=5000)
    args = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the gateway sets it
    show_strengths()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        services = {
            n: stack.enter_context(_filled(Path(folder) / str(n), n, args.versions)) for n in args.ratings
        }
        time.sleep(STARTED)
        for name, asked in ASKED.items():
            show_looks(name, compare(services, asked, args.looks))
        service = services[args.ratings[-1]]
        with speaking(service):
            show_chats(*chats(service.gateway, args.rounds, args.requests))


def show_strengths() -> None:
    """CPU that the strengths of 12 versions and their intervals take, by how far apart the versions are."""
    table = Table(title="Strengths of 12 versions, each compared with each")
    for column in ("the strongest wins against the weakest", "games of two", "CPU ms"):
        table.add_column(column, justify="right")
    for spread in (0.5, 3.0, 6.0):
        for most in (10, 100, 1000):
            cells = _played(spread, most)
            start = time.process_time()
            strengths(cells)
            row = (f"{1 / (1 + exp(-spread)):.1%}", f"{max(1, most // 10)} to {most}")
            table.add_row(*row, f"{1000 * (time.process_time() - start):.1f}")
    console.print(table)


def _played(spread: float, most: int) -> dict[PairOf, Choices]:
    dice, cells = random.Random(0), {}
    for i, j in itertools.combinations(range(12), 2):
        games = dice.randint(max(1, most // 10), most)
        won = sum(dice.random() < 1 / (1 + exp(spread * (j - i) / 11)) for _ in range(games))
        cells[f"policy-v{i}", f"policy-v{j}"] = Choices(a=won, b=games - won)
    return cells


@dataclass(frozen=True, slots=True)
class Service:
    """A gateway, and those who say something of its replies."""

    gateway: Gateway
    crowd: Crowd
    numbers: Iterator[int]

    def compare(self) -> None:
        self.crowd.compare(self.gateway.valkey.client, next(self.numbers), time.time())


@contextmanager
def _filled(folder: Path, thumbs: int, versions: int) -> Iterator[Service]:
    folder.mkdir()
    end = time.time() - 60
    crowd = Crowd(
        end - 29 * DAY,
        end,
        thumbs,
        raters=max(50, thumbs // 100),
        each=4 if thumbs >= 100_000 else 1,
        comments=COMMENTED,
        versions=VERSIONS[:versions],
        apart=versions,
    )

    def speak(valkey: ValkeyProcess) -> None:
        start = time.monotonic()
        valkey.client.hset(RECOUNT, "done", 1)  # as a gateway leaves it that was there from the beginning
        crowd.speak(valkey.client)
        console.print(f"{thumbs:,} thumbs given in {time.monotonic() - start:.0f} s")

    with running(folder, speak) as gateway:
        yield Service(gateway, crowd, itertools.count())


class Looks:
    """Seconds of looks, and of CPU a look; `first`: seconds of the first one, which is not among them."""

    def __init__(self, service: Service, asked: tuple[str, int | None, dict[str, str]]) -> None:
        self._service, self._gateway = service, service.gateway
        path, days, filters = asked
        since = {} if days is None else {"since": int(time.time() - days * DAY)}
        self._request = httpx.Request(
            "GET",
            httpx.URL(f"{self._gateway.url}/v1/stats/{path}", params={**filters, **since}),
            headers={"Authorization": f"Bearer {self._gateway.key}"},
        )
        self.first = 0.0
        self.seconds: list[float] = []
        self.cpu = {"gateway": 0.0, "Valkey": 0.0}

    def begin(self, client: httpx.Client) -> None:
        self.first = self._timed(client)

    def look(self, client: httpx.Client) -> None:
        self._service.compare()
        before = self._booked()
        self.seconds.append(self._timed(client))
        for name, booked in self._booked().items():
            self.cpu[name] += booked - before[name]

    def _timed(self, client: httpx.Client) -> float:
        start = time.perf_counter()
        client.send(self._request).raise_for_status()
        return time.perf_counter() - start

    def _booked(self) -> dict[str, float]:
        pids = {"gateway": self._gateway.pid, "Valkey": self._gateway.valkey.process.pid}
        return {name: cpu_seconds(pid) for name, pid in pids.items()}

    def quantile(self, share: float) -> float:
        return 1000 * sorted(self.seconds)[int(share * len(self.seconds))]


def compare(
    services: dict[int, Service], asked: tuple[str, int | None, dict[str, str]], count: int
) -> dict[int, Looks]:
    looks = {ratings: Looks(service, asked) for ratings, service in services.items()}
    with httpx.Client(timeout=60) as client:
        for service in services.values():
            client.get(service.gateway.url + "/healthz")  # connects
        for one in looks.values():
            one.begin(client)
        for _ in range(count):
            for one in looks.values():
                one.look(client)
    return looks


def show_looks(name: str, looks: dict[int, Looks]) -> None:
    table = Table(title=name)
    for column in (
        "thumbs",
        "first ms",
        "p50 ms",
        "p99 ms",
        "times as the line above",
        "gateway CPU ms",
        "Valkey CPU ms",
    ):
        table.add_column(column, justify="right")
    above: Looks | None = None
    for thumbs, one in looks.items():
        times = (f"{1000 * one.first:.1f}", f"{one.quantile(0.5):.1f}", f"{one.quantile(0.99):.1f}")
        cpu = (f"{1000 * seconds / len(one.seconds):.1f}" for seconds in one.cpu.values())
        table.add_row(f"{thumbs:,}", *times, _times(one, above), *cpu)
        above = one
    console.print(table)


def _times(one: Looks, above: Looks | None) -> str:
    """The median over looks in turn."""
    if above is None:
        return ""
    return f"{statistics.median(b / a for a, b in zip(above.seconds, one.seconds, strict=True)):.2f}"


@contextmanager
def speaking(service: Service) -> Iterator[None]:
    """While the block lasts somebody compares, twice between two looks of a page."""
    over = threading.Event()

    def speak() -> None:
        while not over.wait(PAUSE / 2):
            service.compare()

    people = threading.Thread(target=speak)
    people.start()
    try:
        yield
    finally:
        over.set()
        people.join()


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
                        client.get("/v1/stats/comments", params={**since, "limit": 30}).raise_for_status()
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
