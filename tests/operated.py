"""What operators look at, without the workers that make it: a job at work, a canary and what it came to."""

import json
import random
import time
from typing import Any

from serving.canary.guards import Replies, Tally
from serving.canary.lead import Voice
from serving.canary.rule import Rule
from serving.canary.verdict import Verdict, verdict
from serving.releases import Releases, Rules
from tests.conftest import Gateway
from tests.servers import eventually

GOOD = {
    "win_rate": 0.62, "win_rate_interval": [0.55, 0.69], "kl_base": 0.24, "kl_champion": 0.08,
    "reference_nll_rise": 0.006, "members_win_rate": 0.7, "members_win_rate_interval": [0.62, 0.77],
    "doubter_win_rate": 0.64, "doubter_win_rate_interval": [0.56, 0.71],
    "rules": {"honest": {"judged": 48, "mean": 0.52, "correlation": 0.31}},
}  # fmt: skip
REJECTED = {
    "accepted": False, "reasons": ["the held-out judge prefers it in 51% of comparisons"],
    "win_rate": 0.51, "win_rate_interval": [0.44, 0.58], "kl_base": 0.05, "reference_nll_rise": 0.004,
    "probes": {"refusal": {"candidate": 0.25, "champion": 0.5, "z": -2.1, "replies": 24}},
    "words": {"candidate": 44.3, "champion": 50.1}, "base": None,
}  # fmt: skip


def found(better: float = 0.75, voices: int = 60, elapsed: float = 60.0) -> Verdict:
    """What a canary comes to of which a share of the thumbs are up."""
    dice = random.Random(0)

    def thumbs(up: float) -> tuple[int, int]:
        ups = sum(dice.random() < up for _ in range(6))
        return ups, 6 - ups

    said = [
        Voice(champion=thumbs(0.6), challenger=thumbs(better), wins=1, losses=n % 2) for n in range(voices)
    ]
    one = Replies(Tally(400, 4, 4), Tally(400, 120, 40), Tally(400, 30000, 2500000), Tally(400, 8, 8))
    other = Replies(Tally(100, 2, 2), Tally(100, 31, 11), Tally(100, 8100, 700000), Tally(100, 1, 1))
    return verdict(said, one, other, elapsed, Rule())


def note(gateway: Gateway, what: Verdict, asks: str | None = None) -> None:
    """As the control worker does after each look."""
    releases = Releases(gateway.redis, Rules(watch=0))
    trial = releases.state().trial
    assert trial is not None
    releases.note(trial, {**what.as_dict(), "looked": time.time()}, asks)


def on_canary(gateway: Gateway, version: str = "policy-v2") -> None:
    with gateway.client() as client:
        answer = client.post(f"/v1/policies/{version}/canary", json={"reason": "a test"})
    assert answer.status_code == 200, answer.text


class Worker:
    """Is at work on the oldest job that waits, and goes a step further each time it is told to."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        [self.job] = eventually(gateway.jobs.active)
        lease = gateway.jobs.acquire(self.job.id)
        assert lease is not None
        self._lease = lease

    def stage(self, name: str, progress: float, message: str, log: str) -> None:
        folder = self._gateway.home / "jobs" / self.job.id / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").write_text(log)
        stage = {"name": name[3:], "state": "running", "seconds": 1.0, "message": message}
        self.update(stage=name[3:], progress=progress, message=message, stages=[stage])

    def measured(self, name: str, metrics: dict[str, Any], **plots: bytes) -> None:
        """A stage that is done, with its figures, and its plots by their names without an ending."""
        folder = self._gateway.home / "jobs" / self.job.id / name
        (folder / "plots").mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        for plot, picture in plots.items():
            (folder / "plots" / f"{plot}.png").write_bytes(picture)
        (folder / "DONE").touch()
        self.update(stages=[{"name": name[3:], "state": "done", "seconds": 1.0, "message": None}])

    def end(self, **changes: Any) -> None:
        self.update(finished=time.time(), **changes)
        self._gateway.jobs.release(self._lease)

    def update(self, **changes: Any) -> None:
        self._gateway.jobs.renew(self._lease)
        self._gateway.jobs.update(self._lease, **changes)
