import pytest
import torch

from deploy.processes import engine
from deploy.settings import DeploySettings
from workers import device
from workers.precision import cpu_precision


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("flags\t\t: fpu avx2 fma avx512f avx512_bf16 sha_ni\n", "bfloat16"),
        ("flags\t\t: fpu avx2 fma avx512f amx_bf16 amx_tile\n", "bfloat16"),
        ("Features\t: fp asimd bf16 i8mm\n", "bfloat16"),
        ("flags\t\t: fpu avx2 fma\nbugs\t\t: bf16\n", "float32"),
        ("flags\t\t: fpu avx512f\n", "float32"),
        ("", "float32"),
    ],
)
def test_a_cpu_computes_in_what_it_multiplies(tmp_path, told, expected):
    (tmp_path / "cpuinfo").write_text(told)
    assert cpu_precision(tmp_path / "cpuinfo") == expected


def test_a_machine_that_does_not_say_gets_float32(tmp_path):
    assert cpu_precision(tmp_path / "cpuinfo") == "float32"


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_the_engine_computes_as_the_stages_do(tmp_path, monkeypatch, name):
    monkeypatch.setattr("deploy.processes.on_gpu", lambda: False)
    monkeypatch.setattr("deploy.processes.cpu_precision", lambda: name)
    monkeypatch.setattr("workers.device.cpu_precision", lambda: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command = list(engine(DeploySettings(home=tmp_path), 1).command)
    assert command[command.index("--dtype") + 1] == name
    assert device.precision() == getattr(torch, name)
    more = DeploySettings(home=tmp_path, engine_args="--dtype float16")
    assert list(engine(more, 1).command)[-1] == "float16"  # vLLM takes the last one


def test_a_gpu_has_bfloat16_whatever_the_cpu_is(tmp_path, monkeypatch):
    monkeypatch.setattr("deploy.processes.on_gpu", lambda: True)
    monkeypatch.setattr("workers.device.cpu_precision", lambda: "float32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.precision() == torch.bfloat16
    assert "--dtype" not in engine(DeploySettings(home=tmp_path), 1).command  # vLLM takes it from the model
