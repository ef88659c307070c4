"""The pages in a real browser and a real service. Pictures of each are left in .thumbwheel/screenshots."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import NARROW, WIDE, chromium, overflow, signed_in, violations
from tests.e2e.stack import ROOT, Stack

__all__ = ["chromium"]

SHOTS = ROOT / ".thumbwheel" / "screenshots"
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


@pytest.mark.parametrize(("size", "theme"), list(itertools.product(SIZES, ("light", "dark"))))
def test_each_page_fits_passes_axe_and_has_its_picture(chromium, place, size, theme):
    SHOTS.mkdir(parents=True, exist_ok=True)
    with signed_in(chromium, place, viewport=SIZES[size], color_scheme=theme) as page:
        page.set_default_timeout(ANSWER)
        for name, path, ready in (
            ("chat", "/", "main"),
            ("dashboard", "/dashboard", "#cards article, #empty:not([hidden])"),
        ):
            page.goto(place.url + path)
            expect(page.locator(ready).first).to_be_visible()
            picture = Path(SHOTS / f"{name}-{size}-{theme}.png")
            page.screenshot(path=picture)
            assert violations(page) == []
            assert overflow(page) == 0
