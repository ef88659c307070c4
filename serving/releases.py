"""Release control: what stands between "the gate accepted" and "everybody gets it". Sync.

tw:release   hash    rules (what operators said of them), trial, waiting (version names), champion (who it
                     was when this was last settled): JSON each

A new version is on trial as a canary: a share of the users get it, beside the champion. After its promotion
the watch is a trial too: the same share keep the version before, so that harm shows. One trial at a time; who
comes in the middle waits, and the newest of those comes next. The truth is the champion's alias: `settle`
brings the trial in line with it, so whoever moves the champion need not know of trials.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple

import orjson
from redis import Redis
from redis.client import Pipeline

from feedback.reader import FeedbackReader
from serving.audit import AUDIT, Action
from serving.errors import Conflict, LeaseLost
from serving.jobs import LEASE, Lease
from serving.modes import Mode, Rules, Undecided
from serving.registry import ALIASES, CHANGED, MOVED, PROMOTE, Aliases, aliases_of, number_of

RELEASE = "tw:release"
WHO = "release control"

Kind = Literal["canary", "watch"]


@dataclass(frozen=True, slots=True)
class Trial:
    """`version` is judged beside `baseline`; `kind` says which of the two is the champion meanwhile.

    `since`, `place`: from when on it has had this share, and where feedback's events were then: nothing
    before tells, for where the share changes with the times the versions would be compared by their times.
    `asks`: why it waits for an operator, if it does; `evidence`: what was last found.
    """

    kind: Kind
    version: str
    baseline: str
    share: float
    started: float
    ends: float
    since: float
    place: str
    asks: str | None = None
    evidence: dict[str, Any] | None = None

    @property
    def minority(self) -> str:
        """Who gets the share; everybody else has the champion."""
        return self.version if self.kind == "canary" else self.baseline

    @property
    def key(self) -> str:
        """Stays the same while the trial lasts: who is in a share of it, is in a larger one too."""
        return f"{self.kind}:{self.version}:{self.started}"

    @property
    def account(self) -> str:
        """What evidence is kept under; each change of the share opens another."""
        return f"{self.key}:{self.since}"

    def told(self) -> dict[str, Any]:
        """As the audit log has it."""
        return {"kind": self.kind, "version": self.version, "baseline": self.baseline, "share": self.share}


@dataclass(frozen=True, slots=True)
class Release:
    """`own`: what operators said of the rules; `champion`: who it was when this was last settled."""

    rules: Rules = field(default_factory=Rules)
    own: dict[str, Any] = field(default_factory=dict)
    trial: Trial | None = None
    waiting: tuple[str, ...] = ()
    champion: str | None = None


class _State(NamedTuple):
    """`promoted`: whether the champion was last moved by a promotion, not back."""

    aliases: Aliases
    release: Release
    promoted: bool


class _Change(NamedTuple):
    release: Release
    actions: tuple[Action, ...] = ()


class Releases:
    """`rules`: those of the settings; operators' own are kept beside, in Redis."""

    def __init__(self, redis: Redis, rules: Rules) -> None:
        self._redis = redis
        self._reader = FeedbackReader(redis)
        self._rules = rules

    def state(self) -> Release:
        return self._read(self._redis.hgetall(RELEASE))

    def settle(self) -> Release:
        """Bring the trial in line with who is champion, and begin the next where none is on. Changes nothing
        where all is well."""
        return self._change(self._settled)

    def arrive(self, version: str, lease: Lease) -> Release:
        """The gate accepted a version: it goes on canary, or waits. Raises LeaseLost."""

        def add(state: _State) -> _Change:
            trial = state.release.trial
            if version == state.aliases.champion or (trial is not None and trial.version == version):
                return _Change(state.release)
            waiting = tuple(dict.fromkeys((*state.release.waiting, version)))
            return self._settled(state._replace(release=replace(state.release, waiting=waiting)))

        return self._change(add, lease)

    def begin(self, version: str, who: str, why: str | None, share: float | None = None) -> Release:
        """An operator puts a version on canary now; a watch is over by it. Raises Conflict where another
        canary is on."""

        def start(state: _State) -> _Change:
            release = state.release
            if release.trial is not None and release.trial.version == version:
                raise Conflict(f"{version} is on {release.trial.kind} already.")
            if release.trial is not None and release.trial.kind == "canary":
                raise Conflict(f"{release.trial.version} is on canary. Promote or abort that first.")
            if version == state.aliases.champion:
                raise Conflict(f"{version} is the champion already.")
            part = release.rules.share if share is None else share
            trial = self._trial("canary", version, state.aliases.champion, part, release.rules.canary)
            actions = [Action(who, "canary.begin", why, before=None, after=trial.told())]
            if release.trial is not None:
                watched = release.trial.told()
                actions.insert(0, Action(who, "watch.abort", why, before=watched, after=None))
            waiting = tuple(name for name in release.waiting if name != version)
            return _Change(replace(release, trial=trial, waiting=waiting), tuple(actions))

        return self._change(start)

    def end(self, who: str, why: str, of: Trial | None = None, what: str = "abort") -> Release:
        """End the trial (`of` alone, where given): a canary gets no traffic any more, a watch is over. Raises
        Conflict where there is none."""

        def over(state: _State) -> _Change:
            trial = state.release.trial
            if trial is None or (of is not None and trial.key != of.key):
                raise Conflict("Nothing is on trial." if of is None else f"{of.version} is not on trial.")
            action = Action(who, f"{trial.kind}.{what}", why, before=trial.told(), after=None)
            settled = self._settled(state._replace(release=replace(state.release, trial=None)))
            return _Change(settled.release, (action, *settled.actions))

        return self._change(over)

    def set_rules(self, who: str, why: str, changes: dict[str, Any]) -> Release:
        """Change rules until they are changed again; the share of a trial that is on, too, whose evidence
        begins anew by it. What has asked an operator is decided by a new mode or policy."""

        def change(state: _State) -> _Change:
            before, trial = state.release.rules, state.release.trial
            rules = replace(before, **changes)
            if trial is not None and rules.share != trial.share and "share" in changes:
                place = self._reader.cursor()
                trial = replace(trial, share=rules.share, since=time.time(), place=place, evidence=None)
            if trial is not None and not changes.keys().isdisjoint(("mode", "undecided")):
                trial = replace(trial, asks=None)
            old, new = asdict(before), asdict(rules)
            action = Action(
                who,
                "release.rules",
                why,
                before={name: old[name] for name in changes},
                after={name: new[name] for name in changes},
            )
            own = state.release.own | changes
            return _Change(replace(state.release, rules=rules, own=own, trial=trial), (action,))

        return self._change(change)

    def drop(self, version: str, who: str, why: str) -> Release:
        """A version that waits shall not come. Raises Conflict where it does not wait."""

        def remove(state: _State) -> _Change:
            if version not in state.release.waiting:
                raise Conflict(f"{version} does not wait for a canary.")
            waiting = tuple(name for name in state.release.waiting if name != version)
            action = Action(who, "release.drop", why, before=version, after=None)
            return _Change(replace(state.release, waiting=waiting), (action,))

        return self._change(remove)

    def note(self, trial: Trial, evidence: dict[str, Any], asks: str | None) -> Release:
        """Keep what was found of a trial, if it is still on, and why it waits for an operator."""

        def keep(state: _State) -> _Change:
            now = state.release.trial
            if now is None or now.account != trial.account:
                return _Change(state.release)
            actions: tuple[Action, ...] = ()
            if asks is not None and now.asks is None:
                actions = (Action(WHO, "release.ask", asks, before=None, after=now.told()),)
            noted = replace(now, evidence=evidence, asks=asks or now.asks)
            return _Change(replace(state.release, trial=noted), actions)

        return self._change(keep)

    def _settled(self, state: _State) -> _Change:
        release, champion = state.release, state.aliases.champion
        rules, trial, waiting, seen = release.rules, release.trial, list(release.waiting), release.champion
        actions: list[Action] = []
        if champion != seen:
            if trial is not None and trial.kind == "canary" and trial.version != champion:
                waiting.append(trial.version)
                moved = f"{champion} is the champion now"
                actions.append(Action(WHO, "canary.wait", moved, before=trial.told(), after=None))
            trial = None
            if seen is not None and state.promoted and rules.watch > 0:
                trial = self._trial("watch", champion, seen, rules.share, rules.watch)
        waiting = [name for name in waiting if name not in (champion, trial and trial.version)]
        by_hand = rules.pinned or rules.mode in (Mode.ask_first, Mode.at_once)
        if trial is None and waiting and not by_hand:
            newest = max(waiting, key=number_of)
            others = [name for name in waiting if name != newest]
            trial = self._trial("canary", newest, champion, rules.share, rules.canary)
            why = "accepted by the gate" + (f"; newer than {', '.join(others)}" if others else "")
            actions.append(Action(WHO, "canary.begin", why, before=others or None, after=trial.told()))
            waiting = []
        settled = replace(release, trial=trial, waiting=tuple(waiting), champion=champion)
        return _Change(settled, tuple(actions))

    def _trial(self, kind: Kind, version: str, baseline: str, share: float, seconds: float) -> Trial:
        now, place = time.time(), self._reader.cursor()
        return Trial(kind, version, baseline, share, now, now + seconds, now, place)

    def _change(self, change: Callable[[_State], _Change], lease: Lease | None = None) -> Release:
        """What `change` makes of the state, its audit entries and the gateways' notice, as one; done again
        where somebody else was quicker."""
        found: list[Release] = []

        def attempt(pipe: Pipeline) -> None:
            if lease is not None and str(pipe.get(LEASE)) != str(lease.token):
                raise LeaseLost(f"the lease on {lease.job_id} is lost; nothing was moved")
            before = self._read(pipe.hgetall(RELEASE))
            promoted = str(pipe.get(MOVED)) == PROMOTE
            after, actions = change(_State(aliases_of(pipe.hgetall(ALIASES)), before, promoted))
            found[:] = [after]
            pipe.multi()
            if after == before:
                return
            pipe.hset(RELEASE, mapping=_written(after))
            challenger = after.trial.version if after.trial and after.trial.kind == "canary" else ""
            pipe.hset(ALIASES, "challenger", challenger)
            for action in actions:
                pipe.xadd(AUDIT, {"body": action.to_json()})
            pipe.publish(CHANGED, "release")

        self._redis.transaction(attempt, RELEASE, ALIASES, LEASE)
        return found[0]

    def _read(self, stored: Mapping[Any, Any]) -> Release:
        kept = {str(name): orjson.loads(value) for name, value in stored.items()}
        own = _rules_of(kept.get("rules") or {})
        return Release(
            rules=replace(self._rules, **own),
            own=own,
            trial=_trial_of(kept["trial"]) if kept.get("trial") else None,
            waiting=tuple(kept.get("waiting") or ()),
            champion=kept.get("champion"),
        )


def _trial_of(kept: dict[str, Any]) -> Trial:
    """One that an older Thumbwheel began is of one share as yet."""
    known = {name: kept[name] for name in (each.name for each in fields(Trial)) if name in kept}
    return Trial(**{"since": kept["started"]} | known)


def _written(release: Release) -> Mapping[Any, Any]:
    return {
        "rules": orjson.dumps(release.own),
        "trial": orjson.dumps(release.trial),
        "waiting": orjson.dumps(release.waiting),
        "champion": orjson.dumps(release.champion),
    }


def _rules_of(kept: dict[str, Any]) -> dict[str, Any]:
    readers: dict[str, Callable[[Any], Any]] = {"mode": Mode, "undecided": Undecided}
    return {name: readers[name](value) if name in readers else value for name, value in kept.items()}
