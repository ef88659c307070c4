"""What an engine and a training stage cost each other on the same cores, by how OpenMP's threads wait.

    .venv/bin/python -m tests.bench.openmp

Starts the engine with `OMP_WAIT_POLICY` active (OpenMP's default) and passive. Measures its tokens per second
at 8 requests, alone and beside a plain training loop on the same model with either policy, and that loop's.
Takes six minutes on two cores. Needs the converted model of a first `deploy/up`.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import torch
from transformers import AutoModelForCausalLM

from deploy.processes import engine
from deploy.readiness import http_answers
from deploy.settings import DeploySettings
from tests.servers import eventually, free_port

POLICIES = ("active", "passive")
REQUESTS, TOKENS, SECONDS = 8, 32, 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, help="be the training loop, until this file is gone")
    options = parser.parse_args()
    if options.train:
        train(options.train)
        return
    for engine_policy in POLICIES:
        with running_engine(engine_policy) as url:
            asyncio.run(serve(url, 5))
            alone = asyncio.run(serve(url, SECONDS))
            print(f"engine {engine_policy:8} {'alone':16} {alone:7.0f} tokens/s", flush=True)
            for trainer_policy in POLICIES:
                with tempfile.TemporaryDirectory() as folder:
                    ready = Path(folder) / "ready"
                    environment = os.environ | {"OMP_WAIT_POLICY": trainer_policy}
                    command = [sys.executable, "-m", "tests.bench.openmp", "--train", str(ready)]
                    trainer = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
                    eventually(ready.exists, 120)
                    served = asyncio.run(serve(url, SECONDS))
                    ready.unlink()
                    trained = trainer.communicate()[0].strip()
                print(
                    f"engine {engine_policy:8} trainer {trainer_policy:8} {served:7.0f} tokens/s, "
                    f"trainer {trained} tokens/s",
                    flush=True,
                )


@contextmanager
def running_engine(policy: str) -> Iterator[str]:
    """The engine as `deploy/up` starts it, but for the policy. Gives its URL."""
    port = free_port()
    process = engine(DeploySettings(), port)
    environment = dict(process.environment) | {"OMP_WAIT_POLICY": policy}
    popen = subprocess.Popen(
        process.command,
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


async def serve(url: str, seconds: float) -> float:
    """Tokens per second of `REQUESTS` concurrent chats."""
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
        tokens = await asyncio.gather(*(chat(session) for _ in range(REQUESTS)))
    return sum(tokens) / (time.monotonic() - began)


def train(ready: Path) -> None:
    """Forward and backward over random tokens while `ready` is there; prints tokens per second."""
    model = AutoModelForCausalLM.from_pretrained(DeploySettings().model, dtype=torch.bfloat16)
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
