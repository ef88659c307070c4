"""What follows from a verdict: promoted, aborted, asked, rolled back. Raters are numbers, Valkey is real."""

import time
from dataclasses import replace

import orjson
import pytest

from serving.audit import Audit
from serving.canary.lead import Voice
from serving.jobs import Jobs, Kind
from serving.modes import Mode, Undecided
from serving.registry import Registry, Version
from serving.releases import Releases
from serving.served import key_of
from workers.releasing import Releasing
from workers.settings import WorkerSettings

RATERS = 400


@pytest.fixture
def settings(valkey, tmp_path) -> WorkerSettings:
    return WorkerSettings(home=tmp_path, redis_url=valkey.url, broker_url=valkey.broker_url)


@pytest.fixture
def registry(redis, tmp_path) -> Registry:
    registry = Registry(redis, tmp_path)
    registry.ensure_base()
    jobs = Jobs(redis)
    lease = jobs.acquire(jobs.create(Kind.cycle, by="test").id)
    for number in (1, 2):
        name = f"policy-v{number}"
        registry.add_policy(Version(name, f"artifacts/policies/{name}", 1.0, parent="policy-v0"), lease)
    return registry


@pytest.fixture
def releases(redis, settings, registry) -> Releases:
    releases = Releases(redis, settings.release_rules)
    releases.settle()
    return releases


@pytest.fixture
def releasing(redis, settings, releases) -> Releasing:
    return Releasing(redis, settings)


class Raters:
    """`votes`: how many of ten thumbs are up on the baseline, and on the version."""

    def __init__(self, baseline: int, version: int) -> None:
        self._up = (baseline, version)

    def read(self) -> list[Voice]:
        def thumb(number: int, tenths: int) -> tuple[int, int]:
            up = number % 10 < tenths
            return (1, 0) if up else (0, 1)

        baseline, version = self._up
        arms = [Voice(champion=thumb(number, baseline)) for number in range(RATERS)]
        return arms + [Voice(challenger=thumb(number, version)) for number in range(RATERS)]


@pytest.fixture
def people_say(monkeypatch):
    def say(baseline: int, version: int) -> None:
        monkeypatch.setattr("workers.releasing.Voices", lambda *_: Raters(baseline, version))

    return say


def last_actions(redis, count: int) -> list[tuple[str, str, str]]:
    page, _ = Audit(redis).page(count, None)
    return [(action["what"], action["who"], action["why"]) for action in page]


def late(releases: Releases, redis) -> None:
    """The trial's time is over."""
    release = releases.state()
    over = replace(release.trial, ends=time.time() - 1, started=time.time() - 10)
    redis.hset("tw:release", "trial", orjson.dumps(over))


def replied(redis, trial, version: str, replies: int, broken: int = 0, groups: int = 20) -> None:
    """So many replies to people of each group."""
    for group in range(groups):
        found = {"replies": replies, "broken": broken, "whole": replies - broken}
        redis.hset(
            key_of(trial.account, version), mapping={f"{group}:{name}": n for name, n in found.items()}
        )


def test_a_better_version_is_promoted_and_then_watched(releasing, releases, registry, redis, people_say):
    releases.begin("policy-v1", "ann", "a test")
    people_say(5, 8)
    found = releasing.check()
    assert registry.aliases().champion == "policy-v1"
    assert (found.trial.kind, found.trial.baseline) == ("watch", "policy-v0")
    what, who, why = last_actions(redis, 1)[0]
    assert (what, who) == ("policy.promote", "release control")
    assert why.startswith("Raters find the challenger better.")


def test_a_worse_one_gets_no_traffic_any_more_and_the_next_comes(
    releasing, releases, registry, redis, people_say
):
    releases.begin("policy-v1", "ann", "a test")
    people_say(8, 5)
    assert releasing.check().trial is None
    assert registry.aliases().champion == "policy-v0"
    assert registry.aliases().challenger is None
    what, _, why = last_actions(redis, 1)[0]
    assert (what, "worse" in why) == ("canary.fail", True)


def test_one_that_is_not_decided_goes_on_and_its_evidence_is_shown(releasing, releases, registry, people_say):
    releases.begin("policy-v1", "ann", "a test")
    people_say(6, 6)
    trial = releasing.check().trial
    assert (trial.version, trial.asks) == ("policy-v1", None)
    assert trial.evidence["outcome"] == "running"
    assert trial.evidence["challenger"] == [RATERS * 6 // 10, RATERS * 4 // 10]


@pytest.mark.parametrize(
    ("undecided", "champion", "asked"),
    [
        (Undecided.wait, "policy-v0", True),
        (Undecided.promote, "policy-v1", False),
        (Undecided.abort, "policy-v0", False),
    ],
)
def test_undecided_in_time_the_stated_policy_says(
    releasing, releases, registry, redis, people_say, undecided, champion, asked
):
    releases.set_rules("ann", "a test", {"undecided": undecided, "watch": 0})
    releases.begin("policy-v1", "ann", "a test")
    people_say(6, 6)
    late(releases, redis)
    replied(redis, releases.state().trial, "policy-v1", 1)
    trial = releasing.check().trial
    assert registry.aliases().champion == champion
    assert (trial is not None) == asked
    if asked:
        assert trial.asks.startswith("No decision in the")
        releasing.check()
        assert [what for what, _, _ in last_actions(redis, 20)].count("release.ask") == 1


def test_what_nobody_had_a_reply_of_is_not_promoted_as_undecided(
    releasing, releases, registry, redis, people_say
):
    releases.set_rules("ann", "a test", {"undecided": Undecided.promote})
    releases.begin("policy-v1", "ann", "a test")
    people_say(6, 6)
    late(releases, redis)
    assert releasing.check().trial.asks.startswith("No decision in the")
    assert registry.aliases().champion == "policy-v0"


@pytest.mark.parametrize("mode", [Mode.canary_then_ask, Mode.ask_first])
def test_where_an_operator_decides_an_undecided_one_waits_for_them_until_the_rules_say_otherwise(
    releasing, releases, registry, redis, people_say, mode
):
    releases.set_rules("ann", "careful", {"mode": mode, "undecided": Undecided.promote})
    releases.begin("policy-v1", "ann", "a test")
    people_say(6, 6)
    late(releases, redis)
    replied(redis, releases.state().trial, "policy-v1", 1)
    assert releasing.check().trial.asks.startswith("No decision in the")
    assert registry.aliases().champion == "policy-v0"
    releases.set_rules("ann", "go on", {"mode": Mode.auto})
    releasing.check()
    assert registry.aliases().champion == "policy-v1"


@pytest.mark.parametrize("mode", [Mode.canary_then_ask, Mode.ask_first])
def test_where_an_operator_decides_a_better_one_waits_for_them(
    releasing, releases, registry, people_say, mode
):
    releases.set_rules("ann", "careful", {"mode": mode})
    releases.begin("policy-v1", "ann", "a test")
    people_say(5, 8)
    assert releasing.check().trial.asks.startswith("Raters find the challenger better.")
    assert registry.aliases().champion == "policy-v0"


@pytest.mark.parametrize("votes", [(5, 8), (8, 5)])
def test_pinned_nothing_moves_by_itself(releasing, releases, registry, people_say, votes):
    releases.begin("policy-v1", "ann", "a test")
    releases.set_rules("ann", "holidays", {"pinned": True})
    people_say(*votes)
    found = releasing.check()
    assert (registry.aliases().champion, found.trial.version) == ("policy-v0", "policy-v1")
    assert found.trial.evidence["outcome"] in ("successful", "failed")


def test_harm_after_a_promotion_rolls_back_by_itself(releasing, releases, registry, redis, people_say):
    registry.promote("policy-v1", who="ann", why="better")
    people_say(8, 5)
    found = releasing.check()
    assert (registry.aliases().champion, found.trial) == ("policy-v0", None)
    what, who, why = last_actions(redis, 1)[0]
    assert (what, who, "worse" in why) == ("policy.rollback", "release control", True)


def test_a_watch_without_harm_ends_in_time_and_moves_nothing(
    releasing, releases, registry, redis, people_say
):
    registry.promote("policy-v1", who="ann", why="better")
    people_say(5, 8)
    assert releasing.check().trial.kind == "watch"
    late(releases, redis)
    assert releasing.check().trial is None
    assert registry.aliases().champion == "policy-v1"
    assert last_actions(redis, 1)[0][0] == "watch.end"


def test_a_guard_stops_a_canary_before_anybody_rates(releasing, releases, registry, redis, people_say):
    releases.begin("policy-v1", "ann", "a test")
    for version, broken in (("policy-v0", 0), ("policy-v1", 3)):
        replied(redis, releases.state().trial, version, 10, broken)
    assert releasing.check().trial is None
    what, _, why = last_actions(redis, 1)[0]
    assert (what, "30" in why) == ("canary.fail", True)


def test_what_was_served_with_another_share_is_not_held_against_it(releasing, releases, redis, people_say):
    trial = releases.begin("policy-v1", "ann", "a test").trial
    replied(redis, trial, "policy-v0", 10)
    replied(redis, trial, "policy-v1", 10, broken=9)
    people_say(6, 6)
    again = releases.set_rules("ann", "more", {"share": 0.4}).trial
    replied(redis, again, "policy-v0", 10)
    replied(redis, again, "policy-v1", 10)
    assert releasing.check().trial.version == "policy-v1"


def test_nothing_on_trial_is_nothing_to_do(releasing, releases):
    assert releasing.check().trial is None


class Meanwhile(Raters):
    """While raters are counted, somebody acts."""

    def __init__(self, baseline: int, version: int, act) -> None:
        super().__init__(baseline, version)
        self._act = act

    def read(self) -> list[Voice]:
        self._act()
        return super().read()


@pytest.fixture
def while_counting(monkeypatch):
    def say(baseline: int, version: int, act) -> None:
        monkeypatch.setattr("workers.releasing.Voices", lambda *_: Meanwhile(baseline, version, act))

    return say


def test_what_an_operator_aborts_meanwhile_is_not_promoted(releasing, releases, registry, while_counting):
    releases.begin("policy-v1", "ann", "a test")
    while_counting(5, 8, lambda: releases.end("ann", "no"))
    assert releasing.check().trial is None
    assert registry.aliases().champion == "policy-v0"


def test_what_is_pinned_meanwhile_stays(releasing, releases, registry, while_counting):
    releases.begin("policy-v1", "ann", "a test")
    while_counting(5, 8, lambda: releases.set_rules("ann", "hold", {"pinned": True}))
    releasing.check()
    assert registry.aliases().champion == "policy-v0"


def test_a_newer_promotion_is_not_rolled_back_for_the_harm_of_the_last(
    releasing, releases, registry, while_counting
):
    registry.promote("policy-v1", who="ann", why="a test")
    assert releases.settle().trial.kind == "watch"
    while_counting(8, 5, lambda: registry.promote("policy-v2", who="ann", why="a newer one"))
    releasing.check()
    assert registry.aliases().champion == "policy-v2"
