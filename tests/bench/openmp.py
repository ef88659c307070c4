"""What an engine and a training loop cost each other on the same cores, by how OpenMP's threads wait.

    .venv/bin/python -m tests.bench.openmp

Threads wait actively (OpenMP's default), passively, or briefly: they spin for a part of a millisecond, then
sleep. Measured are the engine's tokens per second at 8 and at 128 requests, alone and beside a plain training
loop on the same model that waits alike, and that loop's, alone too. Takes ten minutes on two cores. Needs the
converted model of a first `deploy/up`.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import torch
from transformers import AutoModelForCausalLM

from deploy.processes import SHARE_CORES, engine
from deploy.readiness import http_answers
from deploy.settings import DeploySettings
from tests.servers import eventually, free_port
from workers.device import precision

POLICIES: dict[str, Mapping[str, str]] = {
    "active": {"OMP_WAIT_POLICY": "active"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "brief": SHARE_CORES,
}
REQUESTS, TOKENS, SECONDS = (8, 128), 32, 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, help="be the training loop, until this file is gone")
    parser.add_argument("--dtype", default=str(precision()).removeprefix("torch."), help="of that loop")
    options = parser.parse_args()
    if options.train:
        train(options.train, getattr(torch, options.dtype))
        return
    for policy, variables in POLICIES.items():
        with trainer(variables) as told:
            time.sleep(SECONDS)
        print(f"{policy:8} trainer alone {told[0]} tokens/s", flush=True)
        with running_engine(variables) as url:
            for requests in REQUESTS:
                asyncio.run(serve(url, requests, 5))
                alone = asyncio.run(serve(url, requests, SECONDS))
                with trainer(variables) as told:
                    served = asyncio.run(serve(url, requests, SECONDS))
                print(
                    f"{policy:8} {requests:3} requests {alone:5.0f} tokens/s; beside each other "
                    f"{served:5.0f}, trainer {told[0]} tokens/s",
                    flush=True,
                )


@contextmanager
def trainer(variables: Mapping[str, str], arguments: Sequence[str] = ()) -> Iterator[list[str]]:
    """Trains within the block; then the list holds its tokens per second."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        command = [sys.executable, "-m", "tests.bench.openmp", "--train", str(ready), *arguments]
        process = subprocess.Popen(
            command,
            env={**_without_openmp(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        told: list[str] = []
        try:
            eventually(lambda: ready.exists() or process.poll() is not None, 120)
            yield told
        finally:
            ready.unlink(missing_ok=True)
            told.append(process.communicate()[0].strip())


def _without_openmp() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}


@contextmanager
def running_engine(variables: Mapping[str, str], arguments: Sequence[str] = ()) -> Iterator[str]:
    """The engine as `deploy/up` starts it, but for how threads wait, and `arguments`. Gives its URL."""
    port = free_port()
    process = engine(DeploySettings(), port)
    environment = {k: v for k, v in process.environment.items() if k not in SHARE_CORES} | dict(variables)
    popen = subprocess.Popen(
        [*process.command, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: http_answers(f"{url}/health"), 300, every=0.5)
        yield url
    finally:
        popen.terminate()
        popen.wait(30)
        if Path(f"/proc/{popen.pid}").exists():
            os.killpg(popen.pid, signal.SIGKILL)


async def serve(url: str, requests: int, seconds: float) -> float:
    """Tokens per second of so many concurrent chats; none begins after `seconds`."""
    body = {
        "model": "policy-v0",
        "messages": [{"role": "user", "content": "Tell me a story about the sea."}],
        "max_tokens": TOKENS,
        "ignore_eos": True,
    }
    began = time.monotonic()

    async def chat(session: aiohttp.ClientSession) -> int:
        tokens = 0
        while time.monotonic() < began + seconds:
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                tokens += (await answer.json())["usage"]["completion_tokens"]
        return tokens

    async with aiohttp.ClientSession() as session:
        tokens = await asyncio.gather(*(chat(session) for _ in range(requests)))
    return sum(tokens) / (time.monotonic() - began)


def train(ready: Path, dtype: torch.dtype) -> None:
    """Forward and backward over random tokens while `ready` is there; prints tokens per second."""
    model = AutoModelForCausalLM.from_pretrained(DeploySettings().model, dtype=dtype)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("q_proj" in name)
    tokens = torch.randint(0, model.config.vocab_size, (4, 128))
    ready.touch()
    began, count = time.monotonic(), 0
    while ready.exists():
        model(input_ids=tokens, labels=tokens).loss.backward()
        model.zero_grad()
        count += tokens.numel()
    print(f"{count / (time.monotonic() - began):.0f}")


if __name__ == "__main__":
    main()
