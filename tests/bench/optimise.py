"""How fast it learns: the optimise stage's step against the stock trainer's, and the stages against a plain
TRL script.

    python -m tests.bench.optimise step [--model DIR] [--steps 6] [--beside autocast float32]
    python -m tests.bench.optimise script [--model DIR] [--rounds 2] [--target GOLD] [--out OUT]

`step` (tests/bench/step.py) takes a few minutes with SmolLM2-135M on two cores, `script`
(tests/bench/script.py) about seven a round, most of it the plain script's. Both want a quiet machine and the
converted model of a first `deploy/up` (`script` converts it itself). Hyperparameters are the service's:
THUMBWHEEL_OPTIMISE_… change them for both sides. Nothing is asserted; Ctrl-C stops all that was started.
"""

import argparse
import math
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.bench import script, step

WIDTH = 130  # of the tables where they do not go to a terminal


def main(words: Sequence[str] | None = None) -> None:
    args = arguments().parse_args(words)
    signal.signal(signal.SIGTERM, _end)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if args.measure == "script":
        script.main(args, console)
        return
    with tempfile.TemporaryDirectory() as folder:
        step.main(args, Path(folder), console)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    measures = parser.add_subparsers(dest="measure", required=True)
    add = measures.add_parser("step", description=step.__doc__).add_argument
    add("--model", help="base model, a folder; default: the service's")
    add("--steps", type=int, default=6)
    add("--batch", type=int, help="replies a step; default: the service's")
    add("--samples", type=Path, help="Parquet of samples or scores; where it is not there, it is written")
    add("--max-tokens", type=int, default=80, help="of a reply that is sampled here")
    add("--beside", nargs="+", choices=["autocast", "float32"], default=[], help="more variants of stock")
    add = measures.add_parser("script", description=script.__doc__).add_argument
    add("--model", help="base model, a folder; default: the service's")
    add("--scorer", default="length", help="a gold scorer of tests/bench/gold.py")
    add("--rounds", type=int, default=2, help="updates, at most")
    add("--target", type=float, help="the gold mean at which to end; default: all rounds")
    add("--prompts", type=int, default=48)
    add("--k", type=int, default=4, help="replies to a prompt, as online_dpo has")
    add("--max-tokens", type=int, default=80)
    add(
        "--free",
        type=float,
        nargs="?",
        const=math.inf,
        metavar="KL",
        help="Thumbwheel's rounds go this far and mind nothing else; by online_dpo as far as they go",
    )
    add("--together", type=int, default=32, help="replies that the plain script generates at once")
    add("--autocast", action="store_true", help="the plain script trains with bf16=True, TRL's default")
    add("--only", nargs="+", choices=["thumbwheel", "plain"], default=["thumbwheel", "plain"])
    add("--engine", help="URL of an engine that runs; default: one of its own")
    add("--out", type=Path, default=Path("optimise-bench"))
    add("--seed", type=int, default=0)
    return parser


def _end(*_: object) -> None:
    """As on Ctrl-C: what is open is closed, and what was started is stopped."""
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
