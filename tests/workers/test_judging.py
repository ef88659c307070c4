"""The judge over HTTP, against a small server that speaks OpenAI's chat completions."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.fake_judge import FakeJudge
from tests.servers import free_port, serving
from workers.constitution import Principle
from workers.judging import GIVE_UP, Hearing, Judge, JudgeError, letter_of
from workers.rules import Pair

KIND = Principle("kind", "Be kind.", 1.0)
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi {there}"}]


@pytest.fixture
def fake() -> FakeJudge:
    return FakeJudge()


@pytest.fixture
def url(fake: FakeJudge) -> Iterator[str]:
    with serving(fake.app) as url:
        yield f"{url}/v1/"


@pytest.fixture
async def judge(url: str) -> AsyncIterator[Judge]:
    async with aiohttp.ClientSession() as session:
        yield Judge(url, "some-judge", session, "sesame", pause=0.0)


async def test_it_asks_for_one_letter_and_weighs_the_letters(judge, fake):
    assert await judge.prefers_first(MESSAGES, "good", "bad {0}", KIND) == pytest.approx(0.731, abs=1e-3)
    body = fake.requests[0]
    assert body["model"] == "some-judge"
    assert (body["temperature"], body["logprobs"], body["store"]) == (0, True, False)
    assert body["max_tokens"] < 10
    asked = body["messages"][0]["content"]
    for part in ("Be kind.", "system: Be brief.\nuser: hi {there}", "\ngood\n", "\nbad {0}\n"):
        assert part in asked
    assert fake.keys == ["Bearer sesame"]


async def test_without_log_probabilities_the_letter_counts(judge, fake):
    fake.gives_logprobs = False
    assert await judge.prefers_first(MESSAGES, "good", "bad", KIND) == 1.0
    assert await judge.prefers_first(MESSAGES, "bad", "good", KIND) == 0.0


async def test_a_server_that_knows_only_plain_keys_is_asked_plainly_from_then_on(judge, fake):
    fake.plain_only = True
    for _ in range(2):
        assert await judge.prefers_first(MESSAGES, "good", "bad", KIND) == 1.0
    assert ["logprobs" in body for body in fake.requests] == [True, False, False]


async def test_a_busy_server_is_asked_again(judge, fake):
    fake.fails = 3
    assert await judge.prefers_first(MESSAGES, "good", "bad", KIND) > 0.5
    fake.fails = 4
    with pytest.raises(JudgeError, match="failed 4 times: it answered 503: loading"):
        await judge.prefers_first(MESSAGES, "good", "bad", KIND)


async def test_a_refusal_is_said_at_once_and_without_the_key(judge, fake):
    fake.status = 401
    with pytest.raises(JudgeError, match="answered 401: no, Bearer …"):
        await judge.prefers_first(MESSAGES, "good", "bad", KIND)
    assert len(fake.requests) == 1


async def test_nobody_there_is_an_error_that_names_the_address():
    url = f"http://127.0.0.1:{free_port()}/v1"
    async with aiohttp.ClientSession() as session:
        for bad in (url, "no address"):
            with pytest.raises(JudgeError, match=f"{bad} failed 4 times: "):
                await Judge(bad, "m", session, pause=0.0).prefers_first(MESSAGES, "a", "b", KIND)


async def test_a_password_in_the_address_is_used_and_never_said(fake, url):
    secret = url.replace("http://", "http://user:pa55word@") + "?token=hush"
    async with aiohttp.ClientSession() as session:
        judge = Judge(secret, "m", session, pause=0.0)
        assert await judge.prefers_first(MESSAGES, "good", "bad", KIND) > 0.5
        assert fake.keys[0].startswith("Basic ")
        said = []
        fake.status = 401
        for bad in (judge, Judge("ftp://user:pa55word@x/v1?token=hush", "m", session, pause=0.0),
                    Judge("http://user:pa55word@[x/v1", "m", session, pause=0.0),
                    Judge(secret, "m", session, "both are too much", pause=0.0)):  # fmt: skip
            with pytest.raises(JudgeError) as error:
                await bad.prefers_first(MESSAGES, "a", "b", KIND)
            said.append(str(error.value))
    assert said[0].startswith(url.rstrip("/") + " answered 401")
    hidden = ("pa55word", "hush", fake.keys[0].removeprefix("Basic "))
    assert not [text for text in said for secret in hidden if secret in text]


async def test_a_server_of_another_kind_is_an_error(fake, url):
    fake.text = "A"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(JudgeError, match="answered 404"):
            await Judge(url + "elsewhere", "m", session).prefers_first(MESSAGES, "a", "b", KIND)


@pytest.mark.parametrize(
    ("text", "p"),
    [
        ("A", 1.0),
        (" b", None),
        ("B.", 0.0),
        ("**B**", 0.0),
        ("(A)", 1.0),
        ("Reply B is", 0.0),
        ("reply_A", 1.0),
        ("Answer: B", 0.0),
        ("Both are", None),
        ("ABBA", None),
        ("", None),
        (None, None),
        ([{"type": "text", "text": "A"}], None),
    ],
)
def test_the_letter_in_a_text(text, p):
    assert letter_of({"message": {"content": text}}) == p
    assert letter_of({"message": {"content": text}, "logprobs": None}) == p
    strange = {"content": [{"token": "A", "logprob": None, "top_logprobs": [{"id": 7}]}]}
    assert letter_of({"message": {"content": text}, "logprobs": strange}) == p


def test_the_letters_among_log_probabilities():
    def choice(*positions: list[tuple[str, float]]) -> dict:
        content = [
            {
                "token": top[0][0],
                "logprob": top[0][1],
                "top_logprobs": [dict(token=t, logprob=p) for t, p in top],
            }
            for top in positions
        ]
        return {"message": {"content": "?"}, "logprobs": {"content": content}}

    assert letter_of(choice([("A", -0.1), ("B", -0.1)])) == 0.5
    assert letter_of(choice([("(", -0.01), ("A", -9.0)], [(" B", -0.2), (" C", -2.0)])) == 0.0
    assert letter_of(choice([(" A", -1.0), ("A", -1.0), ("B", -1.0)])) == pytest.approx(2 / 3)
    assert letter_of(choice([("I", -0.1), ("a", -3.0)])) is None
    only = {"message": {"content": "?"}, "logprobs": {"content": [{"token": "B", "logprob": -0.1}]}}
    assert letter_of(only) == 0.0


async def test_a_hearing_gives_up_after_failures_in_a_row_only(judge, fake):
    pairs = [Pair(MESSAGES, f"good {number}", "bad") for number in range(20)]
    fake.status = 500
    hearing = Hearing(judge, 1, heard=lambda _: None)
    verdicts = await hearing.verdicts([KIND], pairs)
    assert len(fake.requests) == 4 * GIVE_UP
    assert hearing.failed == 40
    assert "answered 500" in str(hearing.trouble)
    assert not any(verdict.answered for verdict in verdicts)
    fake.status, fake.fails = 200, 4 * (GIVE_UP - 1)
    hearing = Hearing(judge, 1, heard=lambda _: None)
    verdicts = await hearing.verdicts([KIND], pairs)
    assert hearing.failed == GIVE_UP - 1
    assert sum(verdict.preference is not None for verdict in verdicts) == 20 - GIVE_UP // 2
