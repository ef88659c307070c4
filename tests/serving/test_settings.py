import pytest
from pydantic import ValidationError

from serving.settings import ServingSettings


def test_settings_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
    monkeypatch.setenv("THUMBWHEEL_PORT", "9000")
    monkeypatch.setenv("THUMBWHEEL_ENGINES", "http://one:1/, http://two:2")
    settings = ServingSettings()
    assert (settings.home, settings.port) == (tmp_path, 9000)
    assert settings.engines == ("http://one:1", "http://two:2")


def test_an_unknown_variable_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("THUMBWHEEL_PROT", "9000")
    with pytest.raises(ValidationError, match=r"know THUMBWHEEL_PROT \(did you mean THUMBWHEEL_PORT\?\). It"):
        ServingSettings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "0"), ("PORT", "x"), ("MAX_BODY", "-1"), ("REFRESH", "0"), ("WATCH_SECONDS", "inf")],
)
def test_values_that_cannot_be_are_refused(monkeypatch, name, value):
    monkeypatch.setenv(f"THUMBWHEEL_{name}", value)
    with pytest.raises(ValidationError):
        ServingSettings()


def test_no_more_versions_are_kept_loaded_than_engines_have_room_for_beside_a_job(monkeypatch):
    default = ServingSettings().loaded_versions
    monkeypatch.setenv("THUMBWHEEL_LOADED_VERSIONS", "5")
    assert ServingSettings().loaded_versions == default == 5
    monkeypatch.setenv("THUMBWHEEL_LOADED_VERSIONS", "6")
    with pytest.raises(ValidationError, match=r"LOADED_VERSIONS: take at most 5\. .* 8 .*max-cpu-loras"):
        ServingSettings()


def test_a_home_is_absolute_and_settings_are_frozen(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = ServingSettings()
    assert settings.home == tmp_path / ".thumbwheel"
    with pytest.raises(ValidationError):
        settings.port = 1


def test_a_child_process_gets_the_same_settings(monkeypatch):
    settings = ServingSettings(engines=("http://one:1", "http://two:2"), refresh=0.5)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert ServingSettings() == settings
