"""Raters' votes through the public HTTP API: `/v1/chat/completions` and `/v1/feedback`, `/v1/pairs` and
`/v1/comparisons`."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from deploy.cli.labels import newest
from deploy.client import Client, ClientError, Object
from deploy.demo.traffic import Meter
from tests.bench.gold import Scorer
from tests.bench.raters import Ballot, Reply

CONCURRENCY = 16
REPLY_TOKENS = 80


@dataclass(frozen=True)
class Vote:
    """What was said. `gold`: of the reply, or of both. `corrected`: with a correction."""

    rater: str
    mind: str
    said: str
    gold: tuple[float, ...]
    policy: str
    corrected: bool = False


def collect(
    client: Client, meter: Meter, ballots: Sequence[Ballot], score: Scorer, done: Callable[[int], None]
) -> list[Vote]:
    """Cast all votes; `done` hears how many are. ClientError if not even half succeeded."""
    polling = Polling(client, meter, score)
    votes: list[Vote] = []
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        for tried, vote in enumerate(pool.map(polling.cast, ballots), 1):
            votes += [vote] if vote is not None else []
            done(len(votes))
            if tried - len(votes) > len(ballots) // 2:
                pool.shutdown(cancel_futures=True)
                raise ClientError(f"most requests fail, so nobody can rate: {meter.failures[-1][1]}")
    return votes


def recover(
    client: Client, ballots: Sequence[Ballot], score: Scorer, since: float
) -> tuple[list[Vote], list[Ballot]]:
    """The votes that were given after `since` (Unix time) before a bench was cut off, as the service has
    them, and the ballots that nobody has cast yet."""
    left, votes = list(ballots), []
    for label in newest(client, 2 * len(ballots), {}, "labels"):
        if label["created"] <= since:
            break
        blind = label["kind"] == "comparison"
        pair = client.get(f"/v1/comparisons/{label['pair_id']}") if blind else None
        shown = [pair["a"], pair["b"]] if pair else [client.get(f"/v1/completions/{label['completion_id']}")]
        asked = (shown[0]["messages"][-1]["content"], shown[0]["user"], blind)
        ballot = next((one for one in left if (one.prompt, one.rater, one.blind) == asked), None)
        if ballot is None:
            continue
        left.remove(ballot)
        gold = tuple(score(reply["reply"]) for reply in shown)
        said, corrected = label["winner" if blind else "rating"], bool(label.get("correction"))
        votes.append(Vote(ballot.rater, ballot.mind.kind, said, gold, shown[0]["policy"], corrected))
    return votes[::-1], left


@dataclass(frozen=True)
class Polling:
    client: Client
    meter: Meter
    score: Scorer

    def cast(self, ballot: Ballot) -> Vote | None:
        """The vote, or None where a request failed; the meter has it."""
        return self.meter.attempt(lambda: self._choose(ballot) if ballot.blind else self._rate(ballot))

    def _rate(self, ballot: Ballot) -> Vote:
        several = {"n": ballot.mind.looks} if ballot.mind.looks > 1 else {}
        answer = self.client.chat(_asked(ballot), user=ballot.rater, max_tokens=REPLY_TOKENS, **several)
        replies = [_reply(choice) for choice in answer["choices"]]
        picked = ballot.mind.pick(replies)
        thumb = ballot.mind.rate(replies[picked], ballot.dice)
        self.client.post(
            "/v1/feedback",
            {
                # The first choice has the id that the answer shows, the others count on from it.
                "completion_id": answer["id"] if picked == 0 else f"{answer['id']}-{picked}",
                "rating": thumb.rating,
                "correction": thumb.correction,
                "user": ballot.rater,
            },
        )
        gold = (self.score(replies[picked].text),)
        return Vote(
            ballot.rater, ballot.mind.kind, thumb.rating, gold, answer["model"], bool(thumb.correction)
        )

    def _choose(self, ballot: Ballot) -> Vote:
        asked = {"messages": _asked(ballot), "user": ballot.rater, "max_tokens": REPLY_TOKENS}
        pair = self.client.post("/v1/pairs", asked)
        a, b = _reply(pair["a"]), _reply(pair["b"])
        winner = ballot.mind.choose(a, b, ballot.dice)
        body = {"pair_id": pair["id"], "winner": winner, "user": ballot.rater}
        answer = self.client.post("/v1/comparisons", body)
        gold = (self.score(a.text), self.score(b.text))
        return Vote(ballot.rater, ballot.mind.kind, winner, gold, answer["a"]["policy"])


def _asked(ballot: Ballot) -> list[Object]:
    return [{"role": "user", "content": ballot.prompt}]


def _reply(choice: Object) -> Reply:
    return Reply(str(choice["message"]["content"] or ""), choice["finish_reason"] == "stop")
