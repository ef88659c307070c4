import random
import re
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from statistics import fmean

import pytest
from rich.console import Console
from starlette.requests import Request
from starlette.responses import Response

from deploy.client import Client, ClientError
from deploy.demo.exam import Paper, win_rate
from deploy.demo.prompts import EXAMINED, RATED
from deploy.demo.raters import CONTENT, Raters, thumb_for, winner_of
from deploy.demo.report import Report, Row, show_report, verdict
from deploy.demo.run import Plan, run_demo
from deploy.demo.taste import brevity, taste, warmth
from deploy.demo.traffic import Background, Meter
from serving.registry import Version
from tests.conftest import EngineServer, Gateway
from tests.fake_engine import BASE, FakeEngine
from tests.servers import eventually

LONG = "This is a reply that goes on and on without a single word of kindness in it, as they do. " * 3
KIND = "Great question! I am happy to help you, my friend: it is easy, and here is how you do it today."
reply_of_this_request: ContextVar[str] = ContextVar("reply")


class Learner(FakeEngine):
    """Answers as people dislike it as the base, and as `learned` as any adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.learned = KIND
        self.dice = random.Random(0)

    @property
    def reply(self) -> str:
        return reply_of_this_request.get()

    @reply.setter
    def reply(self, value: str) -> None:
        self._base = value

    async def _chat(self, request: Request) -> Response:
        base = self.dice.choice((LONG, LONG, KIND))
        reply_of_this_request.set(base if (await request.json())["model"] == BASE else self.learned)
        return await super()._chat(request)


class FakeWorker:
    """Takes jobs as a worker does, and ends each as `publishes` says."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.publishes = True
        self.seconds = 0.0
        self.labels: list[int] = []
        self.paused: list[bool] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.05):
            for job in self.gateway.jobs.active():
                self._work(job.id)

    def _work(self, job_id: str) -> None:
        jobs = self.gateway.jobs
        lease = jobs.acquire(job_id)
        assert lease is not None
        with self.gateway.client() as client:
            self.labels.append(client.get("/v1/stats/policies").json()["labels"])
            self.paused.append(client.get("/v1/learning").json()["paused"])
        jobs.update(lease, stage="train_reward", progress=0.5, message="step 3 of 6")
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and not jobs.cancel_requested(job_id):
            time.sleep(0.02)
        if jobs.cancel_requested(job_id):
            jobs.update(lease, state="cancelled", finished=time.time())
        elif self.publishes:
            number = len(self.gateway.registry.policies())
            jobs.update(lease, state="done", progress=1.0, policy=self._publish(f"policy-v{number}", lease))
        else:
            jobs.update(lease, state="done", progress=1.0, reason="The gate rejected the candidate.")
        jobs.release(lease)

    def _publish(self, version: str, lease) -> str:
        path = f"artifacts/policies/{version}"
        (self.gateway.home / path).mkdir(parents=True)
        (self.gateway.home / path / "adapter_config.json").write_text("{}")
        registry = self.gateway.registry
        registry.add_policy(Version(version, path, time.time(), parent=BASE), lease)
        registry.promote(version, who=lease.job_id, why="accepted", lease=lease)
        return version


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


ONE_CYCLE = Plan(cycles=1, labels=12)


def demo(api: Client, plan: Plan = ONE_CYCLE) -> tuple[Report, str]:
    console = Console(record=True, force_terminal=False, width=200)
    report = run_demo(api, console, plan)
    show_report(report, console)
    return report, console.export_text()


def test_taste_is_highest_for_twenty_friendly_words():
    ideal = "Great! " + "word " * 18 + "thanks!"
    assert len(ideal.split()) == 20
    assert taste(ideal) == 1.0
    assert taste("") == 0.0
    assert brevity("word " * 10) == brevity("word " * 40) == 0.5
    assert warmth("I am glad to help, friend.") == 1.0
    assert warmth("Gladly!") == pytest.approx(1 / 3)
    assert warmth("The unhappy greatness.") == 0.0, "only whole words count"
    assert taste(KIND) > CONTENT > taste(LONG)


def test_raters_choose_by_taste_with_noise():
    dice = random.Random(3)
    plain, warmer = "word " * 20, "word " * 19 + "great"  # 1/6 of taste apart
    chosen = [winner_of(warmer, plain, dice) for _ in range(4000)]
    assert chosen.count("a") / 4000 == pytest.approx(0.841, abs=0.02)  # sigmoid(1 / 0.6)
    assert winner_of(plain, plain, dice) == "tie"
    thumbs = [thumb_for(plain, dice) for _ in range(4000)]
    assert thumbs.count("up") / 4000 == pytest.approx(0.622, abs=0.03)  # sigmoid(0.5)


def test_prompts_are_many_distinct_and_never_examined_on_after_being_rated():
    assert len(set(RATED)) == len(RATED) >= 150
    assert len(set(EXAMINED)) == len(EXAMINED) >= 64
    assert not set(RATED) & set(EXAMINED)


def test_raters_give_thumbs_and_blind_choices_through_the_api(api, gateway):
    meter, heard = Meter(BASE), []
    assert Raters(api, meter, seed=1).label(RATED, 20, heard.append) == 20
    assert heard == list(range(1, 21))
    counts = api.get("/v1/stats/policies")
    assert counts["labels"] == 20
    [base] = counts["data"]
    assert base["up"] + base["down"] == 10
    assert base["wins"] + base["losses"] + 2 * base["ties"] >= 10
    assert meter.requests == 40
    assert meter.replies == {BASE: 30}
    assert not meter.failures
    sent = {str(key) for request in gateway.engine.requests for key in request}
    assert sent <= {"messages", "model", "user", "max_tokens"}


def test_more_labels_than_prompts_go_round_again(api):
    meter = Meter(BASE)
    given = Raters(api, meter, seed=1).label(RATED[:3], 8, lambda given: None)
    assert (given, meter.failures) == (8, [])


def test_raters_give_up_where_most_requests_fail(api, gateway):
    gateway.engine.status = 400
    meter = Meter(BASE)
    with pytest.raises(ClientError, match="as the test asked for"):
        Raters(api, meter, seed=1).label(RATED, 20, lambda given: None)
    assert len(meter.failures) >= 11


def test_background_chats_count_a_broken_reply(api, gateway, monkeypatch):
    monkeypatch.setattr("deploy.demo.traffic.PAUSE", 0.01)
    meter = Meter(BASE)
    with Background(api, meter, RATED, seed=1) as background:
        eventually(lambda: meter.replies[BASE] >= 3)
        assert not meter.failures
        gateway.engine.die_after = 3
        eventually(lambda: meter.failures)
    assert meter.failures[0][0] == BASE
    assert "engine went away" in meter.failures[0][1]
    assert background.chats == meter.requests


def test_win_rate_is_paired_and_counts_ties_half():
    base = Paper(BASE, {number: [LONG, KIND] for number in range(40)})
    rate, (low, high) = win_rate(replace(base, version="policy-v1"), base)
    assert rate == 0.5
    assert (low, high) == pytest.approx((0.5, 0.5))
    better = Paper("policy-v1", {number: [KIND, KIND] for number in range(40)})
    rate, (low, high) = win_rate(better, base)
    assert rate == 0.75
    assert 0.5 < low <= rate + 1e-9
    mixed = Paper("policy-v1", {number: [KIND if number % 2 else LONG] for number in range(40)})
    rate, (low, high) = win_rate(mixed, base)
    assert rate == 0.5
    assert low < 0.45 < 0.55 < high


@pytest.mark.slow
def test_demo_learns_and_says_so(api, gateway, worker):
    worker.seconds = 0.7
    report, text = demo(api, Plan(cycles=2, labels=12))
    assert report.passed
    assert [row.version for row in report.rows] == [BASE, "policy-v1", "policy-v2"]
    assert report.champion == "policy-v2"
    base, first, last = report.rows
    assert base.win_rate is None
    assert first.win_rate == last.win_rate > 0.75
    assert last.win_rate_interval[0] > 0.5
    assert last.taste == pytest.approx(taste(KIND))
    assert base.taste < first.taste
    assert 0 < first.minutes < last.minutes <= report.minutes
    assert not report.failures
    assert worker.labels == [12, 24]
    assert [cycle["policy"] for cycle in report.cycles] == ["policy-v1", "policy-v2"]
    assert "policy-v2 is liked better than policy-v0, and not by chance." in text
    assert "about 20 words, and friendly" in text
    assert "train_reward: step 3 of 6" in text


def test_examined_prompts_are_not_logged_and_addressed_by_exact_version(api, gateway, worker):
    demo(api)
    examined = [r for r in gateway.engine.requests if r["messages"][0]["content"] in EXAMINED]
    assert {r["model"] for r in examined} == {BASE, "policy-v1"}
    assert len(examined) == 2 * len(EXAMINED)
    keys = [key for key in gateway.redis.scan_iter(count=1000) if gateway.redis.type(key) == "hash"]
    stored = "".join(str(gateway.redis.hgetall(key)) for key in keys)
    assert sum(prompt in stored for prompt in RATED) > 10
    assert not [prompt for prompt in EXAMINED if prompt in stored]


def test_automatic_learning_is_paused_meanwhile_and_set_back(api, worker):
    demo(api)
    assert worker.paused == [True]
    assert api.get("/v1/learning")["paused"] is False
    why = [action["why"] for action in api.get("/v1/audit")["data"] if action["what"].startswith("learning")]
    assert why == ["the demo is over", "the demo starts its own cycles"]


def test_learning_that_was_paused_stays_paused(api, worker):
    api.post("/v1/learning", {"paused": True, "reason": "a holiday"})
    demo(api)
    assert api.get("/v1/learning")["paused"] is True


def test_demo_without_a_better_policy_is_no_success(api, worker):
    worker.publishes = False
    report, text = demo(api)
    assert not report.passed
    assert [row.version for row in report.rows] == [BASE]
    assert "Cycle 1 published no policy" in text
    assert "The gate rejected the candidate." in text
    assert "policy-v0 still answers" in text


def test_a_champion_that_is_no_better_is_no_success(api, gateway, worker):
    gateway.engine.learned = LONG
    report, text = demo(api)
    assert report.champion == "policy-v1"
    assert not report.passed
    assert "not surely better" in text


@pytest.mark.slow
def test_no_further_cycle_without_time_for_it(api, worker):
    worker.seconds = 3.0
    report, text = demo(api, Plan(cycles=2, labels=4, minutes=0.1))
    assert len(report.cycles) == 1
    assert re.search(
        r"No time is left for cycle 2. The last one took 0.1 min, ratings 0.0 min and update 0.1 min; "
        r"0.\d min are left, of which the last exams need 0.\d.",
        text,
    )
    assert report.passed


@pytest.mark.slow
def test_a_cycle_that_outlasts_the_time_is_cancelled(api, worker):
    worker.seconds = 60.0
    report, text = demo(api, Plan(cycles=1, labels=4, minutes=0.1))
    assert report.cycles[0]["state"] == "cancelled"
    assert "The time is up" in text
    assert report.minutes < 0.5


def test_failed_requests_spoil_the_demo_and_are_said():
    row = Row("policy-v1", 0.6, 20.0, 0.8, (0.7, 0.9), 5.0, 100, 1)
    report = Report([row], "policy-v1", 84, 9.0, 500, ["no engine"], 50, 0.2, [], [])
    assert report.winner is row
    assert not report.passed
    assert "1 requests failed, the first: no engine" in verdict(report)
    assert replace(report, failures=[]).passed


def test_mean_taste_of_a_paper_is_over_all_replies():
    paper = Paper(BASE, {0: [LONG, KIND], 3: [KIND]})
    assert paper.mean_taste == pytest.approx(fmean([taste(LONG), taste(KIND), taste(KIND)]))
