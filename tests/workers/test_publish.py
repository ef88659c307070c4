from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from serving.jobs import Jobs, Kind, Lease
from serving.modes import Mode, Rules
from serving.registry import Registry, Version
from serving.releases import Releases
from workers.artifacts import install
from workers.stages.publish import Config, as_expected, parts, release

ROW = {"prompt_token_ids": [1, 2], "token_ids": [3], "logprobs": [-0.5]}


def test_the_trainers_probe_keeps_the_bases_log_probabilities_where_it_has_them():
    texts = {"token_ids": [[1, 2, 3]], "prompt_lengths": [2], "logprobs": [[-0.5]]}
    assert as_expected([{**ROW, "base_logprobs": [-1.0]}]) == {**texts, "base_logprobs": [[-1.0]]}
    assert as_expected([ROW]) == texts


def test_a_versions_folder_holds_the_adapter_and_the_plots_where_there_are_some(tmp_path):
    adapter, plots = tmp_path / "adapter", tmp_path / "plots"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")

    def config(drawn: Path | None) -> Config:
        given = {"job": "j", "token": 1, "probe": tmp_path, "parent": "policy-v0", "reward": None}
        return Config(**given, adapter=adapter, evaluation={}, plots=drawn)

    assert parts(config(None)) == parts(config(plots)) == [adapter / "adapter_config.json"]
    plots.mkdir()
    (plots / "reward.png").write_bytes(b"")
    install(parts(config(plots)), tmp_path / "policy-v1", {})
    assert (tmp_path / "policy-v1" / "plots" / "reward.png").exists()


@pytest.fixture
def lease(redis: Redis) -> Lease:
    jobs = Jobs(redis)
    lease = jobs.acquire(jobs.create(Kind.cycle, by="test").id)
    assert lease is not None
    return lease


@pytest.fixture
def registry(redis: Redis, tmp_path: Path, lease: Lease) -> Registry:
    """With two versions that were accepted beside the base, which is the champion."""
    registry = Registry(redis, tmp_path)
    registry.ensure_base()
    for name in ("policy-v1", "policy-v2"):
        registry.add_policy(Version(name, f"artifacts/policies/{name}", 1.0, parent="policy-v0"), lease)
    return registry


RULES = Rules(mode=Mode.auto, share=0.2)


def test_what_the_gate_accepts_goes_on_canary_and_the_next_one_waits(redis, registry, lease):
    releases = Releases(redis, RULES)
    releases.settle()
    said = release(registry, releases, "policy-v1", "policy-v0", lease)
    assert said == "policy-v1 is on canary, with 20% of the traffic"
    assert (registry.aliases().champion, registry.aliases().challenger) == ("policy-v0", "policy-v1")
    said = release(registry, releases, "policy-v2", "policy-v0", lease)
    assert said == "policy-v2 waits: policy-v1 is on canary"
    assert releases.state().waiting == ("policy-v2",)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (replace(RULES, mode=Mode.ask_first), "policy-v1 waits for an operator, who may put it on canary"),
        (replace(RULES, pinned=True), "policy-v1 waits: an operator has pinned policy-v0"),
        (replace(RULES, mode=Mode.at_once, pinned=True), "policy-v1 waits: an operator has pinned policy-v0"),
    ],
)
def test_where_an_operator_wants_to_be_asked_it_waits(redis, registry, lease, rules, said):
    releases = Releases(redis, rules)
    releases.settle()
    assert release(registry, releases, "policy-v1", "policy-v0", lease).startswith(said)
    assert (registry.aliases().champion, releases.state().waiting) == ("policy-v0", ("policy-v1",))


def test_at_once_it_is_the_champion_unless_somebody_moved_him(redis, registry, lease):
    releases = Releases(redis, replace(RULES, mode=Mode.at_once))
    releases.settle()
    for _ in range(2):  # a stage that runs again changes nothing
        assert release(registry, releases, "policy-v1", "policy-v0", lease) is None
        assert registry.aliases().champion == "policy-v1"
    said = release(registry, releases, "policy-v2", "policy-v0", lease)
    assert "policy-v2 is published but not the champion" in said
    assert registry.aliases().champion == "policy-v1"
