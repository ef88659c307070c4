"""What is on trial, who waits and who is asked, on a real Valkey."""

from dataclasses import asdict, replace

import orjson
import pytest

from serving.audit import Audit
from serving.errors import Conflict, LeaseLost
from serving.jobs import Jobs, Kind, Lease
from serving.modes import Mode, Rules, Undecided
from serving.registry import Registry, Version
from serving.releases import WHO, Releases

RULES = Rules(share=0.2, canary=100.0, watch=50.0)


@pytest.fixture
def lease(redis) -> Lease:
    jobs = Jobs(redis)
    return jobs.acquire(jobs.create(Kind.cycle, by="test").id)


@pytest.fixture
def registry(redis, tmp_path, lease) -> Registry:
    """With five versions that were accepted, the first of them champion."""
    registry = Registry(redis, tmp_path)
    registry.ensure_base()
    for number in range(1, 6):
        name = f"policy-v{number}"
        registry.add_policy(Version(name, f"artifacts/policies/{name}", 1.0, parent="policy-v0"), lease)
    registry.promote("policy-v1", who="ann", why="the first")
    return registry


@pytest.fixture
def releases(redis, registry) -> Releases:
    releases = Releases(redis, RULES)
    releases.settle()
    return releases


def done(redis) -> list[str]:
    page, _ = Audit(redis).page(50, None)
    return [action["what"] for action in reversed(page)]


def promote(registry, releases, version):
    registry.promote(version, who="ann", why="better")
    return releases.settle()


def test_an_accepted_version_goes_on_canary_beside_the_champion(releases, registry, lease):
    trial = releases.arrive("policy-v2", lease).trial
    assert (trial.kind, trial.version, trial.baseline, trial.minority) == (
        "canary",
        "policy-v2",
        "policy-v1",
        "policy-v2",
    )
    assert (trial.share, trial.ends - trial.started) == (0.2, 100.0)
    assert registry.aliases().challenger == "policy-v2"
    assert registry.aliases().champion == "policy-v1"
    assert releases.state().trial == trial
    assert releases.arrive("policy-v2", lease).trial == trial, "a stage that runs again changes nothing"


def test_who_comes_in_the_middle_waits_and_the_newest_comes_next(releases, redis, lease):
    releases.arrive("policy-v2", lease)
    for name in ("policy-v3", "policy-v4"):
        found = releases.arrive(name, lease)
    assert (found.trial.version, found.waiting) == ("policy-v2", ("policy-v3", "policy-v4"))
    after = releases.end("ann", "too rude")
    assert (after.trial.version, after.waiting) == ("policy-v4", ())
    assert done(redis)[-2:] == ["canary.abort", "canary.begin"]
    last = Audit(redis).page(1, None)[0][0]
    assert (last["who"], last["before"], last["after"]["version"]) == (WHO, ["policy-v3"], "policy-v4")


def test_after_a_promotion_the_version_before_keeps_the_share_for_the_watch(releases, registry, lease):
    releases.arrive("policy-v2", lease)
    trial = promote(registry, releases, "policy-v2").trial
    assert (trial.kind, trial.version, trial.baseline, trial.minority) == (
        "watch",
        "policy-v2",
        "policy-v1",
        "policy-v1",
    )
    assert trial.ends - trial.started == 50.0
    assert registry.aliases().challenger is None
    assert releases.settle().trial == trial
    assert releases.end(WHO, "over", trial, "end").trial is None


def test_a_rollback_ends_the_watch_and_is_not_watched(releases, registry, lease):
    releases.arrive("policy-v2", lease)
    promote(registry, releases, "policy-v2")
    registry.roll_back("policy-v1", who="ann", why="rude")
    assert releases.settle().trial is None


def test_a_rollback_to_a_newer_version_is_not_watched_either(releases, registry, redis, tmp_path):
    registry.roll_back("policy-v5", who="ann", why="v1 is rude")
    assert releases.settle().trial is None


def test_where_the_champion_is_moved_in_the_middle_the_canary_begins_again(releases, registry, lease):
    first = releases.arrive("policy-v3", lease).trial
    registry.roll_back("policy-v0", who="ann", why="rude")
    again = releases.settle().trial
    assert (again.version, again.baseline) == ("policy-v3", "policy-v0")
    assert again.key != first.key


def test_where_another_version_is_promoted_that_is_watched_first(releases, registry, lease):
    releases.arrive("policy-v3", lease)
    found = promote(registry, releases, "policy-v2")
    assert (found.trial.kind, found.trial.version, found.waiting) == ("watch", "policy-v2", ("policy-v3",))
    found = releases.end(WHO, "over", found.trial, "end")
    assert (found.trial.kind, found.trial.version, found.trial.baseline) == (
        "canary",
        "policy-v3",
        "policy-v2",
    )


def test_without_a_watch_the_next_comes_at_once(redis, registry, lease):
    releases = Releases(redis, replace(RULES, watch=0.0))
    releases.settle()
    releases.arrive("policy-v2", lease)
    releases.arrive("policy-v3", lease)
    found = promote(registry, releases, "policy-v2")
    assert (found.trial.kind, found.trial.version) == ("canary", "policy-v3")


@pytest.mark.parametrize("rules", [{"mode": Mode.ask_first}, {"pinned": True}, {"mode": Mode.at_once}])
def test_where_an_operator_decides_nothing_begins_by_itself(releases, lease, rules):
    releases.set_rules("ann", "careful", rules)
    found = releases.arrive("policy-v2", lease)
    assert (found.trial, found.waiting) == (None, ("policy-v2",))
    begun = releases.begin("policy-v2", "ann", "looks good", 0.4)
    assert (begun.trial.version, begun.trial.share, begun.waiting) == ("policy-v2", 0.4, ())


def test_rules_are_kept_and_told(releases, redis):
    found = releases.set_rules("ann", "a holiday", {"share": 0.3, "undecided": Undecided.abort})
    assert (found.rules.share, found.rules.undecided) == (0.3, Undecided.abort)
    other = Releases(redis, replace(RULES, canary=7.0))
    assert other.state().rules == replace(RULES, canary=7.0, share=0.3, undecided=Undecided.abort)
    last = Audit(redis).page(1, None)[0][0]
    assert (last["before"], last["after"]) == (
        {"share": 0.2, "undecided": "wait"},
        {"share": 0.3, "undecided": "abort"},
    )


def test_another_share_holds_for_the_trial_that_is_on(releases, lease):
    before = releases.arrive("policy-v2", lease).trial
    releases.note(before, {"lead": 0.1}, None)
    after = releases.set_rules("ann", "more", {"share": 0.5}).trial
    assert (after.share, after.key, after.ends) == (0.5, before.key, before.ends)
    assert (after.account != before.account, after.evidence) == (True, None), "times and shares would mix"
    assert releases.note(before, {"lead": 0.2}, "no decision").trial == after, "that was of the share before"
    assert releases.set_rules("ann", "the same", {"share": 0.5}).trial == after


def test_a_watch_that_a_canary_ends_is_told(releases, registry, redis, lease):
    releases.arrive("policy-v2", lease)
    promote(registry, releases, "policy-v2")
    assert releases.begin("policy-v3", "ann", "a better one").trial.kind == "canary"
    assert done(redis)[-2:] == ["watch.abort", "canary.begin"]
    promote(registry, releases, "policy-v4")
    assert done(redis)[-2:] == ["policy.promote", "canary.wait"]
    assert releases.state().waiting == ("policy-v3",)


def test_what_operators_said_stays_whatever_the_settings_of_a_process_are(releases, redis, lease):
    releases.set_rules("ann", "as it is", {"share": RULES.share, "mode": Mode.auto})
    other = Releases(redis, replace(RULES, share=0.4, mode=Mode.ask_first, watch=7.0))
    assert other.state().rules == replace(RULES, watch=7.0)
    trial = other.arrive("policy-v2", lease).trial
    other.note(trial, {"lead": 0.1}, None)
    assert releases.state().rules == RULES


def test_a_trial_that_an_older_thumbwheel_began_goes_on(releases, redis, lease):
    trial = releases.arrive("policy-v2", lease).trial
    kept = asdict(trial) | {"served": {"policy-v2": {}}}
    del kept["since"]
    redis.hset("tw:release", "trial", orjson.dumps(kept))
    assert releases.state().trial == replace(trial, since=trial.started)


def test_what_cannot_be_is_refused_and_changes_nothing(releases, lease):
    with pytest.raises(Conflict, match="Nothing is on trial"):
        releases.end("ann", "why not")
    with pytest.raises(Conflict, match="champion already"):
        releases.begin("policy-v1", "ann", "again")
    trial = releases.arrive("policy-v2", lease).trial
    with pytest.raises(Conflict, match="policy-v2 is on canary"):
        releases.begin("policy-v3", "ann", "impatient")
    with pytest.raises(Conflict, match="does not wait"):
        releases.drop("policy-v3", "ann", "old")
    assert releases.state().trial == trial


def test_a_version_that_waits_can_be_dropped(releases, lease):
    releases.arrive("policy-v2", lease)
    releases.arrive("policy-v3", lease)
    assert releases.drop("policy-v3", "ann", "old").waiting == ()


def test_a_worker_without_its_lease_moves_nothing(releases):
    with pytest.raises(LeaseLost):
        releases.arrive("policy-v2", Lease("job-x", 99))
    assert releases.state().trial is None


def test_what_was_found_is_kept_and_asked_once(releases, redis, lease):
    trial = releases.arrive("policy-v2", lease).trial
    for lead in (0.1, 0.2):
        found = releases.note(trial, {"lead": lead}, "no decision in time")
    assert (found.trial.evidence, found.trial.asks) == ({"lead": 0.2}, "no decision in time")
    assert done(redis).count("release.ask") == 1
    releases.end("ann", "no")
    assert releases.note(trial, {"lead": 0.3}, None).trial is None
