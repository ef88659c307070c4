"""A crowd's feedback through the real scripts, at times of one's own: for pages, and for measurements."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from redis import Redis

from feedback import scripts
from feedback.types import Comparison, Completion, Pair, Rating, Thumb, Winner, content_hash, tag_of

PAGE = 500
QUESTIONS = (
    "How do I cancel my subscription?",
    "Write a haiku about autumn rain.",
    "What is the capital of France?",
    "Explain compound interest to a ten-year-old.",
    "My parcel has not arrived. What now?",
)
REPLIES = ("Of course. Here is how it goes, in three steps.", "I am not sure, but it may be Paris.")
GOOD = ("Accurate", "Clear", "Helpful", "Right length")
BAD = ("Wrong", "Too long", "Unhelpful", "Off topic", "Repetitive")
COMMENTS = (
    "Exactly what I needed, thank you.",
    "It goes on and on after the answer.",
    "The second step is wrong: the button is called Settings by now.",
    "Much better than last week.",
)
Call = tuple[str, list[str | bytes]]  # script, arguments


@dataclass(frozen=True, slots=True)
class Version:
    """`liked`: how often its replies get a thumb up; `since`, `until`: shares of the time it answers in."""

    name: str
    liked: float
    since: float
    until: float


VERSIONS = (
    Version("policy-v0", 0.58, 0.0, 0.3),
    Version("policy-v1", 0.66, 0.25, 0.6),
    Version("policy-v2", 0.61, 0.55, 0.72),
    Version("policy-v3", 0.78, 0.7, 1.0),
)


@dataclass(frozen=True, slots=True)
class Crowd:
    """From `start` to `end` (Unix seconds), `thumbs` thumbs by `raters` people, `each` on a reply that is
    rated at all; and a comparison for every fourth thumb, of `versions` so many places `apart` at most."""

    start: float
    end: float
    thumbs: int
    raters: int = 200
    each: int = 1
    rated: float = 0.2
    tags: tuple[str | None, ...] = (None, "help desk", "writing")
    comments: float = 0.03
    seed: int = 0
    versions: tuple[Version, ...] = VERSIONS
    apart: int = 1

    def speak(self, redis: Redis) -> None:
        """All of it, in some minutes for a million."""
        _send(redis, self._calls(random.Random(self.seed)))

    def compare(self, redis: Redis, number: int, created: float) -> None:
        """One comparison more, the `number`th."""
        dice = random.Random(number)
        _send(redis, self._pair(self.thumbs + number, dice.choice(self.versions), created, dice))

    def _calls(self, dice: random.Random) -> Iterator[Call]:
        for number in range(self.thumbs // self.each):
            version, created = self._moment(dice)
            tag = dice.choice(self.tags)
            reply = self._reply(f"chatcmpl-{self.seed}-{number}", version, created, dice, tag)
            yield _log(reply)
            for index in range(self.each):
                yield self._thumb(reply, version.liked, index, dice)
            unrated = round(1 / self.rated) - 1 if self.each == 1 else 0
            for other in range(unrated):
                yield _log(self._reply(f"{reply.id}-{other}", version, created, dice, tag))
            if number % 4 == 0:
                yield from self._pair(number, version, created, dice)

    def _moment(self, dice: random.Random) -> tuple[Version, float]:
        """A version and a time that it answered at, more often half a day after the start than a whole
        one: so the same is drawn whenever a test runs."""
        while True:
            share = dice.random()
            created = self.start + share * (self.end - self.start)
            busy = 1 - abs((created - self.start) % 86400 / 43200 - 1) * 0.85
            able = [version for version in self.versions if version.since <= share < version.until]
            if dice.random() < busy:
                return dice.choice(able), created

    def _reply(
        self, id_: str, version: Version, created: float, dice: random.Random, tag: str | None = None
    ) -> Completion:
        messages = [{"role": "user", "content": dice.choice(QUESTIONS)}]
        return Completion(
            id=id_,
            policy=version.name,
            messages=messages,
            reply=dice.choice(REPLIES),
            finish_reason="stop",
            completion_tokens=40,
            metadata={} if tag is None else {"tag": tag},
            key_id="key",
            conversation=id_,
            created=created,
            duration=1.2,
        )

    def _rater(self, dice: random.Random) -> str:
        """Few of them say much."""
        return f"rater-{int(self.raters * dice.random() ** 3):05d}"

    def _thumb(self, reply: Completion, liked: float, index: int, dice: random.Random) -> Call:
        up = dice.random() < liked
        rater = self._rater(dice) if self.each == 1 else f"{self._rater(dice)}-{index}"
        reasons = [dice.choice(GOOD if up else BAD)] if dice.random() < 0.4 else []
        comment = dice.choice(COMMENTS) if dice.random() < self.comments else None
        rating = Rating(
            completion_id=reply.id,
            rater=rater,
            rating=Thumb.up if up else Thumb.down,
            reasons=reasons,
            comment=comment,
            created=min(self.end, reply.created + 30 * dice.random()),
        )
        return scripts.RATE, [reply.id, rater, rating.to_json()]

    def _pair(self, number: int, version: Version, created: float, dice: random.Random) -> Iterator[Call]:
        place = self.versions.index(version)
        near = self.versions[max(0, place - self.apart) : place + self.apart + 1]
        others = [other for other in near if other != version]
        sides = [version, dice.choice(others)]
        dice.shuffle(sides)
        tag = dice.choice(self.tags)
        a, b = (
            self._reply(f"chatcmpl-{self.seed}-{number}-{side}", version, created, dice, tag)
            for side, version in zip("ab", sides, strict=True)
        )
        yield _log(a)
        yield _log(b)
        pair = Pair(
            id=f"pair-{self.seed}-{number}",
            a=a.id,
            b=b.id,
            policy_a=a.policy,
            policy_b=b.policy,
            created=created,
            expires=created + 3600,
        )
        odds = [sides[0].liked / (1 - sides[0].liked) * 1.05, sides[1].liked / (1 - sides[1].liked)]
        winner = dice.choices(list(Winner), [*odds, 0.6, 0.3])[0]
        comparison = Comparison(
            pair_id=pair.id,
            rater=self._rater(dice),
            winner=winner,
            reasons=[dice.choice(GOOD)] if dice.random() < 0.3 else [],
            created=created,
        )
        answer: list[str | bytes] = [pair.id, comparison.rater, comparison.to_json(), pair.to_json(), "blind"]
        yield scripts.COMPARE, [*answer, pair.policy_a, pair.policy_b, pair.a, pair.b]


def _send(redis: Redis, calls: Iterator[Call]) -> None:
    shas = {script: redis.script_load(script) for script in (scripts.LOG, scripts.RATE, scripts.COMPARE)}
    while page := list(islice(calls, PAGE)):
        with redis.pipeline(transaction=False) as pipe:
            for script, args in page:
                pipe.evalsha(shas[script], 0, *args)
            pipe.execute()


def _log(reply: Completion) -> Call:
    args: list[str | bytes] = [reply.id, reply.policy, "", reply.to_json(), content_hash(reply.messages)]
    tag = tag_of(reply.metadata) or ""
    return scripts.LOG, [*args, repr(reply.created), str(reply.completion_tokens), "0", tag, "0"]
