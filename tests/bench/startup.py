"""How long a newcomer waits: a fresh clone to the first reply, and the second start.

    python3.11 tests/bench/startup.py

Clones the committed state into a temporary folder and runs its scripts there, with pip's cache as it is. Uses
the standard library alone, since it installs all else itself. Not a test: nothing is asserted about time.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="thumbwheel-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("THUMBWHEEL_")}
        environment["THUMBWHEEL_PORT"] = str(free_port())
        figures: dict[str, float] = {}
        for start in ("fresh clone", "second start"):
            seconds, output = timed([str(clone / "deploy" / "up"), "--detach"], environment)
            figures[f"{start} to the first reply"] = seconds
            if installed := re.search(r"^Installed in (\d+) s", output, re.MULTILINE):
                figures["  of which installing"] = float(installed[1])
            if engine := re.search(r"engine is ready \(([\d.]+) s\)", output):
                figures[f"  of which the engine's start ({start})"] = float(engine[1])
            figures[f"stop after the {start}"], _ = timed([str(clone / "deploy" / "down")], environment)
        for name, seconds in figures.items():
            print(f"{name:50} {seconds:6.1f} s")
        print(json.dumps(figures))


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Seconds that it took and what it printed, which is shown too. Exits where it fails."""
    began, lines = time.monotonic(), []
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")
    return time.monotonic() - began, "".join(lines)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
