"""What an engine and a training loop do in bfloat16 and in float32 on this machine's CPU.

    .venv/bin/python -m tests.bench.precision

Tokens per second: of the engine, as `deploy/up` starts it, at 1, 8, 32 and 128 requests; and of a plain
training loop on the same model, alone. Takes ten minutes on two cores without the instructions. Needs
the converted model of a first `deploy/up`.
"""

import argparse
import asyncio
import time

from deploy.processes import SHARE_CORES
from tests.bench.openmp import running_engine, serve, trainer
from workers.precision import cpu_precision

REQUESTS, SECONDS, WARMING = (1, 8, 32, 128), 15.0, 3.0


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(f"deploy/up takes {cpu_precision()} here", flush=True)
    for name in ("bfloat16", "float32"):
        with trainer(SHARE_CORES, ["--dtype", name]) as told:
            time.sleep(2 * SECONDS)
        print(f"{name:8} trainer {told[0]} tokens/s", flush=True)
        with running_engine(SHARE_CORES, ["--dtype", name]) as url:
            for requests in REQUESTS:
                asyncio.run(serve(url, requests, WARMING))
                served = asyncio.run(serve(url, requests, SECONDS))
                print(f"{name:8} engine, {requests:3} requests {served:5.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
