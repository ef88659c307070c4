"""The newest comments: listed by version in the order they were given, read as they stand now. Sync."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from redis import Redis

from feedback import layout

MOST_LISTS = 30  # versions whose comments are looked through


@dataclass(frozen=True, slots=True)
class _Listed:
    """A member of a list: a rating of a completion, or a comparison of a pair."""

    kind: str
    about: str
    rater: str
    tag: str

    @property
    def key(self) -> str:
        return (layout.ratings_key if self.kind == "rating" else layout.comparisons_key)(self.about)


class Comments:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def newest(
        self, versions: Iterable[str], since: float, until: float, tag: str | None, count: int
    ) -> list[dict[str, Any]]:
        """At most `count` labels with a comment on any of the versions, newest first, as JSON objects with
        `kind`, `tag` and, of a comparison, `policies`; of a rating, `policy`."""
        found: dict[_Listed, float] = {}
        with self._redis.pipeline(transaction=False) as pipe:
            for version in list(versions)[:MOST_LISTS]:
                # Those with a tag are somewhere among the others, of which there are MOST_COMMENTS.
                most = count if tag is None else layout.MOST_COMMENTS
                key = layout.comments_key(version)
                pipe.zrevrangebyscore(key, until, since, start=0, num=most, withscores=True)
            lists: list[Any] = pipe.execute()
        for members in lists:
            for member, created in members:
                listed = _Listed(*str(member).split(" ", 3))
                if tag is None or listed.tag == tag:
                    found[listed] = created
        newest = sorted(found, key=lambda listed: -found[listed])[:count]
        return self._read(newest)

    def _read(self, wanted: list[_Listed]) -> list[dict[str, Any]]:
        with self._redis.pipeline(transaction=False) as pipe:
            for listed in wanted:
                pipe.hget(listed.key, listed.rater)
                if listed.kind == "rating":
                    pipe.hget(layout.completion_key(listed.about), "policy")
                else:
                    pipe.hget(layout.pair_key(listed.about), "body")
            answers: list[Any] = pipe.execute()
        return [
            {"kind": listed.kind, "tag": listed.tag or None, **_where(listed, where), **orjson.loads(label)}
            for listed, label, where in zip(wanted, answers[::2], answers[1::2], strict=True)
            if label is not None and where is not None  # withdrawn since it was listed
        ]


def _where(listed: _Listed, where: str) -> dict[str, Any]:
    if listed.kind == "rating":
        return {"policy": where}
    pair = orjson.loads(where)
    return {"policies": {"a": pair["policy_a"], "b": pair["policy_b"]}}
