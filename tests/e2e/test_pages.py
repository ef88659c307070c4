"""The pages in a real browser and a real service. Pictures of them: tests/serving/test_pictures.py."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import NARROW, WIDE, chromium, overflow, signed_in, violations
from tests.e2e.stack import Stack, publish_aside
from tests.e2e.stack import ask as ask_api
from tests.servers import eventually

__all__ = ["chromium"]

SIZES = {"wide": WIDE, "narrow": NARROW}
ANSWER = 90_000  # milliseconds that a reply may take


@dataclass(frozen=True)
class Place:
    """What signing in needs to know of a service."""

    url: str
    operator_key: str


@pytest.fixture
def place(stack: Stack) -> Place:
    return Place(stack.url, stack.key)


@pytest.fixture
def page(chromium: Browser, place: Place) -> Iterator[Page]:
    with signed_in(chromium, place) as page:
        page.set_default_timeout(ANSWER)
        yield page


def ask(page: Page, text: str, key: str = "Enter") -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press(key)


def labels(board: Page) -> int:
    heading = board.get_by_role("heading", name="Labels", exact=True)
    text = board.locator("#cards article").filter(has=heading).locator(".figure").inner_text()
    return int(re.sub(r"\D", "", text))


def test_a_person_chats_rates_and_compares_and_the_dashboard_moves(page, place):
    board = page.context.new_page()
    board.goto(f"{place.url}/dashboard")
    expect(board.locator("body")).to_contain_text("Feedback")
    ask(page, "What is the capital of France?")
    expect(page.locator(".turn-end .version")).to_have_text(re.compile(r"policy-v\d+"), timeout=ANSWER)
    page.get_by_role("button", name="Good answer").click()
    expect(board.locator("#cards article").first).to_be_visible(timeout=ANSWER)
    before = labels(board)
    assert before >= 1
    ask(page, "Name three animals.", key="Control+Enter")
    expect(page.get_by_role("form", name="Your choice")).to_be_visible(timeout=ANSWER)
    assert not re.search(r"policy-v\d", page.locator(".pair").last.inner_text()), "it is blind"
    page.keyboard.press("1")
    expect(page.locator(".verdict")).to_contain_text("You preferred A", timeout=ANSWER)
    expect(page.locator(".verdict")).to_contain_text(re.compile(r"policy-v\d+"))
    board.wait_for_function(
        "before => [...document.querySelectorAll('#cards article')].some(card => "
        "card.querySelector('h2,h3')?.textContent.trim() === 'Labels' && "
        "parseInt(card.querySelector('.figure').textContent.replace(/\\D/g, '')) > before)",
        arg=before,
    )


@pytest.fixture(scope="module")
def good(stack: Stack, tmp_path_factory) -> str:
    """A version that is not the champion; somebody rated enough to start a cycle."""
    version = publish_aside(stack, tmp_path_factory.mktemp("good"), "good")
    with stack.client() as client:
        for number in range(48):
            reply = ask_api(client, f"What is {number} plus {number}?", max_tokens=4)
            given = {"completion_id": reply["id"], "rating": "up" if number % 2 else "down"}
            client.post("/v1/feedback", json=given).raise_for_status()
    return version


def confirm(page: Page, action: str, reason: str) -> None:
    dialog = page.locator("#ask")
    dialog.get_by_label("Reason").fill(reason)
    dialog.get_by_role("button", name=action).click()
    expect(dialog).to_be_hidden(timeout=ANSWER)


def test_an_operator_starts_a_cycle_sees_it_progress_promotes_and_rolls_back(page, place, api, good):
    before = api.get("/v1/policies").json()["champion"]
    page.goto(f"{place.url}/operate")
    page.get_by_role("button", name="Start a job").click()
    confirm(page, "Start", "a look")
    job_id = eventually(lambda: api.get("/v1/jobs", params={"limit": 1}).json()["data"][0]["id"])
    job = page.get_by_role("article", name=job_id)
    expect(job).to_contain_text("train_reward", timeout=ANSWER)
    expect(job.get_by_role("progressbar")).to_be_visible()
    job.get_by_text("Stages and log").click()
    job.get_by_role("button", name="Cancel").click()
    confirm(page, "Cancel the job", "seen enough")
    expect(job).to_contain_text("cancelled", timeout=ANSWER)

    page.get_by_role("button", name=re.compile(f"^{good},")).click()
    page.get_by_role("button", name=f"Promote {good}").click()
    confirm(page, f"Promote {good}", "a test")
    expect(page.get_by_role("status")).to_have_text(f"{good} is the champion now.", timeout=ANSWER)
    assert ask_api(api, "Hello.", max_tokens=4)["model"] == good
    page.get_by_role("button", name=f"Roll back to {before}").click()
    confirm(page, f"Roll back to {before}", "it was a test")
    expect(page.locator("#audit")).to_contain_text("it was a test", timeout=ANSWER)
    assert api.get("/v1/policies").json()["champion"] == before


@pytest.mark.parametrize(("size", "theme"), list(itertools.product(SIZES, ("light", "dark"))))
def test_each_page_fits_and_passes_axe(chromium, place, size, theme):
    with signed_in(chromium, place, viewport=SIZES[size], color_scheme=theme) as page:
        page.set_default_timeout(ANSWER)
        for path, ready in (
            ("/", "main"),
            ("/dashboard", "#cards article, #empty:not([hidden])"),
            ("/operate", "#lineage svg"),
        ):
            page.goto(place.url + path)
            expect(page.locator(ready).first).to_be_visible()
            assert violations(page) == []
            assert overflow(page) == 0
