"""A language model small enough to be trained in a second, and an engine that samples from a list."""

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.fake_engine import BASE, FakeEngine
from tests.servers import serving
from tests.tiny import WORDS, build
from workers.policy.model import load_policy
from workers.stage import execute


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)  # on tensors this small a second thread only waits
    return build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def moved_policy(tiny_model: str) -> Callable[..., Any]:
    """`moved_policy(std, top_layers)`: a policy whose adapter does something, on all of attention."""

    def make(std: float = 0.1, top_layers: float = 1.0) -> Any:
        torch.manual_seed(1)
        model = load_policy(tiny_model, None, 4, ("q_proj", "k_proj", "v_proj", "o_proj"), top_layers)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=std)
        return model

    return make


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`stage("name", module, key=value…)` runs a stage in this process, in a folder so named → metrics."""

    def run(name: str, module: Any, **config: Any) -> dict[str, Any]:
        return run_stage(tmp_path / name, module, **config)

    return run


def run_stage(folder: Path, module: Any, **config: Any) -> dict[str, Any]:
    """The stage's metrics; `folder` is new."""
    datasets.disable_progress_bars()
    folder.mkdir()
    (folder / "stage.json").write_text(json.dumps(config, default=str))
    return execute(folder, module.Config, module.main)


class SamplingEngine(FakeEngine):
    """Answers with `replies`, in turn, a word a token, each with log-probability -1; refuses prompts that say
    "too long". `pause`: seconds that it takes; `most`: replies that it was asked for at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pause, self.most, self._open = 0.0, 0, 0
        self.replies = {BASE: ["good cats <|im_end|>", "bad dogs rain"]}

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        self._open += body["n"]
        self.most = max(self.most, self._open)
        await asyncio.sleep(self.pause)
        self._open -= body["n"]
        if "too long" in body["messages"][-1]["content"]:
            return JSONResponse({"error": {"message": "maximum context length"}}, 400)
        mine = self.replies.get(body["model"], self.replies[BASE])
        texts = [mine[number % len(mine)].split() for number in range(body["n"])]
        return JSONResponse(
            {
                "prompt_token_ids": [1, 5, 6],
                "choices": [
                    {
                        "message": {"content": " ".join(word for word in words if word != "<|im_end|>")},
                        "logprobs": {"content": [{"logprob": -1.0} for _ in words]},
                        "token_ids": [
                            2 if word == "<|im_end|>" else 3 + WORDS.split().index(word) for word in words
                        ],
                        "finish_reason": "stop" if words[-1] == "<|im_end|>" else "length",
                    }
                    for words in texts
                ],
            }
        )


@dataclass(frozen=True)
class Sampled:
    url: str
    engine: SamplingEngine


@pytest.fixture
def sampling_engine() -> Iterator[Sampled]:
    engine = SamplingEngine()
    with serving(engine.app) as url:
        yield Sampled(url, engine)
