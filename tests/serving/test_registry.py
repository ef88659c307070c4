"""Versions and aliases on a real Valkey."""

import pytest

from serving.audit import Audit
from serving.errors import Conflict, UnknownVersion
from serving.jobs import Jobs, Kind, Lease
from serving.registry import Aliases, Registry, Version
from serving.router import View, wanted_versions


@pytest.fixture
def registry(redis, tmp_path) -> Registry:
    registry = Registry(redis, tmp_path)
    registry.ensure_base()
    return registry


@pytest.fixture
def lease(redis) -> Lease:
    jobs = Jobs(redis)
    return jobs.acquire(jobs.create(Kind.cycle, by="test").id)


def version(name: str, parent: str = "policy-v0") -> Version:
    return Version(name, f"artifacts/policies/{name}", 1.0, parent=parent)


def actions(redis) -> list[tuple]:
    page, _ = Audit(redis).page(50, None)
    return [(a["who"], a["what"], a["why"], a["before"], a["after"]) for a in reversed(page)]


def test_a_new_registry_has_the_base_as_its_champion(registry):
    assert registry.aliases() == Aliases(champion="policy-v0")
    assert registry.directory(registry.policy("policy-v0")) is None
    registry.ensure_base()
    assert list(registry.policies()) == ["policy-v0"]


def test_version_names_are_never_used_twice(registry, lease):
    assert [registry.next_version("policy", lease) for _ in range(2)] == ["policy-v1", "policy-v2"]
    assert registry.next_version("reward", lease) == "reward-v1"


def test_versions_are_immutable_and_in_order(registry, lease, tmp_path):
    for number in (10, 9, 2):
        registry.add_policy(version(f"policy-v{number}"), lease)
    registry.add_policy(version("policy-v2", parent="policy-v9"), lease)
    assert list(registry.policies()) == ["policy-v0", "policy-v2", "policy-v9", "policy-v10"]
    assert registry.policy("policy-v2").parent == "policy-v0"
    assert registry.directory(registry.policy("policy-v2")) == tmp_path / "artifacts/policies/policy-v2"
    with pytest.raises(UnknownVersion):
        registry.policy("policy-v3")


def test_promoting_and_rolling_back_move_the_pointers(registry, lease):
    registry.add_policy(version("policy-v1"), lease)
    registry.add_policy(version("policy-v2", parent="policy-v1"), lease)
    registry.promote("policy-v1", who="ann", why="better")
    moved = registry.promote("policy-v2", who="job-1", why=None, lease=lease)
    assert (moved.champion, moved.previous) == ("policy-v2", "policy-v1")
    back = registry.roll_back("policy-v1", who="ann", why="rude")
    assert (back.champion, back.previous) == ("policy-v1", "policy-v0")
    back = registry.roll_back("policy-v0", who="ann", why="ruder")
    assert (back.champion, back.previous) == ("policy-v0", None)


def test_every_move_is_in_the_audit_log(registry, redis, lease):
    registry.add_policy(version("policy-v1"), lease)
    registry.add_reward(Version("reward-v1", "x", 1.0), lease)
    registry.promote("policy-v1", who="ann", why="better")
    registry.roll_back("policy-v0", who="bob", why="rude")
    registry.pause_learning(True, who="ann", why="a holiday")
    assert actions(redis) == [
        (lease.job_id, "reward.publish", None, None, "reward-v1"),
        ("ann", "policy.promote", "better", "policy-v0", "policy-v1"),
        ("bob", "policy.rollback", "rude", "policy-v1", "policy-v0"),
        ("ann", "learning.pause", "a holiday", {"paused": False}, {"paused": True}),
    ]


def test_a_promotion_that_came_too_late_moves_nothing(registry, redis, lease):
    for name in ("policy-v1", "policy-v2"):
        registry.add_policy(version(name), lease)
    registry.promote("policy-v1", who="ann", why=None)
    before = actions(redis)
    with pytest.raises(Conflict, match="somebody else"):
        registry.promote("policy-v2", who="job", why=None, instead_of="policy-v0", lease=lease)
    assert registry.aliases().champion == "policy-v1"
    assert actions(redis) == before


def test_learning_remembers_its_cursor_and_its_pause(registry, lease):
    assert (registry.learning().cursor, registry.learning().paused) == ("0-0", False)
    registry.advance_cursor("5-1", 64, lease)
    registry.pause_learning(True, "ann", None)
    learning = registry.learning()
    assert (learning.cursor, learning.labels, learning.paused) == ("5-1", 64, True)
    assert learning.updated is not None
    assert not registry.pause_learning(False, "ann", None).paused


def test_the_cursor_never_goes_back(registry, lease):
    """A job that was taken up again may end after a later one."""
    registry.advance_cursor("1700000000000-10", 64, lease)
    for earlier in ("1700000000000-9", "999999999999-11"):
        registry.advance_cursor(earlier, 32, lease)
        assert (registry.learning().cursor, registry.learning().labels) == ("1700000000000-10", 64)
    registry.advance_cursor("1700000000001-0", 65, lease)
    assert (registry.learning().cursor, registry.learning().labels) == ("1700000000001-0", 65)


def test_engines_keep_those_with_an_alias_and_then_the_newest():
    versions = {f"policy-v{n}": version(f"policy-v{n}") for n in range(12)}
    view = View(Aliases("policy-v3", "policy-v2", "policy-v1"), versions)
    assert wanted_versions(view, 5) == ["policy-v3", "policy-v1", "policy-v2", "policy-v11", "policy-v10"]
    fresh = View(Aliases("policy-v0"), {"policy-v0": versions["policy-v0"]})
    assert wanted_versions(fresh, 5) == []
