"""The whole bench on a real gateway, with a fake engine and a fake worker."""

import argparse
import json
import random
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from statistics import fmean

import pytest
from rich.console import Console
from starlette.requests import Request
from starlette.responses import Response

from deploy.client import Client, ClientError
from deploy.demo.prompts import EXAMINED, RATED
from deploy.demo.traffic import Meter
from serving.registry import Version
from tests.bench import learning
from tests.bench.attacks import Flawed
from tests.bench.exam import examine
from tests.bench.experiment import Experiment
from tests.bench.figures import win_rate_after
from tests.bench.gold import length_band, scorer
from tests.bench.options import arguments, plans_of, variable
from tests.bench.raters import Ballot, people
from tests.bench.trial import BASE, Plan, Trial
from tests.bench.votes import collect
from tests.conftest import EngineServer, Gateway
from tests.fake_engine import FakeEngine
from workers.settings import WorkerSettings

SHORT, GOOD = "Six words are not enough here.", "word " * 29 + "end."
replies: ContextVar[tuple[str, ...]] = ContextVar("replies")


class Learner(FakeEngine):
    """Answers well now and then as the base, and always as an adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = random.Random(0)

    @property
    def reply(self) -> str:
        return self.dice.choice(replies.get())

    @reply.setter
    def reply(self, value: str) -> None:
        self._unused = value

    async def _chat(self, request: Request) -> Response:
        replies.set((SHORT, SHORT, GOOD) if (await request.json())["model"] == BASE else (GOOD,))
        return await super()._chat(request)


class FakeWorker:
    """Takes jobs as a worker does: the first one publishes a version, later candidates are rejected."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.kinds: list[str] = []
        self.labels: list[int] = []
        self.methods: list[str | None] = []
        self.hangs = False
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.05):
            for job in self.gateway.jobs.active():
                self._work(job.id, str(job.kind))

    def _work(self, job_id: str, kind: str) -> None:
        jobs = self.gateway.jobs
        lease = jobs.acquire(job_id)
        assert lease is not None
        self.kinds.append(kind)
        self.methods.append(jobs.get(job_id).params.get("method"))
        with self.gateway.client() as client:
            self.labels.append(client.get("/v1/stats/policies").json()["labels"])
        while self.hangs and not jobs.cancel_requested(job_id):
            time.sleep(0.02)
        if jobs.cancel_requested(job_id):
            jobs.update(lease, state="cancelled", finished=time.time())
        else:
            stages = [{"name": "evaluate", "state": "done", "seconds": 2.0, "message": None}]
            jobs.update(lease, state="done", progress=1.0, stages=stages, **self._outcome(job_id, lease))
        jobs.release(lease)

    def _outcome(self, job_id: str, lease) -> dict:
        accepted = len(self.kinds) == 1
        metrics = {"win_rate": 0.7, "win_rate_interval": [0.6, 0.8], "kl_base": 0.09}
        folder = self.gateway.home / "jobs" / job_id / "07-evaluate"
        folder.mkdir(parents=True)
        rows = [{"messages": [n], "reply": text} for text in (GOOD, SHORT) for n in range(4)]
        (folder / "replies.json").write_text(json.dumps(rows))
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "DONE").touch()
        if not accepted:
            return {"reason": "The gate rejected the candidate."}
        path = "artifacts/policies/policy-v1"
        (self.gateway.home / path).mkdir(parents=True)
        (self.gateway.home / path / "adapter_config.json").write_text("{}")
        registry = self.gateway.registry
        registry.add_policy(Version("policy-v1", path, time.time(), parent=BASE, metrics=metrics), lease)
        registry.promote("policy-v1", who=job_id, why="accepted", lease=lease)
        return {"policy": "policy-v1"}


@pytest.fixture
def engine(engine_server: EngineServer) -> FakeEngine:
    engine_server.current = Learner()
    return engine_server.current


@pytest.fixture
def worker(gateway: Gateway) -> Iterator[FakeWorker]:
    worker = FakeWorker(gateway)
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield worker
    worker.stop.set()
    thread.join()


@pytest.fixture
def api(gateway: Gateway) -> Iterator[Client]:
    with Client(gateway.url, gateway.operator_key) as client:
        yield client


def options(*words: str) -> argparse.Namespace:
    return arguments(None).parse_args(words)


def experiment(api: Client, home: Path, plan: Plan, patience: float = 1.0) -> tuple[Experiment, list[int]]:
    trial, saved = Trial(plan, list(EXAMINED[: plan.exam_prompts])), []
    console = Console(record=True, force_terminal=False, width=200)
    return Experiment(api, home, trial, console, patience, lambda: saved.append(len(trial.cycles))), saved


SMALL = Plan("length", cycles=2, plateau=1, labels=20, exam_prompts=12)


@pytest.mark.slow
def test_a_trial_from_labels_to_figures(api, gateway, worker, tmp_path):
    bench, saved = experiment(api, gateway.home, SMALL)
    bench.run()
    trial = bench.trial
    assert trial.finished
    assert saved == [0, 0, 0, 1, 1, 1, 1, 2, 3, 3], "after exams, around votes, after cycles, at the end"
    assert worker.kinds == ["cycle", "cycle", "policy"]
    assert worker.labels == [20, 40, 40], "the plateau gives no labels"
    assert [cycle.champion for cycle in trial.cycles] == ["policy-v1"] * 3
    assert list(trial.papers) == [BASE, "policy-v1"], "one exam a version"
    assert trial.papers["policy-v1"].kl_base == 0.09
    assert trial.papers["policy-v1"].tokens == 2.5  # 5 for two replies, says the fake engine
    assert trial.taste["temperature"] == pytest.approx(trial.taste["std"] / 2)
    assert trial.cycles[0].evidence["gold"]["value"] == 1.0
    assert trial.cycles[0].stages["07-evaluate"]["kl_base"] == 0.09
    assert [vote["mind"] for vote in trial.cycles[0].votes] == ["honest"] * 20
    assert {vote["policy"] for vote in trial.cycles[1].votes} == {"policy-v1"}
    learning.draw(trial, tmp_path)
    text = (tmp_path / "length-plateau1-seed0.txt").read_text()
    assert "cycle 3: The gate rejected the candidate." in text
    assert api.get("/v1/learning")["paused"] is True


def test_noise_and_method_reach_the_raters_and_the_job(api, gateway, worker):
    plan = Plan(
        "length", cycles=1, labels=24, thumbs=1.0, exam_prompts=6, noise=1.0, leniency=0.0, method="rloo"
    )
    bench, _ = experiment(api, gateway.home, plan)
    bench.run()
    assert worker.methods == ["rloo"]
    votes = [(vote["gold"][0] == 1.0, vote["said"]) for vote in bench.trial.cycles[0].votes]
    assert votes.count((True, "down")) > votes.count((True, "up")), "all are turned round"
    assert votes.count((False, "up")) > votes.count((False, "down"))


@pytest.mark.slow
def test_labels_end_where_the_win_rate_is_reached(api, gateway, worker):
    plan = Plan("length", cycles=4, plateau=1, labels=20, exam_prompts=12, until=0.6)
    bench, _ = experiment(api, gateway.home, plan)
    bench.run()
    assert win_rate_after(bench.trial, 1).value >= 0.6
    assert worker.kinds == ["cycle", "policy"]
    assert bench.trial.finished
    bench, _ = experiment(api, gateway.home, Plan("length", cycles=2, labels=20, exam_prompts=12, until=1.1))
    bench.run()
    assert [cycle.plateau for cycle in bench.trial.cycles] == [False, False], "never reached"


@pytest.mark.slow
def test_a_trial_that_was_cut_off_goes_on_where_it_was(api, gateway, worker):
    whole, _ = experiment(api, gateway.home, SMALL)
    whole.run()
    cut = Trial.from_dict(json.loads(json.dumps(whole.trial.as_dict())))
    left = cut.cycles[1:]
    cut.cycles, cut.finished, cut.error = cut.cycles[:1], False, "ended from outside"
    cut.given = left[0].votes  # cut off in the second cycle's job, which the service goes on with
    under_way = api.post("/v1/jobs", {"kind": "cycle", "reason": "bench"})["id"]
    bench, _ = experiment(api, gateway.home, SMALL)
    bench.trial = cut
    bench.run()
    assert (cut.finished, cut.error, cut.given) == (True, None, None)
    assert [cycle.job["id"] == under_way for cycle in cut.cycles] == [False, True, False]
    assert cut.cycles[1].votes == left[0].votes
    assert worker.kinds[3:] == ["cycle", "policy"]
    assert worker.labels[3:] == [40, 40], "no vote is given twice"


def test_a_trial_that_goes_on_asks_who_would_have_been_asked(api, gateway, worker):
    plan = Plan("length", cycles=2, labels=12, exam_prompts=6)
    bench, _ = experiment(api, gateway.home, plan)
    bench.run()
    asked = [vote["rater"] for vote in bench.trial.cycles[1].votes]
    del bench.trial.cycles[1:]
    bench.run()
    assert [vote["rater"] for vote in bench.trial.cycles[1].votes] == asked


def test_a_trial_that_was_cut_off_among_votes_gives_the_rest(api, gateway, worker, monkeypatch):
    plan, calls = Plan("length", cycles=2, labels=16, exam_prompts=6), []

    def cut_off(client, meter, votes, score, done):
        calls.append([(vote.rater, vote.blind) for vote in votes])
        given = collect(client, meter, votes if len(calls) == 1 else votes[3:10], score, done)
        if len(calls) == 2:
            raise SystemExit
        return given

    bench, _ = experiment(api, gateway.home, plan)
    with monkeypatch.context() as patched:
        patched.setattr("tests.bench.experiment.collect", cut_off)
        with pytest.raises(SystemExit):
            bench.run()
    assert (len(bench.trial.cycles), bench.trial.given) == (1, [])
    assert api.get("/v1/stats/policies")["labels"] == 16 + 7
    bench.run()
    assert worker.labels == [16, 32], "no vote is given twice, and none is lost"
    votes = bench.trial.cycles[1].votes
    assert sorted((vote["rater"], len(vote["gold"]) == 2) for vote in votes) == sorted(calls[1])
    assert {vote["policy"] for vote in votes} == {"policy-v1"}
    assert {vote["said"] for vote in votes} <= {"up", "down", "tie"}, "its replies are all alike"


def test_what_is_resumed_has_to_be_what_was_planned(tmp_path, capsys):
    args = options("--out", str(tmp_path), "--homes", str(tmp_path), "--resume")
    Trial(Plan("length", cycles=3), list(EXAMINED)).write(tmp_path)
    learning.attempt(Plan("length", cycles=4), args, tmp_path, Console())
    assert "planned otherwise" in capsys.readouterr().out


@pytest.mark.slow
def test_the_service_is_told_neither_scores_nor_exams(api, gateway, worker):
    bench, _ = experiment(api, gateway.home, SMALL)
    bench.run()
    chats = [request for request in gateway.engine.requests if request["messages"][0]["content"] in RATED]
    assert {key for request in chats for key in request} <= {"messages", "model", "user", "max_tokens"}
    kept = [key for key in gateway.redis.scan_iter(count=1000) if gateway.redis.type(key) == "hash"]
    stored = "".join(str(gateway.redis.hgetall(key)) for key in kept)
    assert any(prompt in stored for prompt in RATED)
    assert not [prompt for prompt in EXAMINED if prompt in stored]


def test_a_job_that_takes_too_long_is_cancelled(api, gateway, worker):
    worker.hangs = True
    bench, _ = experiment(
        api, gateway.home, Plan("length", cycles=1, labels=4, exam_prompts=6), patience=0.01
    )
    bench.run()
    (cycle,) = bench.trial.cycles
    assert cycle.job["state"] == "cancelled"
    assert "longer than 0.01 minutes" in cycle.job["reason"]
    assert cycle.evidence is None


@pytest.mark.slow
def test_raters_may_judge_by_the_champion(api, gateway, worker):
    plan = Plan(
        "length", cycles=2, labels=40, thumbs=1.0, exam_prompts=6, standard="champion", cheats=(0.1, 0.1)
    )
    bench, _ = experiment(api, gateway.home, plan)
    bench.run()
    (votes,) = [cycle.votes for cycle in bench.trial.cycles if cycle.number == 2]
    honest = [vote["said"] == "up" for vote in votes if vote["mind"] == "honest"]
    assert len(honest) == 36
    assert 0.2 < fmean(honest) < 0.8, "all are as good as the champion's mean, and far better than the base's"
    assert "0.0% of the base's replies contain “however”" in bench.console.export_text()


def test_what_failed_at_the_start_is_drawn_too(tmp_path):
    learning.draw(Trial(Plan("length"), list(EXAMINED), error="no stack"), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_replies_that_are_all_alike_are_refused(api, gateway):
    bench, _ = experiment(api, gateway.home, Plan("phrase:zebra", exam_prompts=4))
    with pytest.raises(ClientError, match="nobody can tell them apart"):
        bench.run()


def test_votes_reach_the_reply_that_was_picked(api, gateway):
    class LoversOfTheThird(Flawed):
        def pick(self, replies):
            return 2

    votes = [Ballot(RATED[n], f"rater-{n}", LoversOfTheThird("?"), False, random.Random(n)) for n in range(4)]
    said = collect(api, Meter(BASE), votes, length_band, lambda given: None)
    assert [(vote.said, vote.corrected) for vote in said] == [("down", True)] * 4
    events = str([gateway.redis.xrange(key) for key in gateway.redis.scan_iter() if "events" in key])
    assert events.count("-2") >= 4
    assert api.get("/v1/stats/policies")["data"][0]["down"] == 4


def test_raters_give_up_where_most_requests_fail(api, gateway):
    gateway.engine.status = 400
    meter = Meter(BASE)
    crowd = people(3, None, 0.0, 0.0, 0)
    votes = [Ballot("Hi", crowd[0].name, crowd[0].mind, False, random.Random(0))] * 10
    with pytest.raises(ClientError, match="as the test asked for"):
        collect(api, meter, votes, length_band, lambda given: None)
    with pytest.raises(ClientError, match="answered nothing in its exam"):
        examine(api, meter, BASE, ["Hi"], 2, 0.0, lambda done: None)


@pytest.mark.slow
def test_one_trial_that_fails_does_not_stop_the_others(gateway, worker, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THUMBWHEEL_OPERATOR_KEY", gateway.operator_key)
    monkeypatch.setattr(learning, "find_url", lambda home: gateway.url)
    args = options("--out", str(tmp_path), "--stack", str(gateway.home))
    for plan in (Plan("phrase:zebra", exam_prompts=4), Plan("length", cycles=1, labels=4, exam_prompts=4)):
        learning.attempt(plan, args, tmp_path, Console())
    failed = Trial.read(tmp_path / "phrase-zebra-seed0.json")
    assert "nobody can tell them apart" in failed.error
    assert list(failed.papers) == [BASE]
    whole = Trial.read(tmp_path / "length-seed0.json")
    assert (whole.finished, whole.error, len(whole.cycles)) == (True, None, 1)
    capsys.readouterr()
    learning.attempt(plan, args, tmp_path, Console())
    assert "is there already" in capsys.readouterr().out


def test_options_make_a_plan_for_each_scorer_and_seed():
    plans = plans_of(options("--scorer", "length", "format", "--seeds", "1", "2", "--noise", "0.25"))
    assert [(plan.scorer, plan.seed) for plan in plans] == [
        ("length", 1),
        ("length", 2),
        ("format", 1),
        ("format", 2),
    ]
    assert {plan.noise for plan in plans} == {0.25}
    (attacked,) = plans_of(options("--cheats", "--no-caps"))
    assert (attacked.cheats, attacked.caps, attacked.flaw) == ((0.05, 0.3), False, None)
    (flawed,) = plans_of(options("--flaw", "--settings", "policy_k=8", "THUMBWHEEL_SEED=7"))
    assert flawed.flaw == "?"
    assert learning.variables_of(flawed) == {"THUMBWHEEL_SEED": "7", "THUMBWHEEL_POLICY_K": "8"}
    assert variable("model=a=b") == ("THUMBWHEEL_MODEL", "a=b")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--scorer", "nonsense"], "no gold scorer"),
        (["--cheats", "--flaw"], "one of them"),
        (["--cheats", "0.1"], "two shares"),
        (["--stack", "home", "--seeds", "0", "1"], "one scorer and one seed"),
        (["--stack", "home", "--no-caps"], "stack of its own"),
        (["--settings", "nonsense"], "KEY=VALUE"),
        (["--resume"], "--homes"),
        (["--resume", "--again", "--homes", "homes"], "give one of them"),
    ],
)
def test_options_that_do_not_fit_are_refused(words, why):
    with pytest.raises(ValueError, match=why):
        plans_of(options(*words))


def test_what_takes_the_caps_away_are_settings():
    known = {f"THUMBWHEEL_{name.upper()}" for name in WorkerSettings.model_fields}
    assert set(learning.variables_of(Plan("length", caps=False))) <= known
    assert set(learning.NO_CAPS)


def test_homes_share_the_base_model(tmp_path):
    first, second = (learning.fresh_home(tmp_path, name) for name in ("a", "b"))
    (first / "models" / "base").mkdir()
    assert (second / "models" / "base").is_dir()
    (first / "jobs").mkdir()
    assert not (learning.fresh_home(tmp_path, "a") / "jobs").exists()
    assert (second / "models" / "base").is_dir()
    assert scorer("length") is length_band
