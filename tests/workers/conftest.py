"""A language model small enough to be trained in a second, and an engine that samples from a list."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest
import tokenizers
import torch
import transformers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.fake_engine import BASE, FakeEngine
from tests.servers import serving
from workers.stage import execute

WORDS = (
    "hi tell me about cats dogs rain please good nice lovely thanks bad dull rude grim"
    " you system user assistant"
)
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|> ' + m['role'] + ' ' + m['content'] + ' <|im_end|> ' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|> assistant ' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random Llama of four layers with a tokenizer of whole words, whose padding is its end of turn, as
    SmolLM2's is.
    """
    torch.set_num_threads(1)  # on tensors this small a second thread only waits
    folder = tmp_path_factory.mktemp("tiny")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS.split()])}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE,
    )
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=2,
        pad_token_id=2,
        bos_token_id=1,
        tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`stage("name", module, key=value…)` runs a stage in this process, in a folder so named → metrics."""
    datasets.disable_progress_bars()

    def run(name: str, module: Any, **config: Any) -> dict[str, Any]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "stage.json").write_text(json.dumps(config, default=str))
        return execute(folder, module.Config, module.main)

    return run


class SamplingEngine(FakeEngine):
    """Answers with `replies`, in turn, a word a token, each with log-probability -1; refuses prompts that say
    "too long".
    """

    def __init__(self) -> None:
        super().__init__()
        self.replies = {BASE: ["good cats <|im_end|>", "bad dogs rain"]}

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
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
