"""The chat log while Redis is away: bounded, counted, and lossless where it can be."""

import asyncio
from typing import Any

import orjson
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from feedback.types import Completion, Opened
from serving.chatlog import ChatLog
from serving.completions import Served, completions_of, read_chat
from serving.metrics import Metrics

MESSAGES = [{"role": "user", "content": "Hello?"}]


class Store:
    """Stands in for feedback's store, so that it can be away at will."""

    def __init__(self) -> None:
        self.away = False
        self.opened: list[tuple[str, str, str]] = []
        self.logged: list[Completion] = []

    async def open(self, begun: Any) -> None:
        if self.away:
            raise RedisConnectionError("away")
        self.opened += begun

    async def log(self, completions: Any) -> None:
        if self.away:
            raise RedisConnectionError("away")
        await asyncio.sleep(0.01)
        self.logged += completions


class NoTally:
    async def count(self, completions: Any) -> None: ...


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def log(store: Store, metrics: Metrics) -> ChatLog:
    return ChatLog(store, NoTally(), metrics, capacity=5)  # type: ignore[arg-type]


def served(number: int, reply: bytes | None = None, **more: Any) -> Served:
    request = read_chat({"model": "policy", "messages": MESSAGES, **more})
    message = {"message": {"content": f"reply {number}"}, "finish_reason": "stop"}
    done = Served(f"chatcmpl-{number}", "policy-v0", request, "k", 1.0, finished=True)
    done.chunks.append(orjson.dumps({"choices": [message]}) if reply is None else reply)
    return done


def dropped(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("thumbwheel_log_dropped_total") or 0.0


async def test_the_oldest_are_dropped_and_counted_while_redis_is_away(log, store, metrics):
    store.away = True
    for number in range(8):
        log.ended(served(number))
    with pytest.raises(RedisConnectionError):
        await log.flush()
    for number in range(8, 11):
        log.ended(served(number))
    store.away = False
    await log.flush()
    numbers = sorted(int(completion.id.removeprefix("chatcmpl-")) for completion in store.logged)
    assert len(numbers) + dropped(metrics) == 11
    assert numbers[-5:] == [6, 7, 8, 9, 10]
    assert len(numbers) <= 10, "what waits is bounded"


async def test_a_flush_that_is_cut_off_loses_nothing(log, store):
    for number in range(5):
        log.ended(served(number))
    flush = asyncio.create_task(log.flush())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    flush.cancel()
    await asyncio.gather(flush, return_exceptions=True)
    await log.close()
    assert {completion.reply for completion in store.logged} == {f"reply {number}" for number in range(5)}


async def test_closing_without_redis_ends_and_says_what_is_lost(log, store, caplog):
    store.away = True
    log.ended(served(1))
    await log.close()
    assert "1 replies are lost" in caplog.text


async def test_one_reply_that_cannot_be_read_holds_up_no_other(log, store, metrics):
    log.ended(served(1, reply=b'{"choices": [{"message": {"content": ["a", "list"]}}]}'))
    log.ended(served(2))
    log.ended(served(3, reply=b"not JSON"))
    await log.flush()
    assert [(completion.id, completion.reply) for completion in store.logged] == [
        ("chatcmpl-2", "reply 2"),
        ("chatcmpl-3", None),
    ]
    assert dropped(metrics) == 1
    assert not store.logged[1].trainable


async def test_what_has_begun_is_opened_and_what_was_refused_is_not(log, store):
    log.begun(Opened("chatcmpl-1", "policy-v0", "ann", 1.0))
    log.begun(Opened("chatcmpl-2", "policy-v0", None, 1.0))
    log.refused(served(2), failed=False)
    await log.flush()
    await log.flush()
    assert store.opened == [Opened("chatcmpl-1", "policy-v0", "ann", 1.0)]


def test_what_is_not_to_be_stored_leaves_no_word_behind():
    secret = "a secret word"
    entry = completions_of(
        served(
            1,
            store=False,
            stop=[secret],
            tools=[{"type": "function", "function": {"name": secret}}],
            response_format={"type": secret},
            metadata={"conversation_id": secret},
            temperature=0.5,
        )
    )[0]
    assert secret not in entry.model_dump_json()
    assert (entry.messages, entry.reply, entry.sampling) == (None, None, {"temperature": 0.5})
    assert entry.conversation != completions_of(served(2))[0].conversation, "not even a hash of the messages"
    assert not entry.trainable


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_ended_at_once_is_empty_and_what_called_a_tool_is_not_trained_on(stream):
    def entry(**more: Any) -> Completion:
        said = {"index": 0, "message" if not stream else "delta": {"content": None}, "finish_reason": "stop"}
        body = orjson.dumps({"choices": [said]})
        return completions_of(
            served(1, b"data: " + body + b"\n\n" if stream else body, stream=stream, **more)
        )[0]

    assert (entry().reply, entry().trainable) == ("", True)
    assert not entry(tools=[{"type": "function"}]).trainable, "a named tool is called with the reason stop"
    assert (entry(store=False).reply, entry(store=False).trainable) == (None, False)


def test_a_stream_is_put_together_from_its_bytes_wherever_they_were_cut():
    events = [{"index": 0, "delta": {"content": part}} for part in ("Grüße", " aus ", "Köln")]
    events += [{"index": 1, "delta": {"content": "Zwei"}, "finish_reason": "length"}]
    events += [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    raw = b"".join(b"data: " + orjson.dumps({"choices": [event]}) + b"\n\n" for event in events)
    usage = {"prompt_tokens": 3, "completion_tokens": 8}
    raw += b"data: " + orjson.dumps({"choices": [], "usage": usage}) + b"\n\ndata: [DONE]\n\n"
    for size in (1, 2, 3, 7, len(raw)):
        stream = served(1, reply=b"", stream=True)
        stream.chunks += [raw[start : start + size] for start in range(0, len(raw), size)]
        first, second = completions_of(stream)
        assert (first.reply, first.finish_reason, first.completion_tokens) == ("Grüße aus Köln", "stop", 4)
        assert (second.id, second.reply, second.finish_reason) == ("chatcmpl-1-1", "Zwei", "length")
