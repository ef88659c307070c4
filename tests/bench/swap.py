"""What a swap costs: load, probe and alias times, and the longest gap between tokens of running streams.

    python -m tests.bench.swap [--swaps 5] [--people 4]

Starts a stack of its own, lets people chat, and measures the gaps between the tokens of their streams, for a
while without and then with swaps: an adapter made by hand is published, rolled back from, promoted, and
so on. Nothing is asserted; stops by itself.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.e2e.stack import Stack, SteadyLoad, publish
from tests.servers import eventually, free_port

QUIET_SECONDS = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=5)
    parser.add_argument("--people", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "home", free_port())
        try:
            stack.up()
            measure(stack, Path(folder) / "job", args.swaps, args.people)
        finally:
            stack.down()


def measure(stack: Stack, folder: Path, swaps: int, people: int) -> None:
    with stack.client() as client:
        client.post("/v1/learning", json={"paused": True, "reason": "bench"}).raise_for_status()
    with SteadyLoad(stack, people, tokens=64) as quiet:
        time.sleep(QUIET_SECONDS)
    folder.mkdir()
    prepared = publish(stack, folder, "good")
    assert prepared.returncode == 0, prepared.stderr
    published = json.loads((folder / "metrics.json").read_text())
    version = published["version"]
    moves: list[float] = []
    with SteadyLoad(stack, people, tokens=64) as busy, stack.client() as client:
        eventually(lambda: sum(busy.answered.values()) >= people, 120)
        for _ in range(swaps):
            for path, body, to in (
                ("/v1/rollback", {"reason": "bench", "to": "policy-v0"}, "policy-v0"),
                (f"/v1/policies/{version}/promote", {"reason": "bench"}, version),
            ):
                begun = time.monotonic()
                client.post(path, json=body).raise_for_status()
                moves.append(time.monotonic() - begun)
                eventually(lambda begun=begun, to=to: _answers(busy, begun, to), 120)
    _report(published, quiet, busy, moves)


def _answers(load: SteadyLoad, since: float, version: str) -> bool:
    return any(begun > since and who == version for begun, who in load.last.values())


def _report(published: dict, quiet: SteadyLoad, busy: SteadyLoad, moves: list[float]) -> None:
    engine = published["engines"][0]
    table = Table("what", "figure")
    table.add_row("load an adapter", f"{engine['load_seconds']:.3f} s")
    table.add_row("probe it", f"{engine['probe_seconds']:.3f} s")
    table.add_row("move the alias, in Redis", f"{published['alias_seconds'] * 1000:.1f} ms")
    table.add_row(
        "promote or roll back, one call", f"{statistics.median(moves):.3f} s (longest {max(moves):.3f} s)"
    )
    for name, load in (("without swaps", quiet), ("with swaps", busy)):
        gaps = sorted(load.gaps)
        p99 = gaps[int(0.99 * len(gaps))]
        table.add_row(f"gap between tokens, {name}", f"p99 {p99:.3f} s, longest {gaps[-1]:.3f} s")
    table.add_row("failed requests", str(len(quiet.failed) + len(busy.failed)))
    table.add_row("answered", ", ".join(f"{v}: {n}" for v, n in sorted(busy.answered.items())))
    Console().print(table)


if __name__ == "__main__":
    main()
