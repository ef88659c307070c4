"""What an update costs and gains: the time of each stage of each cycle, and the demo's table.

    python -m tests.bench.cycle [--cycles 2] [--seed 0]

Starts a stack of its own and runs `thumbwheel demo` on it. Nothing is asserted; stops by itself.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.e2e.stack import ROOT, Stack
from tests.servers import free_port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder) / "home", free_port())
        try:
            stack.up()
            report(demo(stack, args.cycles, args.seed))
        finally:
            stack.down()


def demo(stack: Stack, cycles: int, seed: int) -> dict[str, Any]:
    """The demo's report; its progress is shown."""
    command = [str(ROOT / ".venv" / "bin" / "thumbwheel"), "demo", "--json"]
    command += ["--cycles", str(cycles), "--seed", str(seed)]
    done = subprocess.run(command, env=stack.environment, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        raise SystemExit("the demo ended without a report; what it said stands above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def report(found: dict[str, Any]) -> None:
    stages = Table("cycle", "labels", "stage", "seconds")
    for number, cycle in enumerate(found["cycles"], 1):
        for stage in cycle["stages"]:
            stages.add_row(str(number), str(cycle["labels"]), stage["name"], f"{stage['seconds']:.1f}")
        stages.add_section()
    versions = Table("version", "taste", "win rate over policy-v0", "95 %", "minutes", "failed")
    for row in found["rows"]:
        rate, bounds = row["win_rate"], row["win_rate_interval"] or (None, None)
        shown = [f"{value:.3f}" if value is not None else "" for value in (rate, *bounds)]
        interval = " to ".join(filter(None, shown[1:]))
        versions.add_row(
            row["version"],
            f"{row['taste']:.3f}",
            shown[0],
            interval,
            f"{row['minutes']:.1f}",
            str(row["failed"]),
        )
    console = Console()
    console.print(stages, versions)
    console.print(
        f"{found['minutes']:.1f} minutes, {found['requests']} requests, {len(found['failures'])} failed"
    )
    for note in found["notes"]:
        console.print(note, markup=False)


if __name__ == "__main__":
    main()
