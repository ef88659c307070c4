import json
import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.processes import engine_flags
from feedback.settings import PREFIX
from serving.settings import ServingSettings
from workers.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SCHEMA = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"


def validate(compose: dict[str, Any]) -> None:
    schema = json.loads(Path(str(distribution("check-jsonschema").locate_file(SCHEMA))).read_text())
    jsonschema.validate(compose, schema)


def test_compose_file_keeps_to_the_compose_schema() -> None:
    validate(COMPOSE)


def test_the_schema_would_notice_a_wrong_key() -> None:
    broken = COMPOSE | {"services": SERVICES | {"gateway": SERVICES["gateway"] | {"health_check": {}}}}
    with pytest.raises(jsonschema.ValidationError):
        validate(broken)


def test_every_process_is_a_service_with_a_health_check() -> None:
    processes = {"redis", "engine-cpu", "engine-gpu", "gateway", "worker-train-cpu", "worker-train-gpu"}
    processes |= {"worker-control", "beat"}
    assert set(SERVICES) == processes | {"model"}
    assert all("healthcheck" in SERVICES[name] for name in processes)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_are_told_only_what_their_settings_know(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {
        k: str(v) for k, v in SERVICES[name].get("environment", {}).items() if k.startswith(PREFIX)
    }
    settings = {"gateway": ServingSettings}.get(name, WorkerSettings)
    if name in ("redis", "model") or name.startswith("engine"):
        assert not environment
        return
    for key, value in environment.items():
        monkeypatch.setenv(key, value.replace("${THUMBWHEEL_UPDATE_EVERY:-64}", "64"))
    made = settings()
    assert (made.redis_url, made.broker_url) == ("redis://redis:6379/0", "redis://redis:6379/1")
    assert made.engines == ("http://engine:8001",)


@pytest.mark.parametrize(("name", "gpu"), [("engine-cpu", False), ("engine-gpu", True)])
def test_engines_have_the_flags_of_a_local_one(name: str, gpu: bool) -> None:
    command = [part for word in SERVICES[name]["command"] for part in word.split("=", 1)]
    assert command[:3] == ["python", "-m", "vllm.entrypoints.openai.api_server"]
    home = Path(SERVICES["gateway"]["environment"]["THUMBWHEEL_HOME"])
    model = str(home / "models" / "smollm2-135m-instruct")
    flags = engine_flags(model, gpu, WorkerSettings().optimise_targets)
    assert command[7:] == flags
    assert SERVICES[name]["networks"]["default"]["aliases"] == ["engine"]


def test_feedback_is_on_disk_before_it_is_acknowledged() -> None:
    assert SERVICES["redis"]["command"][1:5] == ["--appendonly", "yes", "--appendfsync", "always"]
    assert SERVICES["redis"]["volumes"] == ["feedback:/data"]


def test_whoever_shares_artifacts_mounts_the_same_home() -> None:
    home = SERVICES["gateway"]["environment"]["THUMBWHEEL_HOME"]
    assert all(SERVICES[name]["volumes"] == [f"state:{home}"] for name in SERVICES if name != "redis")


@pytest.mark.parametrize("name", ["engine-gpu", "worker-train-gpu"])
def test_services_with_a_gpu_get_an_image_for_it_whatever_HARDWARE_is(name: str) -> None:
    assert SERVICES[name]["image"] == "thumbwheel:gpu"
    assert SERVICES[name]["build"]["args"]["HARDWARE"] == "gpu"


def test_every_build_is_told_of_an_extra_package_index() -> None:
    builds = [service["build"] for service in SERVICES.values() if "build" in service]
    assert {build["args"]["PIP_EXTRA_INDEX_URL"] for build in builds} == {"${PIP_EXTRA_INDEX_URL:-}"}
    told = set(re.findall(r"^ARG (\w+)", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE))
    assert all(build["args"].keys() == told for build in builds)
