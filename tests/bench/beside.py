"""How long people wait for a first token while a job samples on the same engine.

    python -m tests.bench.beside [--places 128 256] [--replies 256]

For each number of places (vLLM's --max-num-seqs) an engine of its own, which somebody asks a new short
question whenever the last was answered, alone at first, and then while replies are sampled as a stage of a
job does. Takes about two minutes for each; nothing is asserted.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from deploy.demo.prompts import RATED
from deploy.processes import PLACES
from deploy.settings import DeploySettings
from serving.engine import BASE, Engine, new_session
from serving.methods import Method
from tests.bench.own_engine import running_engine
from workers.labels import Prompt
from workers.methods.config import PACES
from workers.sampling import Sampling, sample_replies

PAUSE, ALONE = 0.5, 20.0  # seconds between questions; for how long they are asked alone
K = PACES[Method.grpo].k


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--places", type=int, nargs="+", default=[PLACES])
    parser.add_argument("--replies", type=int, default=256)
    args = parser.parse_args()
    table = Table(
        "places", "beside", "questions", "seconds to the first token: p50", "p90", "most", "tokens/s"
    )
    for places in args.places:
        settings = DeploySettings(engine_args=f"--max-num-seqs {places}")
        with tempfile.TemporaryDirectory() as folder, running_engine(settings, Path(folder)) as (url, _):
            for beside, waits, rate in asyncio.run(measure(url, args.replies)):
                deciles = statistics.quantiles(waits, n=10)
                figures = (statistics.median(waits), deciles[-1], max(waits))
                table.add_row(
                    str(places),
                    beside,
                    str(len(waits)),
                    *(f"{value:.2f}" for value in figures),
                    f"{rate:.0f}",
                )
    Console(width=110).print(table)


async def measure(url: str, replies: int) -> list[tuple[str, list[float], float]]:
    """What runs beside, seconds that each question waited, and its tokens a second."""
    prompts = [Prompt([{"role": "user", "content": text}], text, False) for text in RATED[: replies // K]]
    async with new_session() as session:
        engines = [Engine(url, session)]
        async with Asking(session, url) as alone:
            await asyncio.sleep(ALONE)
        began = time.monotonic()
        async with Asking(session, url) as busy:
            samples = await sample_replies(engines, BASE, prompts, Sampling(k=K, max_tokens=80))
        seconds = time.monotonic() - began
    tokens = sum(len(sample.token_ids) for sample in samples)
    return [("nothing", alone.waits, 0.0), (f"{len(samples)} replies", busy.waits, tokens / seconds)]


class Asking:
    """Asks one question after the other while the block lasts, and notes how long each waited."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self.waits: list[float] = []

    async def __aenter__(self) -> "Asking":
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        while True:
            text = f"Question {len(self.waits)}: what is the capital of France?"
            body = {"model": BASE, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
            began = time.monotonic()
            async with self._session.post(f"{self._url}/v1/chat/completions", json=body) as answer:
                answer.raise_for_status()
                await answer.read()
            self.waits.append(time.monotonic() - began)
            await asyncio.sleep(PAUSE)


if __name__ == "__main__":
    main()
