"""The verdict on what is on trial, and what follows from it. Light; on the `control` queue."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from redis import Redis

from serving.canary.guards import Replies, tally_of
from serving.canary.rule import Rule
from serving.canary.verdict import Outcome, Verdict, verdict
from serving.errors import Conflict
from serving.modes import Mode, Undecided
from serving.registry import Registry
from serving.releases import WHO, Release, Releases, Trial
from serving.served import Sums, read_served
from workers.settings import WorkerSettings
from workers.voices import Voices

log = logging.getLogger(__name__)


class Releasing:
    def __init__(self, redis: Redis, settings: WorkerSettings) -> None:
        self._redis = redis
        self._registry = Registry(redis, settings.home)
        self._releases = Releases(redis, settings.release_rules)
        self._heard: tuple[str, Voices] | None = None

    def check(self) -> Release:
        """Look at the trial, and act where it is decided. Whoever moved the champion, ended the trial or
        changed the rules while it was looked at was first."""
        release = self._releases.settle()
        if release.trial is None:
            self._heard = None
            return release
        found = self._verdict(release.trial)
        try:
            decide = self._canary if release.trial.kind == "canary" else self._watch
            decide(release, release.trial, found)
        except Conflict as error:
            log.info("%s: %s", release.trial.version, error)
        return self._releases.settle()

    def _canary(self, release: Release, trial: Trial, found: Verdict) -> None:
        """Once it has asked an operator only harm is acted on. What nobody has had a reply of is not
        promoted, whatever is stated: no engine may be able to serve it."""
        rules, outcome = release.rules, found.outcome
        unasked = rules.mode in (Mode.auto, Mode.at_once)
        stated = rules.undecided if outcome is Outcome.inconclusive else None
        may_move = trial.asks is None and not rules.pinned
        better = outcome is Outcome.successful or (stated is Undecided.promote and self._seen(trial))
        promote = may_move and unasked and better
        harm = outcome is Outcome.failed and not rules.pinned
        fail = harm or (may_move and stated is Undecided.abort)
        ended = outcome in (Outcome.successful, Outcome.inconclusive)
        asks = found.reason if may_move and ended and not promote and not fail else None
        if not self._note(release, found, asks):
            return
        if promote:
            self._registry.promote(trial.version, who=WHO, why=found.reason, instead_of=trial.baseline)
        elif fail:
            self._releases.end(WHO, found.reason, trial, "fail")

    def _watch(self, release: Release, trial: Trial, found: Verdict) -> None:
        if not self._note(release, found) or release.rules.pinned:
            return
        if found.outcome is Outcome.failed:
            self._registry.roll_back(trial.baseline, who=WHO, why=found.reason, instead_of=trial.version)
        elif time.time() >= trial.ends:
            self._releases.end(WHO, "nothing spoke against it", trial, "end")

    def _seen(self, trial: Trial) -> bool:
        return self._replies(trial, trial.version).length.n > 0

    def _verdict(self, trial: Trial) -> Verdict:
        if self._heard is None or self._heard[0] != trial.account:
            self._heard = (trial.account, Voices(self._redis, trial))
        return verdict(
            self._heard[1].read(),
            champion=self._replies(trial, trial.baseline),
            challenger=self._replies(trial, trial.version),
            elapsed=time.time() - trial.started,
            rule=Rule(deadline=trial.ends - trial.started),
        )

    def _replies(self, trial: Trial, version: str) -> Replies:
        return replies_of(read_served(self._redis, trial.account, version))

    def _note(self, release: Release, found: Verdict, asks: str | None = None) -> bool:
        """Keep what was found. Whether it may be acted on: the trial is still on, and by the same rules."""
        evidence: dict[str, Any] = {**found.as_dict(), "looked": time.time()}
        assert release.trial is not None
        now = self._releases.note(release.trial, evidence, asks)
        still = now.trial is not None and now.trial.account == release.trial.account
        return still and now.rules == release.rules


def replies_of(groups: Sequence[Sums]) -> Replies:
    """The guards' figures of a version, from its sums."""
    return Replies(
        broken=tally_of([(sums.replies, sums.broken, sums.broken) for sums in groups]),
        first_token=tally_of([(sums.seen, sums.first_token, sums.first_token_2) for sums in groups]),
        length=tally_of([(sums.whole, sums.tokens, sums.tokens_2) for sums in groups]),
        refused=tally_of([(sums.whole, sums.refused, sums.refused) for sums in groups]),
    )
