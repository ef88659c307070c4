"""What a cycle's learning costs with few and with many labels behind it: CPU seconds of `snapshot` and
`train_reward`, each the real program, on a real Valkey.

    python -m tests.bench.incremental [--model DIR] [--behind 1000 100000] [--new 64] [--times 3]

Without a model it takes a random one of four layers. The labels lie there as the gateway leaves them, thumbs
by a hundred raters over half a year, with a mark per thousand; `train_reward` goes on from a version that was
trained before. Of each program the least of a few runs counts, and the server's own time is counted too.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feedback.reader import FeedbackReader
from tests.filled import fill
from tests.servers import ValkeyProcess, free_port
from tests.tiny import build
from workers.stage import METRICS, STAGE, read_json

HALF_A_YEAR = 182 * 24 * 3_600_000  # milliseconds
MARK_EVERY = 1000


@dataclass(frozen=True)
class Case:
    """A server with labels behind `cursor` and new ones after it."""

    server: ValkeyProcess
    cursor: str
    folder: Path

    def run(self, name: str, program: str, config: dict[str, Any], times: int) -> tuple[float, float, float]:
        """CPU seconds of a stage and of the server meanwhile, and its seconds; of the quickest of `times`
        runs."""
        return min(self._once(f"{name}-{number}", program, config) for number in range(times))

    def _once(self, name: str, program: str, config: dict[str, Any]) -> tuple[float, float, float]:
        folder = self.folder / name
        folder.mkdir(parents=True)
        (folder / STAGE).write_text(json.dumps(config, default=str))
        before, server, start = _cpu(), self._server(), time.perf_counter()
        environment = {**os.environ, "THUMBWHEEL_REDIS_URL": self.server.url, "OMP_WAIT_POLICY": "passive"}
        command = [sys.executable, "-m", f"workers.stages.{program}", str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        return _cpu() - before, self._server() - server, time.perf_counter() - start

    def _server(self) -> float:
        info: Any = self.server.client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


@contextmanager
def filled(folder: Path, behind: int, new: int) -> Iterator[Case]:
    (folder / "valkey").mkdir(parents=True)
    server = ValkeyProcess(folder / "valkey", free_port(), fsync="no")
    server.start()
    try:
        reader = FeedbackReader(server.client)
        now = round(time.time() * 1000)
        first, step = now - HALF_A_YEAR, HALF_A_YEAR // behind
        for begin in range(0, behind, MARK_EVERY):
            numbers = range(begin, min(begin + MARK_EVERY, behind))
            given = fill(server.client, f"old{begin}", [first + number * step for number in numbers])
            reader.mark(given, reader.cursor())
        cursor = reader.cursor()
        fill(server.client, "new", range(now + 1, now + 1 + new))
        yield Case(server, cursor, folder)
    finally:
        server.client.close()
        server.kill()


def measure(case: Case, args: argparse.Namespace, model: str, live: Path | None) -> dict[str, Any]:
    taken = {"cursor": case.cursor, "replay": args.replay, "holdout": 0.2, "prompts": 2000, "seed": 1}
    snapshot = case.run("snapshot", "snapshot", taken, args.times)
    folder = case.folder / "snapshot-0"
    files = {side: folder / f"{side}.parquet" for side in ("train", "holdout")}
    config = {"base_model": model, "init": live, **files}
    trained = case.run("train", "train_reward", config, 1 if live is None else args.times)
    metrics = read_json(folder / METRICS)
    return {"snapshot": snapshot, "train_reward": trained, "train": metrics["train"], "new": metrics["new"]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="base model; default: a tiny random one")
    parser.add_argument("--behind", type=int, nargs=2, default=[1000, 100_000])
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--replay", type=int, default=512)
    parser.add_argument("--times", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        model = args.model or build(home / "model")
        with filled(home / "live", 1000, args.new) as case:
            measure(case, args, model, None)
        live, found = home / "live" / "train-0" / "reward", []
        for behind in args.behind:
            with filled(home / f"behind-{behind}", behind, args.new) as case:
                found.append(measure(case, args, model, live))
            _say(behind, found[-1])
    for program in ("snapshot", "train_reward"):
        few, many = (sum(case[program][:2]) for case in found)
        print(f"{program}: {many / few:.2f} times the CPU with {args.behind[1]} labels behind it")
    few, many = (sum(sum(case[name][:2]) for name in ("snapshot", "train_reward")) for case in found)
    print(f"both: {many / few:.2f} times")


def _say(behind: int, found: dict[str, Any]) -> None:
    print(f"{behind} labels behind, {found['new']} new, {found['train']} to train on:")
    for program in ("snapshot", "train_reward"):
        own, server, seconds = found[program]
        print(f"  {program}: {own:.2f} s of CPU, the server {server:.2f} s; {seconds:.1f} s in all")


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
