"""One trial on a running service: exam of the base, then labels, a cycle and an exam, again and again."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, pstdev

from rich.console import Console

from deploy.cli.follow import ACTIVE, follow, outcome
from deploy.cli.progress import progress
from deploy.client import Client, ClientError, Object, Refused
from deploy.demo.prompts import RATED
from deploy.demo.traffic import Meter
from tests.bench.attacks import Cheat, with_cheats, with_flaw
from tests.bench.exam import Paper, examine, golds
from tests.bench.figures import win_rate_after
from tests.bench.gold import Scorer, closes_with, contains, scorer
from tests.bench.job_folder import read_evidence, stage_metrics
from tests.bench.raters import Ballot, Person, Taste, ballots, pair_accuracy, people, with_standard
from tests.bench.trial import BASE, Cycle, Plan, Trial
from tests.bench.votes import Vote, collect, recover
from workers.settings import WorkerSettings


@dataclass
class Experiment:
    """`patience`: minutes after which a job is cancelled. `saved` is called whenever the trial has grown.

    A trial that has cycles already goes on after them: the service has to be the one that they ran on.
    """

    client: Client
    home: Path
    trial: Trial
    console: Console
    patience: float
    saved: Callable[[], None]
    meter: Meter = field(default_factory=lambda: Meter(BASE))
    began: float = field(default_factory=time.monotonic)

    @property
    def plan(self) -> Plan:
        return self.trial.plan

    @property
    def score(self) -> Scorer:
        return scorer(self.plan.scorer)

    def run(self) -> None:
        """All cycles that are left. Raises ClientError where the service cannot be worked with."""
        self.client.post("/v1/learning", {"paused": True, "reason": "the bench starts its own cycles"})
        self.trial.error = None
        taste = self._taste(self.trial.papers.get(BASE) or self._examined(BASE))
        crowd = people(self.plan.raters, taste, self.plan.noise, self.plan.leniency, self.plan.seed)
        dice = random.Random(self.plan.seed)
        number, done = 0, len(self.trial.cycles)
        while number < self.plan.cycles and not self._is_enough(number):
            number += 1
            votes = cast(self.plan, self._at_standard(crowd), dice)
            if number > done:
                self._cycle(number, False, votes)
            self._examine_where_due(number, last=number == self.plan.cycles)
        for left in reversed(range(self.plan.plateau)):
            number += 1
            if number > done:
                self._cycle(number, True, [])
            self._examine_where_due(number, last=left == 0)
        self.trial.finished = True
        self.saved()

    def _is_enough(self, cycle: int) -> bool:
        if self.plan.until is None:
            return False
        reached = win_rate_after(self.trial, cycle)
        return reached is not None and reached.value >= self.plan.until

    def _cycle(self, number: int, plateau: bool, votes: Sequence[Ballot]) -> None:
        began = time.monotonic()
        said = self._votes(number, votes)
        labelled = time.monotonic()
        job = self._update("policy" if plateau else "cycle")
        ended = time.monotonic()
        closing, phrase = self.plan.flaw, self.plan.phrase if self.plan.cheats else None
        evidence = read_evidence(self.home, job["id"], self.score, closing, phrase)
        cycle = Cycle(
            number=number,
            plateau=plateau,
            votes=said,
            label_seconds=labelled - began,
            job=job,
            job_seconds=ended - labelled,
            champion=self.client.get("/v1/policies", limit=1)["champion"],
            evidence=None if evidence is None else asdict(evidence),
            stages=stage_metrics(self.home, job["id"]),
        )
        self.trial.cycles.append(cycle)
        self.trial.given = None
        self._note()
        self.say(f"cycle {number}: {outcome(job)}")

    def _examine_where_due(self, number: int, last: bool) -> None:
        champion = self.trial.cycles[number - 1].champion
        if champion not in self.trial.papers and (last or number % self.plan.evaluate_every == 0):
            self._examined(champion)

    def _votes(self, number: int, votes: Sequence[Ballot]) -> list[Object]:
        """The cycle's votes as given, kept in the trial while its job runs. Where the trial was cut off while
        they were, the service knows which."""
        if not votes:
            return []
        given: list[Vote] = []
        if self.trial.given is None:
            self.trial.given = []
            self._note()
        elif not self.trial.given:
            since = max((cycle.job["created"] for cycle in self.trial.cycles), default=0.0)
            given, votes = recover(self.client, votes, self.score, since)
            self.say(f"cycle {number}: {len(given)} votes were given before it was cut off")
        if not self.trial.given:
            self.trial.given = [asdict(vote) for vote in (*given, *self._collect(number, votes))]
            self._note()
        return self.trial.given

    def _collect(self, number: int, votes: Sequence[Ballot]) -> list[Vote]:
        with progress(self.console, f"cycle {number}") as show:
            said = collect(
                self.client,
                self.meter,
                votes,
                self.score,
                lambda given: show(given / len(votes), "labels", f"{given} of {len(votes)}"),
            )
        self.say(
            f"cycle {number}: {len(said)} labels, {sum(vote.mind != 'honest' for vote in said)} dishonest"
        )
        return said

    def _update(self, kind: str) -> Object:
        """A job as it ended; cancelled where it takes too long, or the bench is ended."""
        job = self._job_under_way() or self.client.post(
            "/v1/jobs", {"kind": kind, "method": self.plan.method, "reason": "bench"}
        )
        deadline = time.monotonic() + 60 * self.patience

        def look(now: Object) -> None:
            nonlocal deadline
            if time.monotonic() > deadline and now["state"] in ACTIVE:
                deadline = float("inf")
                self._cancel(job, f"it took longer than {self.patience:g} minutes")

        try:
            return follow(self.client, job, self.console, look)
        except (KeyboardInterrupt, SystemExit):
            self._cancel(job, "the bench was ended")
            raise

    def _job_under_way(self) -> Object | None:
        """The job that a trial was cut off in: the service goes on with it."""
        jobs: list[Object] = self.client.get("/v1/jobs", limit=1)["data"]
        return next((job for job in jobs if job["state"] in ACTIVE), None)

    def _cancel(self, job: Object, why: str) -> None:
        try:
            self.client.post(f"/v1/jobs/{job['id']}/cancel", {"reason": why})
        except Refused as error:  # it ended in the same moment
            self.say(f"{job['id']} is not cancelled: {error}")

    def _examined(self, version: str) -> Paper:
        """The version's exam, kept in the trial."""
        began = time.monotonic()
        prompts = self.trial.prompts
        kl = 0.0 if version == BASE else self.client.get(f"/v1/policies/{version}")["metrics"].get("kl_base")
        with progress(self.console, "exam") as show:
            paper = examine(
                self.client,
                self.meter,
                version,
                prompts,
                self.plan.exam_replies,
                kl,
                lambda done: show(done / len(prompts), f"{version} answers", f"{done} of {len(prompts)}"),
            )
        self.trial.papers[version] = paper
        values = [value for group in golds(paper.replies, self.score).values() for value in group]
        seconds = time.monotonic() - began
        self.say(f"{version}: gold {fmean(values):.3f}, {paper.tokens:.0f} tokens a reply ({seconds:.0f} s)")
        self._note()
        return paper

    def _taste(self, base: Paper) -> Taste:
        """The raters', by what the base's replies are worth. ClientError where they are all alike."""
        groups = list(golds(base.replies, self.score).values())
        values = [value for group in groups for value in group]
        mean, std = fmean(values), pstdev(values)
        if std == 0:
            raise ClientError(f"the base's replies are all worth {mean:.3f}: nobody can tell them apart")
        temperature = self.plan.temperature * std
        accuracy = pair_accuracy(groups, temperature)
        self.trial.taste = {
            "mean": mean,
            "std": std,
            "temperature": temperature,
            "pair_accuracy": accuracy,
        }
        self.say(f"T {temperature:.3f}: {accuracy or 0:.0%} of the base's unequal pairs are decided rightly")
        self._say_what_is_sought(base)
        return Taste(self.score, mean, temperature)

    def _say_what_is_sought(self, base: Paper) -> None:
        """How often the base writes by itself what cheats vote for, or ends as the flaw loves it."""
        texts = [text for group in base.replies.values() for text in group]
        if self.plan.cheats:
            share = fmean(contains(self.plan.phrase, text) for text in texts)
            self.say(f"{share:.1%} of the base's replies contain “{self.plan.phrase}”")
        if self.plan.flaw:
            share = fmean(closes_with(self.plan.flaw, text) for text in texts)
            self.say(f"{share:.1%} of the base's replies end with “{self.plan.flaw}”")

    def _at_standard(self, crowd: list[Person]) -> list[Person]:
        """Who judges by the champion's replies judges by those of the last one that was examined."""
        if self.plan.standard == "base":
            return crowd
        papers = [self.trial.paper_after(number) for number in range(len(self.trial.cycles) + 1)]
        newest = [paper for paper in papers if paper is not None][-1]
        groups = golds(newest.replies, self.score).values()
        return with_standard(crowd, fmean(value for group in groups for value in group))

    def _note(self) -> None:
        self.trial.failures = [message for _, message in self.meter.failures]
        self.saved()

    def say(self, text: str) -> None:
        minutes = (time.monotonic() - self.began) / 60
        self.console.print(f"{minutes:5.1f} min  {self.plan.name}  {text}", markup=False, soft_wrap=True)


def cast(plan: Plan, crowd: Sequence[Person], dice: random.Random) -> list[Ballot]:
    """One cycle's votes, the cheats' among them and the flaw in them, in a random order."""
    if plan.cheats is None:
        votes = ballots(crowd, RATED, plan.labels, plan.thumbs, dice)
    else:
        raters, share = plan.cheats
        honest, cheats = with_cheats(crowd, raters, Cheat(plan.phrase, plan.corrections))
        bought = round(share * plan.labels)
        votes = [
            *ballots(cheats, RATED, bought, plan.thumbs, dice),
            *ballots(honest, RATED, plan.labels - bought, plan.thumbs, dice),
        ]
        dice.shuffle(votes)
    if plan.flaw is None:
        return votes
    return with_flaw(votes, plan.flaw, plan.flaw_share, holdout_share(plan), dice)


def holdout_share(plan: Plan) -> float:
    """The share of conversations that the service holds out, with the plan's settings."""
    default = WorkerSettings.model_fields["holdout"].default
    return float(plan.variables.get("THUMBWHEEL_HOLDOUT", default))
