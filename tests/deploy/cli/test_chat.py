"""`thumbwheel chat`: replies that are stopped, and asked for again."""

import io

import pytest
from rich.console import Console

from deploy.cli.chat import LEAVING, Talk, converse
from deploy.client import Client
from tests.servers import eventually

STOP = "\x03"
NOTHING = {
    "/again": "There is nothing to answer again. Say something first.",
    "/pair": "Ask something first, or give the question: /pair QUESTION",
}


def talked(gateway, *lines: str | type[BaseException]) -> tuple[Talk, str]:
    """A conversation of these lines, where an exception is what a key does; and what it shows."""
    rest = iter(lines)

    def read(_: str) -> str:
        line = next(rest, "/quit")
        if isinstance(line, str):
            return line
        raise line

    out = io.StringIO()
    with Client(gateway.url, gateway.operator_key) as client:
        talk = Talk(client, Console(file=out, width=200), {})
        converse(talk, read)
    return talk, out.getvalue()


def test_a_reply_is_stopped_by_ctrl_c_and_the_chat_goes_on(terminal, gateway, client):
    gateway.engine.reply, gateway.engine.delay = "One two " + "and so on " * 500, 0.1
    chat = terminal("chat", "--user", "ann")
    chat.shows("you> ")
    chat.type("Count!\n")
    chat.shows("One two and")
    chat.type(STOP)
    chat.shows("  stopped")
    eventually(lambda: gateway.engine.aborted == 1)
    gateway.engine.reply, gateway.engine.delay = "A fine answer.", 0
    chat.shows("you> ", 2)
    chat.type("/down #too-long\n")
    chat.shows("Thanks: thumb down for policy-v0. Reasons: too long.")
    chat.type("Shorter.\n")
    chat.shows("A fine answer.")
    chat.type("/quit\n")
    assert chat.wait() == 0
    _, stopped, _ = gateway.engine.requests[-1]["messages"]
    assert stopped["role"] == "assistant"
    assert stopped["content"].startswith("One two and"), "what has come of it stays"
    assert len(stopped["content"]) < 500
    [label] = client.get("/v1/stats/labels").json()["data"]
    eventually(lambda: client.get(f"/v1/completions/{label['completion_id']}").status_code == 200)
    found = client.get(f"/v1/completions/{label['completion_id']}").json()
    assert (found["reply"].startswith("One two"), found["finish_reason"]) == (True, None)


def test_what_is_stopped_before_it_began_is_asked_again(terminal, gateway):
    gateway.engine.first_delay = 600
    chat = terminal("chat")
    chat.shows("you> ")
    chat.type("Hello\n")
    eventually(lambda: gateway.engine.requests)
    chat.type(STOP)
    chat.shows("you> ", 2)
    gateway.engine.first_delay = 0
    chat.type("/up\n/again\n")
    chat.shows("There is no reply to rate yet.")
    chat.shows("A fine answer.")
    chat.type("\x04")
    assert chat.wait() == 0
    assert gateway.engine.requests[-1]["messages"] == [{"role": "user", "content": "Hello"}]


def test_one_question_that_is_stopped_ends(terminal, gateway):
    gateway.engine.reply, gateway.engine.delay = "One two " * 500, 0.1
    chat = terminal("chat", "Count!")
    chat.shows("One two One")
    chat.type(STOP)
    assert chat.wait() == 130


def test_another_reply_takes_the_place_of_the_last(gateway, client):
    talk, told = talked(gateway, "One?", "Two?", "/up", "/again", "/down")
    assert told.count("A fine answer.") == 3
    assert [message["content"] for message in talk.messages[::2]] == ["One?", "Two?"]
    assert len(talk.messages) == 4
    _, second, third = gateway.engine.requests[-3:]
    assert second["messages"] == third["messages"]
    ratings = client.get("/v1/stats/labels").json()["data"]
    assert [label["rating"] for label in ratings] == ["down", "up"], "each of another reply"
    assert len({label["completion_id"] for label in ratings}) == 2


def test_a_question_that_was_refused_is_asked_again(gateway):
    gateway.engine.die_after = 1

    def live(_: str) -> str:
        gateway.engine.die_after = None
        return "/again"

    lines = iter([lambda _: "One?", live])
    with Client(gateway.url, gateway.operator_key) as client:
        talk = Talk(client, Console(quiet=True), {})
        converse(talk, lambda prompt: next(lines, lambda _: "/quit")(prompt))
    assert [message["content"] for message in talk.messages] == ["One?", "A fine answer."]


@pytest.mark.parametrize("line", ["/again", "/pair"])
def test_there_is_nothing_to_answer_again_at_first(gateway, line):
    talk, told = talked(gateway, line, "One?", "/new", line)
    assert told.count(NOTHING[line]) == 2
    assert len(gateway.engine.requests) == 1
    assert talk.messages == []


def test_a_pair_that_is_left_open_gets_one_reply(gateway):
    talk, _ = talked(gateway, "/pair Why?", KeyboardInterrupt, "/again")
    assert [message["content"] for message in talk.messages] == ["Why?", "A fine answer."]


def test_ctrl_c_leaves_at_the_second_time(gateway):
    _, told = talked(gateway, KeyboardInterrupt, "One?", KeyboardInterrupt, KeyboardInterrupt, "Two?")
    assert told.count(LEAVING) == 2
    assert [request["messages"][-1]["content"] for request in gateway.engine.requests] == ["One?"]
