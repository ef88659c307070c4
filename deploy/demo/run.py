"""`thumbwheel demo`: simulated raters teach the model their taste, through the public HTTP API alone.

    policy-v0's exam → labels → cycle → labels → cycle … → exam of every version that was published

Background chats go on all the while. An automatic update would start in the midst of labelling, so automatic
learning is paused, and set back at the end. So are canaries: what the gate accepts is promoted at once.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

from deploy.cli.follow import ACTIVE, follow, outcome
from deploy.cli.progress import progress
from deploy.client import Client, ClientError, Object, Refused
from deploy.demo.exam import BASE, Paper, examine, win_rate
from deploy.demo.prompts import EXAMINED, RATED
from deploy.demo.raters import Raters
from deploy.demo.report import Report, Row
from deploy.demo.taste import DESCRIPTION
from deploy.demo.traffic import Background, Meter

SLOWER = 1.25  # a version's exam against policy-v0's: adapters are slower to serve


@dataclass(frozen=True)
class Plan:
    cycles: int = 2
    minutes: float = 15.0
    labels: int = 160
    method: str | None = None
    seed: int = 0


@dataclass
class Demo:
    """One run of it: what is there to work with, and what came of it so far."""

    client: Client
    console: Console
    plan: Plan
    meter: Meter
    began: float = field(default_factory=time.monotonic)
    exam_seconds: float = 0.0
    published: dict[str, float] = field(default_factory=dict)  # version → minutes
    cycles: list[Object] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.began) / 60

    @property
    def seconds_left(self) -> float:
        """For labels and updates; what the last exams need is taken off."""
        return (self.plan.minutes - self.minutes) * 60 - self.seconds_for_exams

    @property
    def seconds_for_exams(self) -> float:
        """Of each version that was published, and of the one that comes next."""
        return SLOWER * self.exam_seconds * (len(self.published) + 1)

    def say(self, text: str) -> None:
        self.console.print(f"{self.minutes:4.1f} min  {text}", markup=False, soft_wrap=True)

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.say(text)

    def exam(self, version: str) -> Paper:
        began = time.monotonic()
        with progress(self.console, "exam") as show:
            paper = examine(
                self.client,
                self.meter,
                version,
                EXAMINED,
                lambda done: show(done / len(EXAMINED), f"{version} answers", f"{done} of {len(EXAMINED)}"),
            )
        if not paper.replies:
            raise ClientError(f"{version} answered nothing: {self.meter.failures[-1][1]}")
        self.exam_seconds = max(self.exam_seconds, time.monotonic() - began)
        return paper

    def label(self, raters: Raters) -> int:
        labels = self.plan.labels
        with progress(self.console, "labels") as show:
            return raters.label(
                RATED, labels, lambda given: show(given / labels, "raters chat", f"{given} of {labels} given")
            )

    def update(self) -> Object:
        """Run one cycle to its end, or until the time is up."""
        job = self.client.post("/v1/jobs", {"kind": "cycle", "method": self.plan.method, "reason": "demo"})
        try:
            return follow(self.client, job, self.console, self._stop_in_time())
        except KeyboardInterrupt:
            self.client.post(f"/v1/jobs/{job['id']}/cancel", {"reason": "the demo was interrupted"})
            raise

    def _stop_in_time(self) -> Callable[[Object], None]:
        asked = False

        def look(job: Object) -> None:
            nonlocal asked
            if asked or self.seconds_left > 0 or job["state"] not in ACTIVE:
                return
            asked = True
            try:
                self.client.post(f"/v1/jobs/{job['id']}/cancel", {"reason": "the demo's time is up"})
                self.note(f"The time is up: {job['id']} is cancelled.")
            except Refused:
                self.say(f"The time is up, and {job['id']} just ended.")

        return look


def run_demo(client: Client, console: Console, plan: Plan) -> Report:
    """Let it learn, and measure it. Raises ClientError where the service cannot be worked with."""
    demo = Demo(client, console, plan, Meter(client.get("/v1/policies", limit=1)["champion"]))
    demo.say(f"The raters' taste: {DESCRIPTION}.")
    demo.say(f"{demo.meter.champion} answers. {plan.cycles} cycles in at most {plan.minutes:g} minutes.")
    with (
        _learning_paused(demo),
        _promoted_at_once(demo),
        Background(client, demo.meter, RATED, plan.seed) as background,
    ):
        base = demo.exam(BASE)
        demo.say(f"{BASE}: taste {base.mean_taste:.3f}, {base.mean_words:.0f} words a reply.")
        _learn(demo)
        champion = client.get("/v1/policies", limit=1)["champion"]
        papers = [demo.exam(version) for version in _to_examine(demo, champion)]
    return _report(demo, champion, base, papers, background)


def _learn(demo: Demo) -> None:
    """Labels and cycles, as many as were asked for and as there is time for."""
    raters = Raters(demo.client, demo.meter, demo.plan.seed)
    rating = updating = 0.0  # seconds that the last cycle took for each
    for number in range(1, demo.plan.cycles + 1):
        if demo.seconds_left < rating + updating:
            demo.note(_too_late(demo, number, rating, updating))
            return
        began = time.monotonic()
        given = demo.label(raters)
        demo.say(f"Cycle {number}: {given} labels are given.")
        rated = time.monotonic()
        job = demo.update()
        rating, updating = rated - began, time.monotonic() - rated
        demo.cycles.append({**_summary(job), "labels": given, "seconds": round(rating + updating, 1)})
        demo.say(f"Cycle {number}: {outcome(job)}")
        if job["state"] != "done" or job["policy"] is None:
            demo.notes.append(f"Cycle {number} published no policy: {outcome(job)}")
        else:
            demo.published[job["policy"]] = demo.minutes


def _too_late(demo: Demo, number: int, rating: float, updating: float) -> str:
    """Ratings and update both have to fit, and then the exams of what was published."""
    minutes = [f"{seconds / 60:.1f} min" for seconds in (rating + updating, rating, updating)]
    left, kept = max(0.0, demo.seconds_left) / 60, demo.seconds_for_exams / 60
    return (
        f"No time is left for cycle {number}. The last one took {minutes[0]}, ratings {minutes[1]} and "
        f"update {minutes[2]}; {left + kept:.1f} min are left, of which the last exams need {kept:.1f}. "
        "--minutes gives more."
    )


def _to_examine(demo: Demo, champion: str) -> list[str]:
    versions = dict.fromkeys([*demo.published, champion])
    return [version for version in versions if version != BASE]


@contextmanager
def _learning_paused(demo: Demo) -> Iterator[None]:
    if demo.client.get("/v1/learning")["paused"]:
        yield
        return
    demo.client.post("/v1/learning", {"paused": True, "reason": "the demo starts its own cycles"})
    demo.say("Automatic updates are paused meanwhile.")
    try:
        yield
    finally:
        demo.client.post("/v1/learning", {"paused": False, "reason": "the demo is over"})
        demo.say("Automatic updates are on again.")


@contextmanager
def _promoted_at_once(demo: Demo) -> Iterator[None]:
    """A canary waits for the ratings of many people, which nobody gives here."""
    rules = demo.client.get("/v1/release")["rules"]
    before = {name: rules[name] for name in ("mode", "watch")}
    reason = "the demo examines each version itself"
    demo.client.post("/v1/release", {"mode": "at_once", "watch": 0, "reason": reason})
    try:
        yield
    finally:
        demo.client.post("/v1/release", {**before, "reason": "the demo is over"})


def _summary(job: Object) -> Object:
    kept = ("id", "state", "reason", "reward", "policy", "stages")
    return {name: job[name] for name in kept}


def _report(demo: Demo, champion: str, base: Paper, papers: list[Paper], background: Background) -> Report:
    failed_as = [version for version, _ in demo.meter.failures]

    def row(paper: Paper) -> Row:
        rate, bounds = (None, None) if paper is base else win_rate(paper, base)
        return Row(
            version=paper.version,
            taste=paper.mean_taste,
            words=paper.mean_words,
            win_rate=rate,
            win_rate_interval=bounds,
            minutes=demo.published.get(paper.version, 0.0),
            answered=demo.meter.replies[paper.version],
            failed=failed_as.count(paper.version),
        )

    return Report(
        rows=[row(paper) for paper in (base, *papers)],
        champion=champion,
        prompts=len(EXAMINED),
        minutes=demo.minutes,
        requests=demo.meter.requests,
        failures=[message for _, message in demo.meter.failures],
        background_chats=background.chats,
        longest_gap=background.longest_gap,
        cycles=demo.cycles,
        notes=demo.notes,
    )
