"""Each page as it looks when it is used, in both themes, on a desk and on a phone.

Pictures are left in .thumbwheel/screenshots, or where THUMBWHEEL_HOME says: for people to look at.
"""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from playwright.sync_api import Browser, Page, expect

from serving.audit import AUDIT
from serving.jobs import Kind
from serving.registry import PROMOTE, REWARDS, ROLLBACK
from tests.browser import NARROW, WIDE, chromium, overflow, signed_in, violations
from tests.conftest import Gateway
from tests.crowd import Crowd
from tests.fake_engine import FakeEngine
from tests.operated import GOOD, Worker, found, note, on_canary

__all__ = ["chromium"]

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHOTS = Path(os.environ.get("THUMBWHEEL_HOME", ROOT / ".thumbwheel")) / "screenshots"
SIZES = {"wide": WIDE, "narrow": NARROW}
LOOKS = list(itertools.product(SIZES, ("light", "dark")))
DAY = 86400
STAGES = [
    {"name": name, "state": state, "seconds": seconds, "message": message}
    for name, state, seconds, message in (
        ("snapshot", "done", 0.8, "128 new labels"), ("train_reward", "done", 31.2, "pass 6 of 6"),
        ("publish_reward", "done", 0.8, None), ("sample-1", "done", 53.4, "256 replies"),
        ("score-1", "done", 13.3, None), ("optimise-1", "done", 61.0, "32 of 32 steps"),
        ("sample-2", "done", 52.9, "256 replies"), ("score-2", "done", 13.1, None),
        ("optimise-2", "running", 23.7, "12 of 32 steps"),
    )
]  # fmt: skip
REPLIES = (
    "The capital is **Paris**, on the Seine.\n\n1. It has about two million people.\n"
    "2. It has been the capital since 987, with breaks.\n\n| city | Paris | Lyon |\n|---|---|---|\n"
    "| people | 2.1 million | 0.5 million |\n| river | Seine | Rhône |",
    "Three animals: a *fox*, an *owl* and a *hedgehog*. All of them are out at night.",
    "1. Dog\n2. Cat\n3. Horse\n\nEach has lived with people for thousands of years.",
)


@pytest.fixture(scope="module", autouse=True)
def _folder() -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)


@pytest.fixture(scope="module")
def used(steady: Gateway) -> Gateway:
    """Some weeks of feedback, champions that came and went, a canary that raters like, and jobs."""
    now = time.time()
    Crowd(now - 20 * DAY, now - 60, 600, comments=0.1).speak(steady.redis)
    for number in range(1, 5):
        metrics = GOOD | {"win_rate": 0.55 + 0.02 * number}
        steady.publish(
            f"policy-v{number}", parent=f"policy-v{number - 1}", metrics=metrics, reward="reward-v2"
        )
    rewards(steady, now)
    with steady.client() as client:
        for version in ("policy-v1", "policy-v3"):
            promoted = client.post(f"/v1/policies/{version}/promote", json={"reason": "better"})
            assert promoted.status_code == 200
    champions(steady, now)
    steady.jobs.create(Kind.cycle, by="beat")
    Worker(steady).end(state="done", reason="The gate rejected the candidate: no gain over the champion.")
    steady.jobs.create(Kind.cycle, by="operator")
    log = "round 2 of 4\nstep 11 of 32: loss 0.0132, KL 0.021\nstep 12 of 32: loss 0.0129, KL 0.023\n"
    worker = Worker(steady)
    worker.stage("09-optimise-2", 0.46, "12 of 32 steps", log)
    worker.update(stages=STAGES)
    on_canary(steady, "policy-v4")
    note(steady, found(0.68, 40))
    return steady


def champions(gateway: Gateway, now: float) -> None:
    """When they changed, in an audit log that begins anew: its entries come in order."""
    changes = [
        (13.5, PROMOTE, "policy-v0", "policy-v1"), (9, PROMOTE, "policy-v1", "policy-v2"),
        (7.5, ROLLBACK, "policy-v2", "policy-v1"), (6, PROMOTE, "policy-v1", "policy-v3"),
        (0.3, PROMOTE, "policy-v3", "policy-v4"), (0.1, ROLLBACK, "policy-v4", "policy-v3"),
    ]  # fmt: skip
    gateway.redis.delete(AUDIT)
    for days, what, before, after in changes:
        when = now - days * DAY
        why = "raters find it better" if what == PROMOTE else "it answers at too great length"
        action = {"who": "ann", "what": what, "why": why, "before": before, "after": after, "when": when}
        gateway.redis.xadd(AUDIT, {"body": orjson.dumps(action)}, id=f"{round(1000 * when)}-0")


def rewards(gateway: Gateway, now: float) -> None:
    for number, right in ((1, 52), (2, 58)):
        holdout = {
            "pair_accuracy": right / 80, "pair_accuracy_interval": [right / 80 - 0.1, right / 80 + 0.09],
            "pairs": 80, "thumb_auroc": 0.71, "thumbs": 210,
        }  # fmt: skip
        version = f"reward-v{number}"
        known = {"id": version, "path": None, "created": now - DAY, "metrics": {"holdout": holdout}}
        gateway.redis.hset(REWARDS, version, orjson.dumps(known))


@pytest.fixture(params=LOOKS, ids="-".join)
def look(request: pytest.FixtureRequest) -> tuple[str, str]:
    size, theme = request.param
    return size, theme


@pytest.fixture
def page(chromium: Browser, used: Gateway, look: tuple[str, str]) -> Iterator[Page]:
    size, theme = look
    with signed_in(chromium, used, viewport=SIZES[size], color_scheme=theme) as page:
        yield page


def picture(page: Page, name: str, look: tuple[str, str]) -> None:
    """All of a page, which fits and is accessible."""
    page.evaluate("document.activeElement.blur()")
    page.screenshot(path=SHOTS / f"{name}-{'-'.join(look)}.png", full_page=True)
    assert overflow(page) == 0
    assert violations(page) == []


def test_the_sign_in(chromium, steady, look):
    size, theme = look
    context = chromium.new_context(viewport=SIZES[size], color_scheme=theme)
    page = context.new_page()
    page.goto(steady.url + "/signin")
    expect(page.get_by_label("API key")).to_be_visible()
    picture(page, "signin", look)
    context.close()


def test_a_conversation_with_a_rated_reply_and_an_open_pair(page, look, monkeypatch):
    replies = iter(REPLIES)
    monkeypatch.setattr(FakeEngine, "reply", property(lambda _: next(replies)), raising=False)
    ask(page, "What is the capital of France?", "Enter")
    expect(page.locator(".turn-end .version")).to_be_visible()
    page.get_by_role("button", name="Good answer").click()
    expect(page.get_by_role("button", name="Add details")).to_be_visible()
    ask(page, "Name three animals.", "Control+Enter")
    expect(page.get_by_role("form", name="Your choice")).to_be_visible()
    hidden = page.locator(".thread").evaluate("thread => thread.scrollHeight - thread.clientHeight")
    size = SIZES[look[0]]
    page.set_viewport_size({**size, "height": size["height"] + hidden})
    picture(page, "chat", look)


def ask(page: Page, text: str, key: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press(key)


def test_the_dashboard(page, used, look):
    page.goto(used.url + "/dashboard")
    for chart in ("approval", "volume", "matrix", "strengths", "rewards"):
        expect(page.locator(f"#{chart} .main-svg").first).to_be_visible()
    expect(page.locator("#comments li").first).to_be_visible()
    picture(page, "dashboard", look)


def test_operations(page, used, look):
    page.goto(used.url + "/operate")
    expect(page.locator("#evidence")).to_contain_text("Its lead is")
    expect(page.get_by_role("progressbar").first).to_be_visible()
    expect(page.locator("#lineage svg")).to_be_visible()
    page.get_by_text("Stages and log").first.click()
    expect(page.get_by_role("region", name="Log of").first).to_contain_text("step 12 of 32")
    picture(page, "operations", look)
    for table in ("What raters said", "Guards"):
        region = page.get_by_role("region", name=table)
        assert region.evaluate("region => region.scrollWidth - region.clientWidth") == 0
