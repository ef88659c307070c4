"""The chat page in a real browser, in front of a real gateway and a fake engine."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from feedback.caller import Role
from tests.browser import NARROW, chromium, overflow, signed_in, violations
from tests.conftest import Gateway
from tests.fake_engine import FakeEngine
from tests.servers import eventually

__all__ = ["chromium"]

pytestmark = pytest.mark.slow

REPLY = (
    "The capital is **Paris**.\n\n1. It lies on the Seine.\n2. It is old.\n\n| a | b |\n|---|---|\n| 1 | 2 |"
)
HOSTILE = (
    "<img src=x onerror=window.hacked=1><script>window.hacked=1</script> [x](javascript:window.hacked=1)"
)


@pytest.fixture
def model(steady: Gateway) -> Iterator[FakeEngine]:
    """The engine behind the gateway, which answers as it did before once the test is over."""
    before = dict(vars(steady.engine))
    steady.engine.reply = REPLY
    yield steady.engine
    vars(steady.engine).update(
        {name: before[name] for name in ("reply", "delay", "first_delay", "status", "die_after", "reads")}
    )


@pytest.fixture
def page(chromium: Browser, steady: Gateway, model: FakeEngine) -> Iterator[Page]:
    with signed_in(chromium, steady) as page:
        yield page


def in_turn(monkeypatch: pytest.MonkeyPatch, *replies: str) -> None:
    """Let the engine give one reply after the other."""
    following = itertools.cycle(replies)
    monkeypatch.setattr(FakeEngine, "reply", property(lambda _: next(following)), raising=False)


def ask(page: Page, text: str = "What is the capital of France?", key: str = "Enter") -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press(key)


def answered(page: Page, text: str = "What is the capital of France?") -> None:
    ask(page, text)
    expect(page.locator(".turn-end").last).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def compared(page: Page) -> None:
    ask(page, key="Control+Enter")
    expect(page.get_by_role("form", name="Your choice")).to_be_visible()


def stored(steady: Gateway, page: Page, key: str | None = None) -> dict[str, Any]:
    """The rating of the last answer that this key gave, as the service has it (default: the operator's)."""
    user = page.locator("meta[name=user]").get_attribute("content")
    conversation = page.evaluate("Object.values(localStorage).map(JSON.parse).find(c => c.turns?.length)")
    reply = conversation["turns"][-1]["replies"][-1]["id"]
    with steady.client(key) as client:
        return dict(client.get(f"/v1/feedback/{reply}", params={"user": user}).json())


def test_a_chat_streams_is_rendered_and_says_who_wrote_it(page, model):
    model.delay = 0.1
    ask(page)
    expect(page.locator(".writing")).to_contain_text("The capital")
    expect(page.locator(".prose strong")).to_have_text("Paris")
    expect(page.locator(".prose ol li")).to_have_count(2)
    expect(page.locator(".turn-end .version")).to_have_text("policy-v0")
    expect(page.get_by_role("status")).to_contain_text("The answer: The capital")
    request = model.requests[-1]
    assert request["messages"] == [{"role": "user", "content": "What is the capital of France?"}]
    assert request["user"].startswith("web-")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("What is the capital of France?")
    expect(page.locator(".prose strong")).to_have_text("Paris")
    answered(page, "And of Spain?")
    assert [message["role"] for message in model.requests[-1]["messages"]] == ["user", "assistant", "user"]
    assert model.requests[-1]["messages"][1]["content"] == REPLY


def test_a_reply_can_be_stopped_and_asked_for_again(page, model):
    model.reply, model.delay = "word " * 500, 0.02
    aborted = model.aborted
    ask(page)
    expect(page.locator(".writing")).to_contain_text("word word")
    page.keyboard.press("Escape")
    expect(page.locator(".turn-end")).to_contain_text("stopped")
    eventually(lambda: model.aborted == aborted + 1)
    model.reply, model.delay = "Whole.", 0.0
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator(".pager")).to_contain_text("2 of 2")
    expect(page.locator(".prose")).to_have_text("Whole.")
    page.get_by_role("button", name="Previous answer").click()
    expect(page.locator(".prose")).to_contain_text("word word")
    expect(page.get_by_role("button", name="Next answer")).to_be_enabled()
    ask(page, "Go on")
    expect(page.locator(".turn-end")).to_have_count(2)
    assert model.requests[-1]["messages"][1]["content"].startswith("word word")


def test_a_thumb_is_saved_at_once_and_may_say_more(page, steady):
    answered(page)
    page.get_by_role("button", name="Good answer").click()
    expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    assert stored(steady, page)["rating"] == "up"
    page.get_by_role("button", name="Add details").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Bad").click()
    dialog.get_by_label("too long").check()
    dialog.get_by_label("Comment").fill(HOSTILE)
    dialog.get_by_role("button", name="Start from this one").click()
    expect(dialog.get_by_label("A better answer")).to_have_value(REPLY)
    dialog.get_by_label("A better answer").fill("Paris.")
    dialog.get_by_role("button", name="Start from this one").click()
    expect(dialog.get_by_label("A better answer")).to_have_value("Paris.")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Edit details")).to_be_focused()
    rating = stored(steady, page)
    assert (rating["rating"], rating["reasons"], rating["correction"]) == ("down", ["too long"], "Paris.")
    assert rating["comment"] == HOSTILE


def test_enter_after_a_thumb_down_keeps_it(page, steady):
    answered(page)
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("wrong")).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    rating = stored(steady, page)
    assert (rating["rating"], rating["reasons"]) == ("down", ["wrong"])


def test_a_thumb_is_withdrawn_by_a_second_press_unless_words_would_be_lost(page, steady):
    answered(page)
    good = page.get_by_role("button", name="Good answer")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "false")
    assert stored(steady, page)["error"]["code"] == "rating_not_found"
    page.get_by_role("button", name="Bad answer").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Comment").fill("Too dry.")
    dialog.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Bad answer").click()
    expect(dialog.get_by_label("Comment")).to_have_value("Too dry.")
    dialog.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "false")
    assert stored(steady, page)["error"]["code"] == "rating_not_found"


def test_two_answers_are_blind_until_the_choice_and_the_better_one_goes_on(page, steady, model, monkeypatch):
    in_turn(monkeypatch, "First.", "Second.")
    compared(page)
    assert "policy-v" not in page.locator(".thread").inner_text()
    expect(page.get_by_label("Your message")).to_be_hidden()
    better = page.get_by_role("article", name="Answer B").locator(".prose").inner_text()
    page.get_by_text("far better").click()
    page.locator("summary").click()
    page.get_by_role("textbox", name="Comment").fill("Shorter")
    page.get_by_role("heading", level=1).click()
    page.keyboard.press("2")
    expect(page.locator(".verdict")).to_have_text("You preferred B. Both were samples of policy-v0.")
    expect(page.locator(".sides .version")).to_have_text(["policy-v0", "policy-v0"])
    page.reload()
    expect(page.locator(".card.chosen .prose")).to_have_text(better)
    ask(page, "Go on")
    expect(page.locator(".turn.reply")).to_have_count(2)
    expect(page.locator(".turn-end").first).to_contain_text("preferred to another answer of policy-v0")
    assert model.requests[-1]["messages"][1] == {"role": "assistant", "content": better}
    said = json.loads(steady.redis.xrevrange("tw:events", count=1)[0][1]["body"])
    assert (said["winner"], said["strength"], said["comment"]) == ("b", 1.0, "Shorter")


def test_the_choice_reveals_which_version_was_which(chromium, gateway):
    gateway.publish("policy-v1")
    with gateway.client() as client:
        assert client.post("/v1/policies/policy-v1/canary", json={"reason": "a test"}).status_code == 200
        eventually(lambda: "policy-v1" in gateway.engine.adapters)
        eventually(lambda: "policy-v1" in client.get("/v1/models").text)
    with signed_in(chromium, gateway) as page:
        compared(page)
        assert "policy-v" not in page.locator(".thread").inner_text()
        page.keyboard.press("1")
        expect(page.locator(".verdict")).to_be_visible()
        a, b = page.locator(".sides .version").all_inner_texts()
        assert {a, b} == {"policy-v0", "policy-v1"}
        expect(page.locator(".verdict")).to_have_text(f"You preferred A, by {a}; the other one was by {b}.")


@pytest.mark.parametrize(("key", "says"), [("0", "You called it a tie"), ("x", "You found both bad")])
def test_neither_may_be_better(page, key, says):
    compared(page)
    page.keyboard.press(key)
    expect(page.locator(".verdict")).to_contain_text(says)
    page.get_by_role("button", name="Go on with B").click()
    expect(page.get_by_role("article", name="Answer B, by policy-v0")).to_contain_text("continues")


@pytest.mark.parametrize(
    ("key", "reasons"), [("1", ["clear"]), ("0", ["clear", "too long"]), ("x", ["too long"])]
)
def test_reasons_go_with_what_they_speak_for(page, key, reasons):
    compared(page)
    page.get_by_text("Say why").click()
    page.get_by_role("group", name="What makes one better?").get_by_label("clear").check()
    page.get_by_role("group", name="Or what makes both bad?").get_by_label("too long").check()
    with page.expect_request("**/v1/comparisons") as asked:
        page.keyboard.press(key)
    assert asked.value.post_data_json["reasons"] == reasons
    expect(page.locator(".verdict")).to_be_visible()


def test_a_pair_may_be_skipped(page):
    compared(page)
    page.get_by_role("button", name="Skip").click()
    expect(page.locator(".turn-end")).to_have_count(1)
    expect(page.locator(".sides")).to_have_count(0)


def test_a_choice_that_fails_keeps_what_was_filled_in(page):
    compared(page)
    page.get_by_text("Say why").click()
    page.get_by_label("far better").check()
    page.locator("#pair-comment").fill("the first one is kinder")
    page.route(
        "**/v1/comparisons", lambda route: route.fulfill(status=503, json={"error": {"message": "away"}})
    )
    page.get_by_role("button", name="A is better").click()
    expect(page.locator("#banner")).to_contain_text("away")
    page.get_by_label("far better").focus()
    expect(page.locator("#pair-comment")).to_have_value("the first one is kinder")
    page.evaluate(
        "window.dispatchEvent(new StorageEvent('storage', {key: Object.keys(localStorage).find("
        "key => key.startsWith('thumbwheel:chat'))}))"
    )
    expect(page.get_by_label("far better")).to_be_focused()
    expect(page.locator("#pair-comment")).to_have_value("the first one is kinder")
    expect(page.get_by_label("far better")).to_be_checked()
    page.unroute("**/v1/comparisons")
    with page.expect_request("**/v1/comparisons") as asked:
        page.get_by_role("button", name="A is better").click()
    assert (asked.value.post_data_json["comment"], asked.value.post_data_json["strength"]) == (
        "the first one is kinder", 1,
    )  # fmt: skip
    expect(page.locator(".verdict")).to_be_visible()


def test_a_choice_that_waits_keeps_what_was_filled_in_while_another_one_is_looked_at(page):
    for number in ("first", "second"):
        page.get_by_role("button", name="New conversation").click()
        ask(page, f"The {number} question", key="Control+Enter")
        expect(page.get_by_role("form", name="Your choice")).to_be_visible()
        page.get_by_text("Say why").click()
        page.locator("#pair-comment").fill(f"the {number} comment")
    for number in ("first", "second"):
        page.get_by_role("button", name=f"The {number} question", exact=True).click()
        expect(page.locator("#pair-comment")).to_have_value(f"the {number} comment")


def test_a_choice_on_its_way_is_neither_given_twice_nor_skipped(page):
    compared(page)
    waiting = []
    page.route("**/v1/comparisons", lambda route: waiting.append(route))
    page.locator("body").press("1")
    page.locator("body").press("2")
    page.get_by_role("button", name="Skip").click()
    expect(page.get_by_role("form", name="Your choice")).to_be_visible()
    eventually(lambda: page.wait_for_timeout(50) or waiting)
    assert len(waiting) == 1
    waiting[0].continue_()
    expect(page.locator(".verdict")).to_contain_text("You preferred A")
    expect(page.locator(".turn.reply")).to_have_count(1)


def test_a_conversation_that_is_deleted_while_it_is_answered_stays_deleted(page, model):
    model.reply, model.delay = "word " * 500, 0.02
    ask(page)
    expect(page.locator(".writing")).to_contain_text("word word")
    page.get_by_role("button", name="Delete: What is the capital").click()
    page.locator("#remove").get_by_role("button", name="Delete").click()
    expect(page.locator("#list")).to_contain_text("will be listed here")
    page.wait_for_timeout(300)  # the reply that was stopped ends in this time
    page.reload()
    expect(page.locator("#list")).to_contain_text("will be listed here")


def test_a_rating_on_its_way_does_not_bring_back_what_is_deleted(page):
    answered(page)
    waiting = []
    page.route("**/v1/feedback", lambda route: waiting.append(route))
    page.get_by_role("button", name="Good answer").click()
    page.get_by_role("button", name="Delete: What is the capital").click()
    page.locator("#remove").get_by_role("button", name="Delete").click()
    eventually(lambda: page.wait_for_timeout(50) or waiting)
    with page.expect_response("**/v1/feedback"):
        waiting[0].continue_()
    expect(page.get_by_role("status")).to_have_text("The rating is saved.")
    expect(page.locator("#list")).to_contain_text("will be listed here")


def test_two_tabs_keep_what_either_has_written(page, model):
    answered(page, "First question")
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".turn-end")).to_have_count(1)
    page.get_by_role("button", name="New conversation").click()
    model.reply, model.delay = "word " * 500, 0.02
    ask(page, "Second question")
    expect(page.locator(".writing")).to_contain_text("word word")
    ask(other, "From the other tab")
    expect(other.locator(".writing")).to_contain_text("word word")
    for tab in (other, page):
        tab.get_by_role("button", name="Stop").click()
        expect(tab.get_by_role("button", name="Stop")).to_be_hidden()
    model.reply, model.delay = "Short.", 0.0
    page.get_by_role("button", name="First question", exact=True).click()
    expect(page.locator(".said")).to_have_count(2)
    waiting = []
    page.route("**/v1/feedback", lambda route: waiting.append(route))
    page.get_by_role("button", name="Good answer").first.click()
    answered(other, "And once more")
    expect(page.locator(".said")).to_have_count(3)
    waiting[0].continue_()
    expect(page.get_by_role("button", name="Good answer").first).to_have_attribute("aria-pressed", "true")
    expect(other.get_by_role("button", name="Good answer").first).to_have_attribute("aria-pressed", "true")
    expect(other.locator(".said")).to_have_count(3)


def test_the_focus_stays_in_the_list_while_an_answer_comes(page, model):
    answered(page, "First question")
    model.reply, model.delay = "slow " * 20, 0.05
    ask(page, "Second question")
    page.get_by_role("button", name="Rename: First question").focus()
    expect(page.locator(".turn-end")).to_have_count(2)
    expect(page.get_by_role("button", name="Rename: First question")).to_be_focused()


def test_what_is_hostile_is_text_everywhere(page, model):
    model.reply = f"{HOSTILE}\n\n```\n{HOSTILE}\n```"
    answered(page, HOSTILE)
    expect(page.locator(".said")).to_contain_text("<img src=x onerror")
    expect(page.locator(".prose").first).to_contain_text("<script>window.hacked=1</script>")
    expect(page.locator("#list")).to_contain_text("<img src=x onerror")
    compared(page)
    page.locator("[data-choice=a]").click()
    expect(page.locator(".verdict")).to_be_visible()
    page.get_by_role("button", name="Rename").click()
    page.get_by_role("dialog").get_by_label("Name").fill(HOSTILE[:90])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("<img src=x onerror")
    page.reload()
    expect(page.locator(".said").first).to_contain_text("<img src=x onerror")
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert page.locator(".thread img, .thread script, .thread [onerror], #list img").count() == 0
    assert page.locator(".thread a").count() == 0


def test_an_error_says_so_and_loses_nothing(page, model):
    model.status = 500
    ask(page)
    expect(page.get_by_role("alert").filter(has_text="The engine could not answer")).to_be_visible()
    model.status = 200
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".prose strong")).to_have_text("Paris")
    expect(page.locator(".failure")).to_have_count(0)


def test_a_conversation_goes_on_without_its_beginning_when_the_model_cannot_read_all(page, model):
    model.reply, model.reads = "three words here", 8
    answered(page, "one two")
    answered(page, "four five")
    expect(page.get_by_text("without the first")).to_have_count(0)
    answered(page, "six")
    assert [message["content"] for message in model.requests[-1]["messages"]] == [
        "four five", "three words here", "six",
    ]  # fmt: skip
    expect(page.get_by_text("without the first 2 messages")).to_be_visible()
    refused = len(model.requests)
    ask(page, "seven", key="Control+Enter")
    expect(page.get_by_role("form", name="Your choice")).to_be_visible()
    assert [request["messages"][0]["content"] for request in model.requests[refused:]].count("one two") == 0


def test_a_message_that_the_model_cannot_read_is_back_in_the_box(page, model):
    model.reads = 3
    box = page.get_by_label("Your message")
    ask(page, "one two three four")
    expect(page.get_by_role("alert")).to_contain_text("longer than the model can read")
    expect(box).to_have_value("one two three four")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    answered(page, "one two")
    expect(page.get_by_role("alert")).to_have_count(0)
    assert [message["content"] for message in model.requests[-1]["messages"]] == ["one two"]


def test_a_stream_that_breaks_keeps_what_was_written(page, model):
    model.die_after = 3
    ask(page)
    expect(page.get_by_role("alert").filter(has_text="went away in the middle")).to_be_visible()
    expect(page.locator(".prose")).to_contain_text("The capital is")
    expect(page.locator(".turn-end")).to_contain_text("broken off")
    model.die_after = None
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".pager")).to_contain_text("2 of 2")


def test_conversations_keep_their_drafts_names_and_replies(page, model):
    answered(page, "First question")
    page.get_by_label("Your message").fill("half a thought")
    page.get_by_role("button", name="New conversation").click()
    expect(page.get_by_label("Your message")).to_have_value("")
    model.reply, model.delay = "slow " * 30, 0.05
    ask(page, "Second question")
    expect(page.locator(".writing")).to_contain_text("slow")
    page.get_by_role("button", name="First question", exact=True).click()
    expect(page.get_by_label("Your message")).to_have_value("half a thought")
    expect(page.locator(".writing")).to_have_count(0)
    page.get_by_role("button", name="Second question", exact=True).click()
    expect(page.locator(".turn-end")).to_be_visible()
    expect(page.locator(".prose")).to_contain_text(("slow " * 30).strip())
    page.get_by_role("button", name="Rename: Second question").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Renamed")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Renamed")
    page.get_by_role("button", name="Delete: Renamed").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.locator("#list li")).to_have_count(1)
    expect(page.locator(".welcome")).to_be_visible()


def test_the_keyboard_does_it_all(page, steady):
    answered(page)
    page.get_by_label("Your message").dispatch_event("keydown", {"key": "Escape", "isComposing": True})
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".reply")).to_be_focused()
    page.keyboard.down("u")
    expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    page.keyboard.down("u")  # a key that is held is pressed once
    page.keyboard.up("u")
    page.wait_for_timeout(200)
    expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".reply")).to_be_focused()
    page.keyboard.press("e")
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    expect(page.locator(".pager")).to_contain_text("2 of 2")
    page.keyboard.press("/")
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.type("u?")
    page.keyboard.press("Shift+Enter")
    expect(page.get_by_label("Your message")).to_have_value("u?\n")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keyboard shortcuts")
    page.get_by_label("Single keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(page.locator(".reply")).to_have_count(1)


def test_samples_are_asked_at_a_press(page, model):
    page.get_by_role("button", name=re.compile("potatoes")).click()
    expect(page.locator(".turn-end")).to_be_visible()
    assert "potatoes" in model.requests[-1]["messages"][0]["content"]


def test_a_session_that_ends_is_told_and_the_message_stays(chromium, steady, model):
    with steady.client() as operator:
        made = operator.post("/v1/keys", json={"name": "guest"}).json()
        with signed_in(chromium, steady, made["key"]) as page:
            operator.delete(f"/v1/keys/{made['id']}")
            ask(page, "Are you there?")
            expect(page.locator("#banner")).to_contain_text("You are signed out")
            expect(page.locator(".said")).to_contain_text("Are you there?")
            failure = page.locator(".failure")
            expect(failure).to_have_text("You are signed out.Sign in")
            expect(failure.get_by_role("button")).to_have_count(0)
            back = failure.get_by_role("link").get_attribute("href")
            assert re.fullmatch(r"/signin\?next=%2F%23[\w-]+", back)
            page.get_by_role("link", name="Sign in again").click()
            expect(page.get_by_label("API key")).to_be_focused()
            page.get_by_label("API key").fill(steady.key(Role.user))
            page.keyboard.press("Enter")
            expect(page.locator("#list")).to_contain_text("Are you there?")


def test_a_thumb_without_a_session_leaves_the_way_back(chromium, steady, model):
    with steady.client() as operator:
        made = operator.post("/v1/keys", json={"name": "guest"}).json()
        with signed_in(chromium, steady, made["key"]) as page:
            answered(page)
            operator.delete(f"/v1/keys/{made['id']}")
            with page.expect_response("**/v1/feedback") as refused:
                page.get_by_role("button", name="Good answer").click()
            assert refused.value.status == 401
            page.wait_for_timeout(200)
            expect(page.locator("#banner").get_by_role("link", name="Sign in again")).to_be_visible()


def test_details_that_were_refused_are_there_after_signing_in_again(chromium, steady, model):
    with steady.client() as operator:
        made = operator.post("/v1/keys", json={"name": "guest"}).json()
        with signed_in(chromium, steady, made["key"]) as page:
            answered(page)
            page.get_by_role("button", name="Good answer").click()
            page.get_by_role("button", name="Add details").click()
            operator.delete(f"/v1/keys/{made['id']}")
            dialog = page.get_by_role("dialog")
            dialog.get_by_label("concise").check()
            dialog.get_by_label("Comment").fill("Just so.")
            dialog.get_by_role("button", name="Save").click()
            expect(dialog.get_by_role("alert")).to_have_text("You are signed out. Sign in again")
            dialog.get_by_role("link", name="Sign in again").click()
            key = steady.key(Role.user)
            page.get_by_label("API key").fill(key)
            page.keyboard.press("Enter")
            page.get_by_role("button", name="Add details").click()
            expect(dialog.get_by_label("concise")).to_be_checked()
            expect(dialog.get_by_label("Comment")).to_have_value("Just so.")
            dialog.get_by_role("button", name="Save").click()
            expect(dialog).to_be_hidden()
            rating = stored(steady, page, key)
            assert (rating["reasons"], rating["comment"]) == (["concise"], "Just so.")


def test_a_link_from_elsewhere_goes_on_when_signed_in(page, steady):
    page.goto(steady.url + "/signin?next=%2F%3Fx%3D1")
    page.wait_for_url(steady.url + "/?x=1")


def test_signing_out_leads_to_the_sign_in(page, steady):
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(steady.url + "/signin")
    page.goto(steady.url + "/")
    page.wait_for_url(steady.url + "/signin?next=%2F")


def test_the_theme_is_chosen_and_kept(page):
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    for _ in range(2):
        page.get_by_role("button", name="Theme").click()
    dark = background()
    assert dark != light
    page.reload()
    assert background() == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_passes_the_accessibility_checker(chromium, steady, model, scheme):
    with signed_in(chromium, steady, color_scheme=scheme) as page:
        assert violations(page) == []
        answered(page)
        page.get_by_role("button", name="Bad answer").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        assert violations(page) == []
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("dialog")).to_be_hidden()
        compared(page)
        assert violations(page) == []
        page.locator("[data-choice=a]").click()
        expect(page.locator(".verdict")).to_be_visible()
        model.status = 500
        ask(page)
        expect(page.locator(".failure")).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        assert violations(page) == []
        page.goto(steady.url + "/signin")
        assert violations(page) == []


def test_a_phone_is_wide_enough(chromium, steady, model):
    model.reply = (
        f"{'x' * 300}\n\n```\n{'y' * 300}\n```\n\n|{'a|' * 30}\n|{'-|' * 30}\n|{'b|' * 30}\n\n`{'z' * 300}`"
    )
    with signed_in(chromium, steady, viewport=NARROW) as page:
        assert overflow(page) <= 0
        answered(page, "w" * 200)
        assert overflow(page) <= 0
        compared(page)
        page.get_by_text("Say why").click()
        comment, form = page.locator("#pair-comment").bounding_box(), page.locator(".choice").bounding_box()
        assert comment["width"] > 0.85 * form["width"]
        assert overflow(page) <= 0
        page.locator("[data-choice=a]").click()
        expect(page.locator(".verdict")).to_be_visible()
        assert overflow(page) <= 0
        assert violations(page) == []
        page.get_by_role("button", name="Conversations").click()
        expect(page.locator("#list")).to_be_visible()
        assert violations(page) == []
        page.get_by_role("button", name="Close the list").click()
        expect(page.locator("#list")).to_be_hidden()
