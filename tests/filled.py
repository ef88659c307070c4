"""Feedback as the gateway leaves it in Redis, at times of one's own: for tests and benches of the past."""

import random
from collections.abc import Iterable

from redis import Redis

from feedback import layout
from feedback.types import Completion, Rating, Thumb, content_hash, conversation_of

TOPICS = "cats dogs rain please you".split()
KIND, UNKIND = "good nice lovely thanks".split(), "bad dull rude grim".split()  # words of tests.tiny too
PAGE = 1000


def fill(redis: Redis, name: str, times: Iterable[int], raters: int = 100, seed: int = 0) -> int:
    """A thumb, each on a reply of its own, at each of ascending `times` (Unix milliseconds, several may be
    the same), by raters who like kind words. The number of labels that there are then."""
    dice = random.Random(f"{name}{seed}")
    given = int(redis.get(layout.LABELS) or 0)  # type: ignore[arg-type]
    places: dict[int, int] = {}
    pipe = redis.pipeline(transaction=False)
    for number, milliseconds in enumerate(times):
        completion, rating = _thumb(f"{name}-{number}", milliseconds / 1000, f"r{number % raters}", dice)
        body = {"policy": completion.policy, "user": "", "body": completion.to_json()}
        pipe.hset(
            layout.completion_key(completion.id),
            mapping=body | {"messages": content_hash(completion.messages)},
        )
        pipe.xadd(layout.COMPLETIONS, {"id": completion.id})
        pipe.hset(layout.ratings_key(completion.id), rating.rater, rating.to_json())
        places[milliseconds] = places.get(milliseconds, -1) + 1
        place = f"{milliseconds}-{places[milliseconds]}"
        pipe.xadd(layout.EVENTS, {"kind": "rating", "body": rating.to_json()}, id=place)
        given += 1
        if number % PAGE == PAGE - 1:
            pipe.execute()
    pipe.set(layout.LABELS, given)
    pipe.execute()
    return given


def _thumb(name: str, created: float, rater: str, dice: random.Random) -> tuple[Completion, Rating]:
    kind = dice.random() < 0.5
    reply = " ".join(dice.choices(KIND if kind else UNKIND, k=dice.randint(4, 40)))
    # Hardly two ask the same: what is asked in a held-out conversation as well teaches nothing.
    messages = [{"role": "user", "content": " ".join(["tell me about", *dice.choices(TOPICS, k=8)])}]
    completion = Completion(
        id=f"chatcmpl-{name}",
        policy="policy-v0",
        messages=messages,
        reply=reply,
        finish_reason="stop",
        key_id="key",
        conversation=conversation_of(messages, {"conversation_id": name}),
        created=created,
        first_token=None,
        duration=0.1,
    )
    thumb = Thumb.up if kind else Thumb.down
    return completion, Rating(completion_id=completion.id, rater=rater, rating=thumb, created=created)
