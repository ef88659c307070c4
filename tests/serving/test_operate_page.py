"""The operations page in a real browser, in front of a real gateway and a fake engine."""

import base64
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from feedback.caller import Role
from serving.jobs import Kind
from tests.browser import NARROW, chromium, overflow, signed_in, violations
from tests.conftest import Gateway
from tests.operated import GOOD, REJECTED, Worker, found, note, on_canary

__all__ = ["chromium"]

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def lively(gateway: Gateway) -> Gateway:
    """Two versions that came from the champion."""
    gateway.publish("policy-v1", metrics=GOOD, reward="reward-v1")
    gateway.publish("policy-v2", parent="policy-v1", metrics=GOOD | {"win_rate": 0.57})
    gateway.publish("policy-v3", parent="policy-v1")
    folder = gateway.home / "artifacts" / "policies" / "policy-v2" / "plots"
    folder.mkdir()
    (folder / "reward.png").write_bytes(PIXEL)
    with gateway.client() as client:
        assert client.post("/v1/policies/policy-v1/promote", json={"reason": "better"}).status_code == 200
    return gateway


@pytest.fixture
def page(chromium: Browser, lively: Gateway) -> Iterator[Page]:
    with operating(chromium, lively) as page:
        yield page


class operating:
    """A signed-in browser on the operations page, once that has looked for the first time."""

    def __init__(self, chromium: Browser, gateway: Gateway, **options: Any) -> None:
        self._signed_in, self._url = signed_in(chromium, gateway, **options), gateway.url + "/operate"

    def __enter__(self) -> Page:
        page = self._signed_in.__enter__()
        page.goto(self._url)
        expect(page.locator("#live")).to_contain_text("Live")
        return page

    def __exit__(self, *failure: Any) -> None:
        self._signed_in.__exit__(*failure)


def confirm(page: Page, action: str, reason: str | None = "a reason") -> None:
    dialog = page.locator("#ask")
    expect(dialog).to_be_visible()
    if reason is not None:
        dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=action).click()
    expect(dialog).to_be_hidden()


def node(page: Page, version: str) -> Locator:
    return page.get_by_role("button", name=re.compile(f"^{version},"))


def actions(gateway: Gateway, count: int = 1) -> list[tuple[str, str, str]]:
    with gateway.client() as client:
        newest = client.get("/v1/audit", params={"limit": count}).json()["data"]
    return [(action["who"], action["what"], action["why"]) for action in newest]


def test_a_cycle_is_started_followed_and_what_it_made_is_promoted_and_rolled_back(page, lively):
    page.get_by_role("button", name="Start a job").click()
    page.get_by_label("How the policy is optimised").select_option("online_dpo")
    confirm(page, "Start", "now")
    worker = Worker(lively)
    assert (worker.job.kind, worker.job.params) == ("cycle", {"method": "online_dpo"})
    job = page.get_by_role("article", name=worker.job.id)
    worker.stage("03-sample-1", 0.25, "3 of 12 prompts", "asking\n")
    expect(job).to_contain_text("25 % sample-1: 3 of 12 prompts")
    expect(job.get_by_role("progressbar")).to_have_js_property("value", 0.25)
    job.get_by_text("Stages and log").click()
    expect(job.get_by_role("region", name="Log of")).to_have_text("asking")
    worker.stage("04-score-1", 0.5, "half", "scoring\nhalf of it\n")
    expect(job.get_by_role("region", name="Log of")).to_have_text("scoring\nhalf of it")
    worker.end(state="done", policy="policy-v2", reward="reward-v1", progress=1.0)
    expect(job).to_contain_text("Published reward-v1, policy-v2.")
    expect(job.get_by_role("progressbar")).to_have_count(0)

    node(page, "policy-v2").click()
    expect(page.locator("#version img")).to_have_js_property("naturalWidth", 1)
    expect(page.locator("#version")).to_contain_text("57 % [55, 69]")
    expect(page.locator("#version .facts")).to_contain_text(
        "Rule honest52 % of verdicts won on 48 replies; r with the preference score: 0.31"
    )
    page.get_by_role("button", name="Promote policy-v2").click()
    expect(page.locator("#ask")).to_contain_text("instead of policy-v1")
    confirm(page, "Promote policy-v2", "raters like it")
    expect(page.get_by_role("status")).to_have_text("policy-v2 is the champion now.")
    expect(page.get_by_role("button", name=re.compile(r"^policy-v2, champion, wins 57\s%"))).to_be_visible()
    assert actions(lively) == [("operator", "policy.promote", "raters like it")]

    page.get_by_role("button", name="Roll back to policy-v1").click()
    confirm(page, "Roll back to policy-v1", "rude after all")
    expect(page.locator("#release")).to_contain_text("policy-v1")
    expect(page.locator("#audit")).to_contain_text("rude after all")
    assert actions(lively) == [("operator", "policy.rollback", "rude after all")]


def test_a_canary_is_begun_shows_its_evidence_gets_more_and_is_aborted(page, lively):
    node(page, "policy-v2").click()
    page.get_by_role("button", name="Put it on canary").click()
    page.get_by_label("Share of the traffic").fill("20")
    confirm(page, "Begin the canary", "worth a try")
    release = page.locator("#release")
    expect(release).to_contain_text(re.compile(r"policy-v2\s*canary\s*20\s%"))
    expect(release).to_contain_text("6 days 23 hours left")
    expect(page.locator("#evidence")).to_contain_text("Nothing was measured yet")
    expect(node(page, "policy-v2")).to_contain_text(re.compile(r"canary 20\s%"))

    evidence = page.locator("#evidence")
    likely = evidence.get_by_text("likely that its approval is higher; shown, never decided on")
    note(lively, found(0.62, 40))
    expect(likely).to_have_text(re.compile(rf"^{100 * found(0.62, 40).probability:.0f}\s% likely"))
    note(lively, found(0.68, 40))
    expect(evidence).to_contain_text("Its lead is")
    expect(likely).to_have_text(re.compile(r"^over 99\s% likely"))
    expect(evidence.get_by_role("meter", name="better")).to_have_attribute(
        "aria-valuetext", re.compile(" of 20$")
    )
    expect(evidence.get_by_role("row", name=re.compile(r"^policy-v2 \d+ \d+ 6\d\s%"))).to_be_visible()
    expect(evidence.get_by_role("row", name="broken replies")).to_contain_text(
        re.compile(r"2.0\s%.*1.0\s%.*quiet")
    )

    page.get_by_role("button", name="Change the share").click()
    page.get_by_label("Share of the traffic").fill("60")
    page.get_by_label("Reason").fill("faster")
    page.get_by_role("dialog").get_by_role("button", name="Change the share").click()
    expect(page.get_by_label("Share of the traffic")).to_be_focused()
    page.get_by_label("Share of the traffic").fill("50")
    confirm(page, "Change the share", None)
    expect(release).to_contain_text(re.compile(r"canary\s*50\s%"))
    page.get_by_role("button", name="Abort").click()
    confirm(page, "Abort the canary", "too long-winded")
    expect(release).to_contain_text("Nothing is on trial")
    expect(evidence).to_be_empty()
    assert [action[1:] for action in actions(lively, 3)] == [
        ("canary.abort", "too long-winded"), ("release.rules", "faster"), ("canary.begin", "worth a try"),
    ]  # fmt: skip


def test_a_canary_that_asks_is_seen_and_what_waits_can_be_dropped(page, lively):
    on_canary(lively)
    what = found(0.85)
    note(lively, what, what.reason)
    asked = page.get_by_role("group", name="A decision is asked for")
    expect(asked).to_contain_text("policy-v2 waits for your decision")
    expect(asked).to_contain_text("Raters find the challenger better.")
    expect(page).to_have_title("policy-v2 asks · Operations · Thumbwheel")
    page.get_by_role("button", name="Pin", exact=True).click()
    confirm(page, "Pin policy-v1", "holidays")
    expect(page.locator("#rules")).to_contain_text("nothing moves by itself")
    node(page, "policy-v3").click()
    page.get_by_role("button", name="Promote policy-v3").click()
    expect(page.locator("#ask")).to_contain_text("policy-v2 leaves its canary and waits again.")
    confirm(page, "Promote policy-v3")
    waiting = page.get_by_role("region", name="Waiting for a canary")
    expect(waiting).to_contain_text("policy-v2")
    waiting.get_by_role("button", name="Drop policy-v2").click()
    confirm(page, "Drop policy-v2", "superseded")
    expect(waiting).to_be_hidden()
    assert actions(lively) == [("operator", "release.drop", "superseded")]


def test_a_watch_can_be_ended_or_rolled_back(chromium, lively):
    with lively.client() as client:
        client.post("/v1/release", json={"watch": 3600, "reason": "a test"})
        client.post("/v1/policies/policy-v2/promote", json={"reason": "a test"})
    with operating(chromium, lively) as page:
        expect(page.locator("#release")).to_contain_text("Watched after its promotion")
        expect(node(page, "policy-v1")).to_contain_text("before")
        page.get_by_role("button", name="End the watch").click()
        confirm(page, "End the watch", "quiet enough")
        expect(page.locator("#release")).to_contain_text("Nothing is on trial")
        expect(page.get_by_role("button", name="Roll back to policy-v1")).to_be_visible()


def test_rules_are_changed_with_a_reason_and_only_what_differs(page, lively):
    page.get_by_role("button", name="Change the rules").click()
    page.get_by_label("What becomes of a version").select_option("ask_first")
    page.get_by_label("Hours until it is undecided").fill("36")
    confirm(page, "Change the rules", "release week")
    expect(page.locator("#rules")).to_contain_text("ask_first")
    expect(page.locator("#rules")).to_contain_text("before its canary, and again where raters find it better")
    expect(page.locator("#rules")).to_contain_text("after 1 day 12 hours it waits for an operator")
    with lively.client() as client:
        [last] = client.get("/v1/audit", params={"limit": 1}).json()["data"]
    assert last["after"] == {"mode": "ask_first", "canary": 36 * 3600.0}
    assert last["why"] == "release week"
    expect(page.locator("#audit")).to_contain_text("mode: auto → ask_first, canary: 7 days → 1 day 12 hours")


def test_rules_that_another_operator_changed_meanwhile_stay(page, lively):
    page.get_by_role("button", name="Change the rules").click()
    page.get_by_label("What becomes of a version").select_option("ask_first")
    with lively.client() as client:
        client.post("/v1/release", json={"undecided": "promote", "reason": "another's"})
    expect(page.locator("#rules")).to_contain_text("it is promoted")
    confirm(page, "Change the rules", "mine")
    expect(page.locator("#rules")).to_contain_text("ask_first")
    expect(page.locator("#rules")).to_contain_text("it is promoted")


def test_an_action_is_asked_for_once_and_leaves_the_next_dialog_alone(page):
    waiting = []
    page.route("**/v1/learning", lambda route: waiting.append(route))
    page.get_by_role("button", name="Pause learning").click()
    dialog = page.locator("#ask")
    dialog.get_by_label("Reason").fill("odd labels")
    for _ in range(2):
        page.keyboard.press("Control+Enter")
    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_disabled()
    page.evaluate("document.querySelector('#ask').close()")  # as a browser does at a second Escape
    page.get_by_role("button", name="Start a job").click()
    dialog.get_by_label("Reason").fill("the next one")
    assert len(waiting) == 1
    waiting[0].continue_()
    expect(page.get_by_role("status")).to_have_text("Learning is paused.")
    expect(dialog).to_contain_text("Start a job")
    expect(dialog.get_by_label("Reason")).to_have_value("the next one")


def test_more_jobs_than_a_page_holds_and_one_that_is_older_are_followed(page, lively):
    lively.jobs.create(Kind.cycle, by="test")
    worker = Worker(lively)
    old = page.get_by_role("article", name=worker.job.id)
    worker.stage("01-snapshot", 0.25, "begun", "")
    expect(old).to_contain_text("25 %")
    for _ in range(10):
        lively.jobs.create(Kind.reward, by="test")
        page.wait_for_timeout(250)
    expect(page.locator(".job")).to_have_count(14)
    worker.end(state="done", progress=1.0)
    expect(old.get_by_role("progressbar")).to_have_count(0)
    for _ in range(11):
        lively.jobs.create(Kind.reward, by="test")
    expect(page.locator(".job")).to_have_count(10)
    expect(page.get_by_role("button", name="Older jobs")).to_be_visible()


def test_a_job_that_published_nothing_does_not_look_like_one_that_did(chromium, lively):
    lively.jobs.create(Kind.cycle, by="test")
    Worker(lively).end(state="done", reason="The gate rejected the candidate: no gain.")
    lively.jobs.create(Kind.reward, by="test")
    Worker(lively).end(state="done", reward="reward-v1")
    with operating(chromium, lively) as page:
        published, without = (page.locator(".job-head .tag").nth(place) for place in (0, 1))
        expect(without).to_have_text("done, nothing published")
        expect(without).to_have_attribute("class", "tag")
        expect(published).to_have_text("done")
        expect(published).to_have_attribute("class", "tag good")


def test_a_candidate_that_the_gate_rejected_does_not_look_like_a_success(chromium, lively):
    done = [
        {"name": n, "state": "done", "seconds": 1.0, "message": None} for n in ("train_reward", "evaluate")
    ]
    for stages in (done, done[:1]):
        lively.jobs.create(Kind.cycle, by="test")
        Worker(lively).end(state="done", reward="reward-v1", reason="No gain.", stages=stages)
    lively.jobs.create(Kind.cycle, by="test")
    published = [*done, done[0] | {"name": "publish"}]
    Worker(lively).end(state="done", reward="reward-v1", policy="policy-v2", stages=published)
    with operating(chromium, lively) as page:
        tags = page.locator(".job-head .tag")
        told = (
            ("done", "tag good"),
            ("done, no new policy", "tag"),
            ("done, candidate rejected", "tag warn"),
        )
        for place, (text, kind) in enumerate(told):
            expect(tags.nth(place)).to_have_text(text)
            expect(tags.nth(place)).to_have_attribute("class", kind)


def test_a_candidate_that_was_rejected_can_be_looked_at(chromium, lively):
    lively.jobs.create(Kind.cycle, by="test")
    worker = Worker(lively)
    worker.measured("07-evaluate", REJECTED, reward=PIXEL)
    worker.end(state="done", reason="The gate rejected the candidate.")
    with operating(chromium, lively) as page:
        page.get_by_role("button", name="What the gate measured").click()
        candidate = page.get_by_role("dialog", name="The candidate")
        expect(candidate.locator("img")).to_have_js_property("naturalWidth", 1)
        expect(candidate).to_contain_text("rejected")
        expect(candidate).to_contain_text("the held-out judge prefers it in 51% of comparisons")
        facts = candidate.locator(".facts")
        expect(facts).to_contain_text(re.compile(r"Win rate over its parent51\s% \[44, 58\]"))
        expect(facts).to_contain_text(
            re.compile(r"Refused, as it should25\s%; its parent 50\s%, of 24 replies")
        )
        expect(facts).to_contain_text("Words a reply44; its parent 50")
        assert violations(page) == []
        page.keyboard.press("Escape")
        job = page.get_by_role("article", name=worker.job.id)
        job.get_by_text("Stages and log").click()
        job.get_by_role("button", name="evaluate", exact=True).click()
        expect(candidate).to_contain_text(f"{worker.job.id}/07-evaluate")


def test_what_a_stage_measured_elsewhere_is_said_to_be_elsewhere(chromium, lively):
    lively.jobs.create(Kind.cycle, by="test")
    done = [{"name": "evaluate", "state": "done", "seconds": 1.0, "message": None}]
    Worker(lively).end(state="done", reason="The gate rejected the candidate.", stages=done)
    with operating(chromium, lively) as page:
        page.get_by_role("button", name="What the gate measured").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("does not share THUMBWHEEL_HOME")
        page.keyboard.press("Escape")
        (lively.home / "jobs" / lively.jobs.page()[0][0].id).mkdir(parents=True)
        page.get_by_role("button", name="What the gate measured").click()
        expect(dialog).to_contain_text("Its figures are not there any more.")
        expect(dialog).not_to_contain_text("rejected")


def test_shares_are_told_as_they_were_set(chromium, lively):
    with lively.client() as client:
        for share in (0.125, 0.005):
            assert client.post("/v1/release", json={"share": share, "reason": "a test"}).status_code == 200
    with operating(chromium, lively) as page:
        expect(page.locator("#rules")).to_contain_text(re.compile(r"Share0\.5\s% of the traffic"))
        expect(page.locator("#release")).to_contain_text(
            re.compile(r"goes on canary with 0\.5\s% of the traffic")
        )
        expect(page.locator("#audit")).to_contain_text(re.compile(r"share: 10\s% → 12\.5\s%"))
        expect(page.locator("#audit")).to_contain_text(re.compile(r"share: 12\.5\s% → 0\.5\s%"))
        node(page, "policy-v2").click()
        page.get_by_role("button", name="Put it on canary").click()
        expect(page.get_by_label("Share of the traffic")).to_have_value("0.5")
        page.get_by_label("Share of the traffic").fill("12.5")
        confirm(page, "Begin the canary")
        expect(page.locator("#release")).to_contain_text(re.compile(r"champion87\.5\s%.*canary12\.5\s%"))
        expect(node(page, "policy-v2")).to_contain_text(re.compile(r"canary 12\.5\s%"))
        expect(node(page, "policy-v1")).to_contain_text(re.compile(r"champion 87\.5\s%"))


def test_any_stages_log_is_chosen_and_one_that_printed_nothing_says_so(page, lively):
    lively.jobs.create(Kind.cycle, by="test")
    worker = Worker(lively)
    stages = [
        {"name": "snapshot", "state": "done", "seconds": 1.0, "message": None},
        {"name": "rewrite", "state": "skipped", "seconds": 0.0, "message": "no judge"},
        {"name": "score", "state": "done", "seconds": 1.0, "message": None},
        {"name": "evaluate", "state": "running", "seconds": 1.0, "message": None},
    ]
    for name, log in (("01-snapshot", "read it\n"), ("03-score", ""), ("04-evaluate", "")):
        worker.stage(name, 0.5, "half", log)
    worker.update(stages=stages)
    job = page.get_by_role("article", name=worker.job.id)
    job.get_by_text("Stages and log").click()
    log, title = job.get_by_role("region", name="Log of"), job.locator(".log-title")
    expect(log).to_have_text("(nothing yet)")
    choice = job.get_by_label("Log of", exact=True)
    choice.select_option("snapshot")
    expect(log).to_have_text("read it")
    expect(title).to_have_text("01-snapshot/log.txt")
    choice.select_option("score")
    expect(log).to_have_text("It printed nothing.")
    choice.select_option("rewrite")
    expect(title).to_have_text("rewrite printed nothing.")
    expect(log).to_be_hidden()
    choice.select_option("snapshot")
    stages[-1]["state"] = "done"
    worker.update(stages=[*stages, {"name": "publish", "state": "running", "seconds": 1.0, "message": None}])
    expect(choice.get_by_role("option")).to_have_count(6)
    expect(choice).to_have_value("snapshot")
    expect(log).to_have_text("read it")
    worker.end(state="done")


def test_a_pause_is_told_with_who_and_why_and_nothing_contradicts_it(chromium, gateway):
    with operating(chromium, gateway) as page, gateway.client() as client:
        learning, jobs = page.locator("#learning"), page.locator("#jobs")
        expect(jobs).to_contain_text("Updates start by themselves as labels come")
        client.post("/v1/learning", json={"paused": True, "reason": "odd labels"})
        expect(jobs).to_contain_text("Learning is paused, so none starts by itself")
        expect(jobs).not_to_contain_text("Updates start by themselves")
        expect(learning.locator(".paused")).to_have_text(re.compile(r"^Paused .+ by operator: odd labels$"))
        expect(learning).to_contain_text("no update yet")
        gateway.jobs.create(Kind.cycle, by="test")
        worker = Worker(gateway)
        expect(learning).to_contain_text("the first update is running")
        expect(learning).not_to_contain_text("no update yet")
        worker.end(state="done")
        expect(learning).to_contain_text("no update yet")
        client.post("/v1/learning", json={"paused": False, "reason": "all is well"})
        expect(learning.locator(".paused")).to_have_count(0)


def test_a_version_is_shown_with_its_thumbs_and_leads_to_the_dashboard(chromium, lively):
    with lively.client() as client:
        body = {"model": "policy-v0", "messages": [{"role": "user", "content": "hello"}]}
        reply = client.post("/v1/chat/completions", json=body).json()
        thumb = {"completion_id": reply["id"], "rating": "up"}
        assert client.post("/v1/feedback", json=thumb).status_code == 200
    with operating(chromium, lively) as page:
        node(page, "policy-v0").click()
        facts = page.locator("#version .facts")
        expect(facts).to_contain_text(re.compile(r"Thumbs100\s% of 1 up"))
        expect(facts).to_contain_text("Replies1")
        page.keyboard.press("Escape")
        node(page, "policy-v1").click()
        expect(facts).to_contain_text("Thumbsnone yet")
        page.locator("#version").get_by_role("link", name="on the dashboard").click()
        expect(page).to_have_url(lively.url + "/dashboard?versions=policy-v1")


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_shows_all_of_the_audit_log_and_of_the_stages(chromium, lively, width):
    lively.jobs.create(Kind.cycle, by="test")
    worker = Worker(lively)
    worker.stage("02-train_reward", 0.5, "x" * 60 + " and more of it", "")
    lively.registry.promote("policy-v2", who=worker.job.id, why="accepted by the gate", lease=worker._lease)
    with operating(chromium, lively, viewport=NARROW | {"width": width}) as page:
        page.get_by_text("Stages and log").first.click()
        expect(page.locator("#audit")).to_contain_text(worker.job.id)
        for cells in ("#audit td", ".stages tbody :is(th, td)", "main .card"):
            boxes = [cell.bounding_box() for cell in page.locator(cells).all()]
            ends = [box["x"] + box["width"] for box in boxes if box]
            assert ends, cells
            assert max(ends) <= width, cells
        for table in ("#audit", ".job .scroll"):
            assert page.locator(table).evaluate("it => it.scrollWidth - it.clientWidth") <= 0, table
        assert violations(page) == []


@pytest.mark.parametrize("width", [1280, 1440])
def test_no_hole_stands_below_a_release_without_a_trial(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    release, rules, learning = (
        page.get_by_role("region", name=name, exact=True).bounding_box()
        for name in ("Release", "Rules", "Learning")
    )
    assert learning["x"] == release["x"]
    assert learning["y"] - release["y"] - release["height"] < 20
    assert abs(learning["y"] + learning["height"] - rules["y"] - rules["height"]) < 2


def test_times_of_yesterday_say_so(chromium, lively):
    with signed_in(chromium, lively) as page:
        page.clock.install()
        page.goto(lively.url + "/operate")
        for made in (page.locator("#audit time").first, page.locator("#policies tbody td").last):
            expect(made).to_have_text(re.compile(r"^\d\d:\d\d( [AP]M)?$"))
            expect(made.or_(made.locator("time")).last).to_have_attribute(
                "title", re.compile(r"\d:\d\d:\d\d .*(UTC|GMT)")
            )
        page.clock.fast_forward("24:00:00")
        for made in (page.locator("#audit time").first, page.locator("#policies tbody td").last):
            expect(made).to_have_text(re.compile(r", \d\d:\d\d"))
        page.clock.fast_forward(366 * 86_400_000)
        expect(page.locator("#audit time").first).to_have_text(re.compile(r" 20\d\d, "))


def test_a_log_that_is_not_there_yet_is_asked_for_again(page, lively):
    lively.jobs.create(Kind.cycle, by="test")
    worker = Worker(lively)
    job = page.get_by_role("article", name=worker.job.id)
    job.get_by_text("Stages and log").click()
    expect(job.locator(".log-title")).to_contain_text("does not share THUMBWHEEL_HOME")
    worker.stage("01-snapshot", 0.5, "half", "the first line")
    expect(job.get_by_role("region", name="Log of")).to_have_text("the first line")


def test_a_late_answer_does_not_fill_the_dialog_of_another_version(page):
    waiting = []
    page.route("**/v1/policies/policy-v1", lambda route: waiting.append(route))
    node(page, "policy-v1").click()
    page.keyboard.press("Escape")
    node(page, "policy-v2").click()
    expect(page.locator("#version img")).to_be_visible()
    with page.expect_response("**/v1/policies/policy-v1"):
        waiting[0].continue_()
    page.wait_for_timeout(200)
    expect(page.locator("#version img")).to_be_visible()


def test_learning_is_paused_and_resumed_and_a_job_is_cancelled(page, lively):
    page.get_by_role("button", name="Pause learning").click()
    confirm(page, "Pause learning", "odd labels")
    page.get_by_role("button", name="Resume learning").click()
    confirm(page, "Resume learning", "all is well")
    expect(page.get_by_role("button", name="Pause learning")).to_be_focused()
    page.get_by_role("button", name="Start a job").click()
    page.get_by_label("What is learnt").select_option("reward")
    confirm(page, "Start", None)
    page.get_by_role("button", name="Cancel job-").click()
    dialog = page.locator("#ask")
    expect(dialog.get_by_role("heading")).to_have_text(re.compile(r"^Cancel job-[0-9a-f]{8}\?$"))
    dialog.get_by_role("button", name="Keep it").click()
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Cancel job-").click()
    confirm(page, "Cancel the job", "by mistake")
    job = page.locator(".job").first
    expect(job).to_contain_text("cancelled")
    expect(page.locator("#audit")).to_contain_text(re.compile(r"job-\w+, state: queued → cancelled"))
    expect(page.locator("#audit")).to_contain_text("paused: no → yes")
    expect(job).to_contain_text("by mistake")
    assert [action[1] for action in actions(lively, 4)] == [
        "job.cancel", "job.start", "learning.resume", "learning.pause",
    ]  # fmt: skip


def test_a_reason_is_needed_and_what_was_typed_outlives_an_error_and_a_cancel(page, lively):
    back = page.get_by_role("button", name="Roll back to policy-v0")
    back.click()
    dialog = page.locator("#ask")
    reason, send = dialog.get_by_label("Reason"), dialog.get_by_role("button", name="Roll back")
    for nothing in ("", "   "):
        reason.fill(nothing)
        send.click()
        expect(dialog).to_be_visible()
    expect(dialog.get_by_role("alert")).to_contain_text("Say why")
    reason.fill("it babbles")
    page.keyboard.press("Escape")
    expect(back).to_be_focused()
    back.click()
    expect(reason).to_have_value("it babbles")
    with lively.client() as client:
        client.post("/v1/rollback", json={"reason": "quicker"})
    send.click()
    expect(dialog.get_by_role("alert")).to_have_text("policy-v0 is the champion already.")
    expect(reason).to_have_value("it babbles")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator("#release")).to_contain_text("policy-v0")


def test_the_lineage_is_walked_by_keys_and_there_as_a_table(page):
    node(page, "policy-v1").focus()
    page.keyboard.press("ArrowRight")
    expect(node(page, "policy-v2")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(node(page, "policy-v3")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(node(page, "policy-v0")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#version")).to_contain_text("policy-v0")
    page.keyboard.press("Escape")
    expect(node(page, "policy-v0")).to_be_focused()
    page.get_by_text("As a table").click()
    row = page.locator("#policies").get_by_role("row", name="policy-v2")
    expect(row).to_contain_text(re.compile(r"policy-v1\s*57\s% \[55, 69\]\s*0.24"))
    row.get_by_role("button", name="policy-v2").click()
    expect(page.locator("#version")).to_contain_text("by the held-out judge")


def test_engines_say_what_they_serve_and_what_they_refuse(page, lively):
    engine = page.locator(".engine")
    expect(engine).to_contain_text("ready")
    expect(engine.get_by_role("list")).to_contain_text("policy-v1")
    lively.engine.down = True
    lively.redis.publish("tw:changed", "x")
    expect(engine).to_contain_text("not ready")
    lively.engine.logprob["policy-v9"] = float("nan")
    lively.engine.down = False
    lively.publish("policy-v9")
    expect(engine).to_contain_text("Refused policy-v9")


def test_the_audit_log_pages(page, lively):
    with lively.client() as client:
        for number in range(30):
            client.post("/v1/learning", json={"paused": False, "reason": f"action {number}."})
    rows = page.locator("#audit tbody tr")
    page.get_by_role("button", name="Pause learning").click()
    confirm(page, "Pause learning", "the last")
    expect(rows.first).to_contain_text("the last")
    expect(rows).to_have_count(20)
    page.get_by_role("button", name="Older entries").click()
    expect(page.locator("#audit")).to_contain_text("action 0.")
    expect(page.locator("#audit")).to_contain_text("the first operator key")
    expect(page.get_by_role("button", name="Older entries")).to_be_hidden()


def test_what_is_hostile_is_text_everywhere(chromium, lively):
    lively.publish("policy-v4", metrics={"note": HOSTILE}, reward=HOSTILE)
    lively.jobs.create(Kind.cycle, by=HOSTILE)
    worker = Worker(lively)
    worker.stage("01-snapshot", 0.5, HOSTILE, HOSTILE)
    on_canary(lively)
    note(lively, found(0.85), HOSTILE)
    with lively.client() as client:
        client.post("/v1/learning", json={"paused": True, "reason": HOSTILE})
    with operating(chromium, lively) as page:
        page.get_by_text("Stages and log").first.click()
        for where in ("#audit", "#release", ".job", ".log"):
            expect(page.locator(where).first).to_contain_text("<img src=x onerror=window.hacked=1>")
        node(page, "policy-v4").click()
        expect(page.locator("#version")).to_contain_text("<script>window.hacked=1</script>")
        worker.end(state="failed", reason=HOSTILE)
        expect(page.locator(".why").filter(has_text="<img")).not_to_have_count(0)
        assert page.evaluate("typeof window.hacked") == "undefined"
        assert page.locator("main img[src=x], main script").count() == 0


def test_a_log_that_is_elsewhere_is_said_to_be(chromium, lively):
    lively.jobs.create(Kind.reward, by="test")
    Worker(lively).end(state="done")
    with operating(chromium, lively) as page:
        page.get_by_text("Stages and log").first.click()
        expect(page.locator(".log-title").first).to_contain_text("does not share THUMBWHEEL_HOME")


def test_an_outage_is_told_keeps_what_is_shown_and_ends_by_itself(page):
    page.route("**/v1/status", lambda route: route.abort())
    trouble = page.locator("#trouble")
    expect(trouble).to_contain_text("The service cannot be reached")
    expect(page.locator("#release")).to_contain_text("policy-v1")
    page.unroute("**/v1/status")
    expect(trouble).to_be_hidden()


@pytest.mark.parametrize("role", [Role.user, Role.viewer])
def test_others_are_told_what_it_takes(chromium, steady, role):
    with signed_in(chromium, steady, steady.key(role)) as page:
        answer = page.goto(steady.url + "/operate")
        assert answer is not None
        assert answer.status == 403
        expect(page.get_by_role("heading", level=1)).to_have_text("This page needs the role operator")
        assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_passes_the_accessibility_checker_and_fits_a_phone(chromium, lively, scheme):
    lively.jobs.create(Kind.cycle, by="test")
    worker = Worker(lively)
    worker.stage("01-snapshot", 0.5, "x" * 300, "y" * 500)
    on_canary(lively)
    what = found(0.85)
    note(lively, what, what.reason)
    with operating(chromium, lively, viewport=NARROW, color_scheme=scheme) as page:
        for summary in ("Stages and log", "As a table", "Reward models"):
            page.get_by_text(summary).first.click()
        expect(page.locator(".log").first).to_be_visible()
        assert overflow(page) <= 0
        assert violations(page) == []
        page.get_by_role("button", name="Promote it").click()
        assert violations(page) == []
        assert overflow(page) <= 0
        page.keyboard.press("Escape")
        node(page, "policy-v2").click()
        expect(page.locator("#version img")).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 1280, "height": 800})
        assert overflow(page) <= 0
        assert violations(page) == []
