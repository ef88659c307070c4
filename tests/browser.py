"""A real Chromium for tests of pages: one for each module, and a fresh signed-in context for each test.

Not one for all: while it is open, Playwright's loop counts as running, and asynchronous tests of other
modules could not start theirs. Without Chromium such tests are skipped, but fail in CI.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.conftest import Gateway

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
PATIENCE = 10_000  # milliseconds


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "CI needs Chromium for the tests of pages"
        pytest.skip("no Chromium here: install `chromium` to test the pages")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


class Complaints(list[str]):
    """What a page's console complained of: errors of scripts, and whatever the policy forbade."""

    def listen(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.append(f"uncaught: {error}"))
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("dialog", lambda dialog: (self.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _console(self, kind: str, text: str) -> None:
        # The browser itself reports answers of 400 and more; what the page makes of them is tested there.
        if kind == "error" and not text.startswith("Failed to load resource"):
            self.append(text)


@contextmanager
def signed_in(chromium: Browser, gateway: Gateway, key: str | None = None, **options: Any) -> Iterator[Page]:
    """A page of a fresh, signed-in browser context. Fails where the console had anything to complain of."""
    context: BrowserContext = chromium.new_context(viewport=options.pop("viewport", WIDE), **options)
    context.set_default_timeout(PATIENCE)
    complaints = Complaints()
    try:
        page = context.new_page()
        complaints.listen(page)
        page.goto(gateway.url + "/signin")
        page.get_by_label("API key").fill(key or gateway.operator_key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(gateway.url + "/")
        yield page
    finally:
        context.close()
    assert complaints == []


def violations(page: Page) -> list[str]:
    """What axe has against a page as it stands."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


def overflow(page: Page) -> int:
    """Pixels by which a page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))
