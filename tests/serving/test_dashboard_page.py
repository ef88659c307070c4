"""The dashboard in a real browser, in front of a real gateway with a crowd's feedback."""

import csv
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from redis import Redis

from feedback.caller import Role
from serving.registry import REWARDS
from tests.browser import NARROW, WIDE, chromium, overflow, signed_in, violations
from tests.conftest import Gateway, chat
from tests.crowd import Crowd
from tests.servers import eventually

__all__ = ["chromium"]

pytestmark = pytest.mark.slow

THUMBS = 300
HOSTILE = "<img src=x onerror=window.hacked=1><script>window.hacked=1</script>{{7*7}} ](javascript:hacked"


@pytest.fixture(scope="module")
def filled(steady: Gateway) -> Gateway:
    fill(steady.redis, THUMBS)
    return steady


def fill(redis: Redis, thumbs: int, seed: int = 0) -> None:
    end = time.time() - 60
    Crowd(end - 10 * 86400, end, thumbs, comments=0.1, seed=seed).speak(redis)


@pytest.fixture
def page(chromium: Browser, filled: Gateway) -> Iterator[Page]:
    with signed_in(chromium, filled) as page:
        opened(page, filled)
        yield page


def opened(page: Page, gateway: Gateway, query: str = "") -> None:
    page.goto(f"{gateway.url}/dashboard{query}")
    expect(page.locator("#cards article").first).to_be_visible()
    expect(page.locator("#approval .main-svg").first).to_be_visible()


def card(page: Page, title: str) -> str:
    return figure(page, title).inner_text()


def figure(page: Page, title: str) -> Locator:
    return tile(page, title).locator(".figure")


def tile(page: Page, title: str) -> Locator:
    heading = page.get_by_role("heading", name=title, exact=True)
    return page.locator("#cards article").filter(has=heading)


def choice(page: Page, name: str) -> Locator:
    return page.locator("#filters").get_by_label(name, exact=True)


def number(text: str) -> int:
    return int("".join(filter(str.isdigit, text)))


def test_all_figures_are_there_and_charts_have_their_words(page):
    assert card(page, "Approval").endswith("%")
    for title in ("Response rate", "Labels", "Ties", "Left chosen", "Loudest ten", "Reward model"):
        assert card(page, title)
    for chart in ("approval", "volume", "matrix", "strengths"):
        expect(page.locator(f"#{chart} .main-svg").first).to_be_visible()
        words = page.locator(f"#{chart} .chart").get_attribute("aria-label")
        assert "policy-v" in words or "labels" in words
        page.locator(f"#{chart} summary").click()
        assert page.locator(f"#{chart} tbody tr").count() > 1
    expect(page.locator("#rewards .nothing")).to_be_visible()
    expect(page.locator("#reasons")).to_contain_text("Accurate")
    expect(page.locator("#raters tbody tr")).to_have_count(10)


def test_tiles_say_what_they_are_of(page):
    expect(tile(page, "Response rate")).to_contain_text(re.compile(r"95\s%: \d+\.\d to \d+\.\d\s%"))
    expect(tile(page, "Ties")).to_contain_text(re.compile(r"both bad: \d+\s%, 95\s%: \d+ to \d+\s%"))
    loudest = tile(page, "Loudest ten")
    expect(loudest).to_contain_text(
        re.compile(r"of [\d,]+ labels by people\s*all versions and tags, by whole days")
    )
    choice(page, "Time").select_option("all")
    expect(loudest).to_contain_text("all versions and tags, all time")


def test_who_beats_whom_stands_with_its_interval(page, filled):
    with filled.client() as client:
        cells = client.get("/v1/stats/dashboard").json()["matrix"]["cells"]
    cell = next(cell for cell in cells if (cell["policy"], cell["against"]) == ("policy-v3", "policy-v2"))
    choice(page, "Time").select_option("all")
    low, high = (f"{100 * end:.0f}" for end in cell["win_interval"])
    interval = rf"\(95\s%: {low} to {high}\s%\)"
    chart = page.locator("#matrix .chart")
    expect(chart).to_have_attribute(
        "aria-label", re.compile(rf"policy-v3 beats policy-v2 in \d+\s% {interval}")
    )
    chart.scroll_into_view_if_needed()
    hovered = page.locator("#matrix .heatmap-label text", has_text=f"{100 * cell['win_rate']:.0f}").first
    box = hovered.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#matrix .hoverlayer")).to_have_text(re.compile(rf"\d+% {interval}"))
    page.locator("#matrix summary").click()
    row = page.locator("#matrix tbody tr", has_text=re.compile(r"^policy-v3policy-v2"))
    expect(row.locator("td").last).to_have_text(re.compile(rf"^{low} to {high}\s%$"))


def rewarded(gateway: Gateway, **holdout: object) -> None:
    """A reward model, and what it came to on the held-out labels."""
    version = {"id": "reward-v1", "path": None, "created": 1.0, "metrics": {"holdout": holdout}}
    gateway.redis.hset(REWARDS, "reward-v1", orjson.dumps(version))


def test_a_reward_model_without_a_held_out_pair_has_no_figure(chromium, gateway):
    nothing = {"pair_accuracy": None, "pair_accuracy_interval": [0.0, 1.0], "pairs": 0}
    rewarded(gateway, **nothing, thumb_auroc=None, thumbs=0)
    with gateway.client() as client:
        rate(client, "one thumb")
    with signed_in(chromium, gateway) as page:
        opened(page, gateway)
        expect(tile(page, "Reward model").locator("p")).to_have_text(
            ["nothing to measure it on yet: no held-out pair (reward-v1)"]
        )
        expect(page.locator("#rewards .nothing")).to_be_visible()


def test_a_reward_model_that_misjudges_thumbs_does_not_hide_it(chromium, gateway):
    holdout = {"pair_accuracy": 0.89, "pair_accuracy_interval": [0.78, 0.94], "pairs": 61}
    rewarded(gateway, **holdout, thumb_auroc=0.21, thumbs=40)
    with gateway.client() as client:
        rate(client, "one thumb")
    with signed_in(chromium, gateway) as page:
        opened(page, gateway)
        expect(tile(page, "Reward model")).to_contain_text("AUROC 0.21 of 40 thumbs: below chance")
        expect(tile(page, "Reward model")).to_contain_text("whatever is selected")
        expect(page.locator("#rewards")).to_contain_text("accepted on all unseen labels")
        ticks = page.locator("#volume .ytick text").all_text_contents()
        assert ticks == ["0", "1"], "one thumb is counted by whole numbers"


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_names_of_the_newest_champions_fit_into_the_chart(chromium, gateway, viewport):
    with gateway.client() as client:
        rate(client, "one thumb")
        for version in ("policy-v10", "policy-v11"):
            gateway.publish(version)
            promoted = client.post(f"/v1/policies/{version}/promote", json={"reason": "better"})
            assert promoted.status_code == 200
        assert client.post("/v1/rollback", json={"reason": "worse"}).status_code == 200
    with signed_in(chromium, gateway, viewport=viewport) as page:
        for query in ("", "?range=1d", "?range=7d"):
            opened(page, gateway, query)
            names = page.locator("#volume .annotation text")
            expect(names).to_have_text(["v10", "v11", "↩ v10"])
            drawing = page.locator("#volume .main-svg").first.bounding_box()
            for box in (name.bounding_box() for name in names.all()):
                assert box["x"] >= drawing["x"]
                assert box["x"] + box["width"] <= drawing["x"] + drawing["width"]


def test_numbers_move_without_a_reload(page, filled):
    page.evaluate("window.same = true")
    before = number(card(page, "Labels"))
    with filled.client() as client:
        rate(client, "moved by itself")
    expect(page.locator("#comments")).to_contain_text("moved by itself")
    assert number(card(page, "Labels")) == before + 1
    assert page.evaluate("window.same")


def rate(client: httpx.Client, comment: str, **more: object) -> str:
    completion_id = chat(client, **more)["id"]
    body = {"completion_id": completion_id, "rating": "down", "comment": comment, "reasons": [comment[:100]]}
    assert client.post("/v1/feedback", json={**body, "correction": comment}).status_code == 200
    return completion_id


def test_filters_narrow_the_figures_and_stand_in_the_address(page, filled):
    before = number(card(page, "Labels"))
    choice(page, "Tag").select_option("writing")
    expect(page).to_have_url(f"{filled.url}/dashboard?tag=writing")
    expect(figure(page, "Labels")).not_to_have_text(f"{before:,}")
    tagged = number(card(page, "Labels"))
    assert 0 < tagged < before
    page.get_by_text("policy-v3", exact=True).locator("visible=true").first.click()
    choice(page, "Time").select_option("7d")
    page.wait_for_url("**/dashboard?range=7d&versions=policy-v3&tag=writing")
    assert "versions=policy-v3&tag=writing" in page.get_by_role("link", name="Download CSV").get_attribute(
        "href"
    )
    page.reload()
    expect(choice(page, "Tag")).to_have_value("writing")
    expect(page.get_by_role("checkbox", name="policy-v3")).to_be_checked()
    expect(page.locator("#approval tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Clear filters").click()
    expect(page).to_have_url(f"{filled.url}/dashboard")
    expect(page.locator("#cards")).to_contain_text(f"{before:,}")


def test_a_time_of_ones_own(page, filled):
    choice(page, "Time").select_option("custom")
    choice(page, "From").fill("2020-01-01")
    choice(page, "To").fill("2020-01-02")
    expect(page.locator("#approval .nothing")).to_be_visible()
    expect(page).to_have_url(f"{filled.url}/dashboard?range=custom&from=2020-01-01&to=2020-01-02")
    assert card(page, "Approval") == "–"  # noqa: RUF001


def test_an_end_needs_a_beginning(page):
    choice(page, "Time").select_option("custom")
    choice(page, "To").fill("2026-01-31")
    assert page.locator("[name=from]").evaluate("field => field.validationMessage") == "Say from when, too."
    with page.expect_request("**/v1/stats/dashboard*") as asked:
        choice(page, "From").fill("2026-01-01")
    assert "since=1767225600&until=1769904000" in asked.value.url, "by UTC days"
    expect(page.locator("#live")).to_contain_text("Live")


@pytest.mark.parametrize(
    ("first", "last", "says", "right"),
    [
        ("2026-01-05", "2026-01-01", "It ends before it begins.", "2026-01-05"),
        ("2999-01-01", "2999-01-05", "It lies ahead: there is no feedback yet.", None),
        ("2999-01-01", "", "It lies ahead: there is no feedback yet.", None),
    ],
)
def test_a_time_that_cannot_be_is_not_asked_for(page, filled, first, last, says, right):
    asked = []
    page.on("request", lambda request: "/stats/dashboard" in request.url and asked.append(request.url))
    page.goto(f"{filled.url}/dashboard?range=custom&from={first}&to={last}&versions=policy-v1&tag=writing")
    expect(page.get_by_role("status")).to_have_text(says)
    expect(page.locator("#live")).to_have_text(f"Not up to date: {says}")
    expect(page.get_by_role("link", name="Download CSV")).to_be_hidden()
    expect(page.locator("#board")).to_be_hidden()
    assert asked == []
    assert violations(page) == []
    if right:
        choice(page, "To").fill(right)
    else:
        choice(page, "From").fill("2020-01-01")
    expect(page.locator("#live")).to_contain_text("Live")
    expect(page.get_by_role("status")).to_have_text("")
    expect(page.get_by_role("link", name="Download CSV")).to_be_visible()
    expect(choice(page, "Tag")).to_have_value("writing")
    expect(page.get_by_role("checkbox", name="policy-v1")).to_be_checked()
    assert "versions=policy-v1&tag=writing" in page.url
    if right:
        choice(page, "To").fill("2025-12-31")
        expect(page.get_by_role("status")).to_have_text(says)
        choice(page, "Time").select_option("7d")
        expect(page.get_by_role("status")).to_have_text("")
        expect(page.locator("#live")).to_contain_text("Live")


def test_an_end_is_typed_key_by_key(page, filled):
    opened(page, filled, "?range=custom&from=2026-01-01")
    choice(page, "To").focus()
    page.keyboard.type("01312026", delay=30)
    expect(choice(page, "To")).to_have_value("2026-01-31")
    expect(page.get_by_role("status")).to_have_text("")
    expect(page.locator("#live")).to_contain_text("Live")


def test_a_version_against_itself_is_no_comparison(chromium, gateway):
    with gateway.client() as client, signed_in(chromium, gateway) as page:
        rate(client, "one thumb")
        opened(page, gateway)
        says = "No choices in the selection. Two versions have to be compared first."
        for chart in ("matrix", "strengths"):
            expect(page.locator(f"#{chart} .nothing")).to_have_text(says)
        for _ in range(2):
            choose(client, "a")
        says = (
            "Two versions have to be compared first: all 2 choices here were of one version against itself."
        )
        for chart in ("matrix", "strengths"):
            expect(page.locator(f"#{chart} .nothing")).to_have_text(says)
        expect(page.locator("#rewards .nothing")).to_have_text(
            "No reward model has been measured on held-out pairs yet."
        )


def test_a_time_that_is_cut_is_said_to_be(page):
    choice(page, "Time").select_option("custom")
    choice(page, "From").fill("2020-01-01")
    expect(page.locator("#live")).to_contain_text("figures go back to")


def test_a_day_of_ones_own_ends_with_it_where_clocks_change(chromium, filled):
    with signed_in(chromium, filled, timezone_id="Europe/Berlin") as page:
        opened(page, filled, "?range=custom&from=2026-03-29")
        with page.expect_request("**/v1/stats/dashboard*") as asked:
            choice(page, "To").fill("2026-03-29")
        assert "since=1774738800&until=1774821600" in asked.value.url, "23 hours"


def test_a_late_answer_does_not_fill_the_next_dialog(page):
    waiting = []
    page.route("**/v1/completions/*", lambda route: waiting.append(route))
    openers = page.get_by_role("button", name="Open the conversation")
    openers.nth(0).click()
    page.keyboard.press("Escape")
    openers.nth(1).click()
    eventually(lambda: page.wait_for_timeout(50) or len(waiting) == 2)
    with page.expect_response("**/v1/completions/*"):
        waiting[0].continue_()
    page.wait_for_timeout(200)
    expect(page.locator("#conversation-body")).to_have_text("Loading …")
    waiting[1].continue_()
    expect(page.locator("#conversation-body .said")).to_have_count(2)


def test_a_look_that_fails_is_tried_again(page):
    page.route("**/v1/stats/live", lambda route: None)  # no news makes it look again
    page.reload()
    expect(page.locator("#live")).to_contain_text("Live")
    page.route("**/v1/stats/dashboard*", lambda route: route.fulfill(status=503, body=""), times=1)
    choice(page, "Source").select_option(index=1)
    expect(page.locator("#live")).to_contain_text("Not up to date")
    expect(page.locator("#live")).to_contain_text("Live", timeout=10_000)


def test_a_reason_that_went_with_ties_is_listed(page, filled):
    pair = {"messages": [{"role": "user", "content": "Left or right?"}]}
    with filled.client() as client:
        for winner in ("tie", "a"):
            said = {"pair_id": client.post("/v1/pairs", json=pair).json()["id"], "winner": winner}
            answer = client.post("/v1/comparisons", json={**said, "reasons": ["accurate"]})
            assert answer.status_code == 200
    expect(page.locator("#reasons")).to_contain_text(re.compile(r"\(with \d+ ties?\)"))


def test_it_listens_again_after_an_answer_that_is_an_error(page):
    tried = []

    def refuse(route):
        tried.append(route)
        route.fulfill(status=503, body="")

    page.route("**/v1/stats/live", refuse)
    page.reload()
    eventually(lambda: page.wait_for_timeout(200) or len(tried) > 1, 20)


def test_a_comment_leads_to_its_conversation(page, filled):
    page.get_by_role("button", name="Open the conversation").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".said")).to_have_count(2)
    expect(dialog.locator(".labels li")).to_have_count(1)
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def thumb(client: httpx.Client, rating: str) -> str:
    """A bare one."""
    completion_id = chat(client)["id"]
    body = {"completion_id": completion_id, "rating": rating}
    assert client.post("/v1/feedback", json=body).status_code == 200
    return completion_id


def choose(client: httpx.Client, winner: str, **more: object) -> None:
    pair = client.post("/v1/pairs", json={"messages": [{"role": "user", "content": "Left or right?"}]})
    answer = client.post("/v1/comparisons", json={"pair_id": pair.json()["id"], "winner": winner, **more})
    assert answer.status_code == 200


def test_bare_labels_lead_to_their_conversations(page, filled):
    page.get_by_text("All labels").click()
    with filled.client() as client:
        choose(client, "tie")
        newest = page.locator("#comments li").first
        expect(newest).to_contain_text("Tie")
        newest.get_by_role("button", name="Open the pair").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.locator(".said.reply")).to_have_count(2)
        page.keyboard.press("Escape")
        thumb(client, "down")
    expect(newest).to_contain_text("Thumb down")
    newest.get_by_role("button", name="Open the conversation").click()
    expect(dialog.locator(".said")).to_have_count(2)
    expect(dialog.locator(".labels li")).to_have_count(1)


def test_older_labels_are_listed_at_a_press_and_stay_as_new_ones_come(page, filled):
    rows = page.locator("#comments li")
    page.get_by_text("All labels").click()
    older = page.get_by_role("button", name="Older labels")
    expect(rows).to_have_count(30)
    for shown in (60, 90):
        older.click()
        expect(rows).to_have_count(shown)
    open_last = rows.last.get_by_role("button")
    open_last.focus()
    with filled.client() as client:
        thumb(client, "up")
    expect(rows).to_have_count(91)
    expect(rows.first).to_contain_text("Thumb up")
    expect(open_last).to_be_focused()
    choice(page, "Tag").select_option("writing")
    expect(rows).to_have_count(30)
    tagged = number(card(page, "Labels"))
    for shown in range(60, tagged + 30, 30):
        older.click()
        expect(rows).to_have_count(min(shown, tagged))
    expect(older).to_be_hidden()


def led_to(page: Page, gateway: Gateway, figure: Locator, comment: str) -> Locator:
    """The list that a figure leads to by keys alone; it keeps the focus when somebody comments meanwhile."""
    figure.focus()
    with gateway.client() as client:
        rate(client, comment)
    expect(page.locator("#comments")).to_contain_text(comment)
    expect(figure).to_be_focused()
    page.keyboard.press("Enter")
    labels = page.get_by_role("region", name="The newest labels")
    expect(labels).to_be_focused()
    return labels


def test_a_version_leads_to_its_labels_by_keys_alone(page, filled):
    page.locator("#approval summary").click()
    version = page.locator("#approval table").get_by_role("button", name="policy-v1")
    labels = led_to(page, filled, version, "while it has the focus")
    expect(labels).to_be_in_viewport()
    expect(labels).to_have_accessible_description("Only those of policy-v1")
    expect(choice_of_list(page, "All labels")).to_be_checked()
    rows = page.locator("#comments li")
    expect(rows).to_have_count(30)
    for row in rows.all():
        expect(row.locator(".tag", has_text="policy-v1")).to_have_count(1)
    assert page.url == f"{filled.url}/dashboard?labels=version%3Apolicy-v1"
    expect(page.locator("#approval tbody tr")).not_to_have_count(1)
    choice_of_list(page, "Comments").check(force=True)
    expect(page).to_have_url(f"{filled.url}/dashboard?comments=version%3Apolicy-v1")
    expect(page.get_by_text("Only those of policy-v1")).to_be_visible()
    expect(rows.first).to_contain_text("policy-v1")
    page.get_by_role("button", name="Show all").press("Enter")
    expect(rows.first).to_contain_text("policy-v0")
    expect(page.get_by_text("Only those of")).to_be_hidden()
    expect(labels).to_be_focused()
    assert page.url == f"{filled.url}/dashboard"


def test_versions_lead_to_their_labels_without_the_table(page, filled):
    ways = page.get_by_role("group", name="Labels of")
    expect(ways.get_by_role("button")).to_have_text(["policy-v3", "policy-v2", "policy-v1", "policy-v0"])
    version = ways.get_by_role("button", name="policy-v2")
    labels = led_to(page, filled, version, "while its button has the focus")
    expect(labels).to_have_accessible_description("Only those of policy-v2")
    rows = page.locator("#comments li")
    expect(rows).to_have_count(30)
    expect(rows.locator(".tag", has_text="policy-v2")).to_have_count(30)


def test_tables_of_versions_fit_beside_each_other(page):
    for chart in ("approval", "strengths"):
        page.locator(f"#{chart} summary").click()
        box = page.locator(f"#{chart} details .scroll")
        assert box.evaluate("box => box.scrollWidth - box.clientWidth") == 0


@pytest.mark.parametrize(
    ("query", "says", "which"),
    [
        ("tag=writing&labels=reason%3AToo+long", "Only those with the reason Too long", "All labels"),
        ("comments=version%3Apolicy-v1", "Only those of policy-v1", "Comments"),
    ],
)
def test_what_is_listed_stands_in_the_address(page, filled, query, says, which):
    opened(page, filled, f"?{query}")
    for _ in range(2):
        expect(page.locator("#only")).to_have_text(says)
        expect(choice_of_list(page, which)).to_be_checked()
        for row in page.locator("#comments li").all():
            expect(row).to_contain_text("Too long" if "reason" in says else "policy-v1")
        page.reload()
    expect(page.get_by_text("downloads are of the whole selection")).to_be_visible()
    expect(page.locator("#download-csv")).to_have_attribute(
        "href", re.compile("since=\\d+" + "&tag=writing" * ("tag" in query) + "$")
    )
    page.get_by_role("button", name="Show all").click()
    expect(page).to_have_url(f"{filled.url}/dashboard" + "?tag=writing" * ("tag" in query))
    expect(page.get_by_role("button", name="Clear filters")).to_be_visible(visible="tag" in query)


@pytest.mark.parametrize("query", ["labels=nonsense", "comments=reason%3AToo+long", "labels=tag%3Awriting"])
def test_a_list_that_there_is_not_is_not_narrowed(page, filled, query):
    opened(page, filled, f"?{query}")
    expect(page.locator("#comments li").first).to_be_visible()
    expect(page.locator(".narrowed")).to_be_hidden()


def choice_of_list(page: Page, name: str) -> Locator:
    return page.locator("#newest").get_by_role("radio", name=name)


def test_a_reason_leads_to_its_labels_until_something_else_is_looked_at(page, filled):
    reason = page.locator("#reasons").get_by_role("button", name="Too long")
    labels = led_to(page, filled, reason, "while it has the focus, too")
    expect(labels).to_have_accessible_description("Only those with the reason Too long")
    rows = page.locator("#comments li")
    expect(rows.first).to_contain_text("Too long")
    with filled.client() as client:
        found = client.get("/v1/stats/labels", params={"reason": "Too long", "limit": 200}).json()["data"]
    expect(rows).to_have_count(min(30, len(found)))
    expect(rows.filter(has_text="Too long")).to_have_count(min(30, len(found)))
    rows.first.get_by_role("button", name="Open the conversation").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".labels")).to_contain_text("Too long")
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert violations(page) == []
    choice_of_list(page, "Comments").check(force=True)
    expect(page.get_by_text("Only those with")).to_be_hidden()
    reason.press("Enter")
    expect(page.get_by_text("Only those with the reason Too long")).to_be_visible()
    choice(page, "Tag").select_option("writing")
    expect(page.get_by_text("Only those with")).to_be_hidden()
    expect(rows.first).to_contain_text("writing")


def test_a_reason_of_one_long_word_leaves_a_phone_as_wide_as_it_is(chromium, gateway):
    reason = "r" * 100
    with gateway.client() as client:
        rate(client, reason)
    with signed_in(chromium, gateway, viewport=NARROW) as page:
        opened(page, gateway)
        page.locator("#reasons").get_by_role("button", name=reason).click()
        expect(page.get_by_text(f"Only those with the reason {reason}")).to_be_visible()
        expect(page.locator("#comments li")).to_have_count(1)
        assert overflow(page) == 0


def test_a_selection_without_a_comment_says_so(page, filled):
    choice(page, "Source").select_option("import")
    expect(page.locator("#comments")).to_have_text("No comments in this selection.")
    page.get_by_text("All labels").click()
    expect(page.locator("#comments")).to_have_text("No labels in this selection.")


def test_a_comment_on_a_pair_leads_to_both_replies(page, filled):
    with filled.client() as client:
        pair = client.post("/v1/pairs", json={"messages": [{"role": "user", "content": "Left or right?"}]})
        answer = {"pair_id": pair.json()["id"], "winner": "b", "comment": "the right one, of a pair"}
        assert client.post("/v1/comparisons", json=answer).status_code == 200
    item = page.locator("#comments li", has_text="the right one, of a pair")
    item.get_by_role("button", name="Open the pair").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Left or right?")
    expect(dialog.locator(".said.reply")).to_have_count(2)
    expect(dialog).to_contain_text("Right chosen")


def test_text_of_users_is_text_everywhere(page, filled):
    """A hostile comment, reason, correction, tag, user, question and reply; the fixture minds the console."""
    before, filled.engine.reply = filled.engine.reply, HOSTILE
    with filled.client() as client:
        messages = [{"role": "user", "content": HOSTILE}]
        tag = {"tag": "<b onclick=hacked=1>tag</b>"}
        rate(client, HOSTILE, messages=messages, metadata=tag, user=HOSTILE)
    filled.engine.reply = before
    item = page.locator("#comments li").first
    expect(item.locator(".said")).to_have_text(HOSTILE)
    expect(item).to_contain_text(tag["tag"])
    expect(page.locator("#reasons")).to_contain_text(HOSTILE[:60])
    item.get_by_role("button", name="Open the conversation").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".said.reply")).to_contain_text(HOSTILE)
    expect(dialog.locator(".labels")).to_contain_text(f"Better: {HOSTILE}")
    assert dialog.locator("img, script, b[onclick]").count() == 0
    assert page.locator("main img, main script, main [onerror], main [onclick]").count() == 0
    page.get_by_label("Close").click()
    expect(choice(page, "Tag").locator("option", has_text=tag["tag"])).to_have_count(1)
    assert page.evaluate("window.hacked") is None


def test_what_turns_the_direction_turns_nothing_beside_it(page, filled):
    turned = "\u2067\u202e123 abc"
    with filled.client() as client:
        rate(client, turned)
        pair = {"messages": [{"role": "user", "content": "Left or right?"}]}
        said = {"pair_id": client.post("/v1/pairs", json=pair).json()["id"], "winner": "tie"}
        client.post("/v1/comparisons", json={**said, "reasons": [turned]})
    tied = page.locator("#reasons th", has_text="123").locator(".soft")
    expect(tied).to_have_text(" (with 1 tie)")
    first, last = tied.evaluate(
        """element => [1, 11].map(at => {
          const range = document.createRange();
          range.setStart(element.firstChild, at);
          range.setEnd(element.firstChild, at + 1);
          return range.getBoundingClientRect().x;
        })"""
    )
    assert first < last


@pytest.mark.parametrize(("finish", "says"), [("length", " · cut at its longest"), ("stop", "")])
def test_how_a_reply_ended_is_said_in_words(page, finish, says):
    told = {"finish_reason": finish, "completion_tokens": 20, "metadata": {"tag": "faq"}}

    def answer(route):
        found = route.fetch()
        route.fulfill(response=found, json={**found.json(), **told})

    page.route("**/v1/completions/*", answer)
    page.get_by_role("button", name="Open the conversation").first.click()
    expect(page.locator("#conversation-body > p").first).to_have_text(
        re.compile(rf"^policy-v\d · .* · 20 tokens{says} · faq$")
    )


def test_downloads_carry_the_filters(page, filled, tmp_path: Path):
    choice(page, "Tag").select_option("writing")
    expect(page.locator("#download-csv")).to_have_attribute("href", re.compile("tag=writing"))
    with page.expect_download() as caught:
        page.get_by_role("link", name="Download CSV").click()
    caught.value.save_as(tmp_path / "feedback.csv")
    with (tmp_path / "feedback.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == number(card(page, "Labels"))
    assert {row["tag"] for row in rows} == {"writing"}


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_and_passes_axe(chromium, filled, viewport, theme):
    with signed_in(chromium, filled, viewport=viewport, color_scheme=theme) as page:
        opened(page, filled, "?range=7d")
        page.locator("#matrix summary").click()
        assert violations(page) == []
        assert overflow(page) == 0


def test_charts_follow_the_theme(page):
    def bar() -> str:
        return page.locator("#approval .bars path").first.evaluate("path => getComputedStyle(path).fill")

    before = bar()
    while "dark" not in page.get_by_role("button", name="Theme").get_attribute("aria-label"):
        page.get_by_role("button", name="Theme").click()
    expect(page.locator("#approval .bars path").first).not_to_have_css("fill", before)


def test_an_empty_service_says_how_to_get_feedback(chromium, gateway):
    with signed_in(chromium, gateway) as page:
        page.goto(gateway.url + "/dashboard")
        expect(page.get_by_role("heading", name="No feedback yet")).to_be_visible()
        expect(page.locator("#board")).to_be_hidden()
        assert violations(page) == []
        with gateway.client() as client:
            rate(client, "the first one")
        expect(page.locator("#comments")).to_contain_text("the first one")
        expect(page.get_by_role("heading", name="No feedback yet")).to_be_hidden()


def test_users_do_not_get_in(chromium, gateway):
    with signed_in(chromium, gateway, key=gateway.key(Role.user)) as page:
        page.goto(gateway.url + "/dashboard")
        expect(page.get_by_role("heading", name="This page needs the role viewer")).to_be_visible()
