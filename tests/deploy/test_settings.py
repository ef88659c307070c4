from pathlib import Path

import pytest
from pydantic import ValidationError

from deploy.settings import DeploySettings, environment_for
from serving.settings import ServingSettings
from workers.settings import WorkerSettings

ENGINE = ("http://127.0.0.1:20001",)
VALKEY = "redis://:secret@127.0.0.1:20000"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_by_default_everything_is_embedded_and_the_packaged_model_lies_under_home(home: Path) -> None:
    settings = DeploySettings()
    assert settings.embeds_valkey
    assert settings.starts_engine
    assert settings.model_is_packaged
    assert settings.model_is_local
    assert settings.model == str(home / "models" / "smollm2-135m-instruct")


def test_wiring_gives_the_embedded_server_two_databases() -> None:
    wired = DeploySettings().wired(VALKEY, ENGINE)
    assert wired.redis_url == f"{VALKEY}/0"
    assert wired.broker_url == f"{VALKEY}/1"
    assert wired.engines == ENGINE


def test_what_already_runs_is_used_and_its_next_database_is_the_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THUMBWHEEL_REDIS_URL", "rediss://:pw@there:6379/4?ssl_cert_reqs=none")
    monkeypatch.setenv("THUMBWHEEL_ENGINES", "http://a:1,http://b:2")
    settings = DeploySettings()
    assert not settings.embeds_valkey
    assert not settings.starts_engine
    wired = settings.wired("", ())
    assert wired.redis_url == "rediss://:pw@there:6379/4?ssl_cert_reqs=none"
    assert wired.broker_url == "rediss://:pw@there:6379/5?ssl_cert_reqs=none"
    assert wired.engines == ("http://a:1", "http://b:2")


def test_a_broker_alone_leaves_valkey_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_BROKER_URL", "redis://there/3")
    wired = DeploySettings().wired(VALKEY, ENGINE)
    assert (wired.redis_url, wired.broker_url) == (f"{VALKEY}/0", "redis://there/3")


def test_a_socket_needs_a_broker_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_REDIS_URL", "unix:///run/valkey.sock")
    with pytest.raises(ValidationError, match="THUMBWHEEL_BROKER_URL is needed"):
        DeploySettings()


def test_a_relative_model_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("THUMBWHEEL_MODEL", "mine")
    settings = DeploySettings()
    assert settings.model == str(tmp_path / "mine")
    assert settings.model_is_local
    assert not settings.model_is_packaged


def test_a_hub_id_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_MODEL", "org/some-model.v2")
    settings = DeploySettings()
    assert settings.model == "org/some-model.v2"
    assert not settings.model_is_local


@pytest.mark.parametrize("model", ["nowhere", "./nowhere", "/nowhere/at/all", "../no/where"])
def test_a_model_that_can_be_neither_is_refused(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_MODEL", model)
    with pytest.raises(ValidationError, match="neither a folder nor a hub id"):
        DeploySettings()


@pytest.mark.parametrize("process", [ServingSettings, WorkerSettings])
def test_each_process_understands_what_it_is_told(
    process: type[ServingSettings], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = environment_for(process, DeploySettings().wired(VALKEY, ENGINE))
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    made = process()
    assert (made.home, made.redis_url, made.engines) == (home, f"{VALKEY}/0", ENGINE)
    assert made.model_dump() == {
        name: value
        for name, value in DeploySettings().wired(VALKEY, ENGINE).model_dump().items()
        if name in process.model_fields
    }


def test_a_redis_whose_next_database_cannot_be_told_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_REDIS_URL", "redis://there:6379/first")
    with pytest.raises(ValidationError, match="/first is no database"):
        DeploySettings()
