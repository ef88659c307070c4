"""The newest comments: listed by version in the order they were given, read as they stand now. Sync."""

from collections.abc import Iterable
from itertools import chain, islice
from operator import itemgetter
from typing import Any, NamedTuple

from redis import Redis

from feedback import layout
from feedback.labels import Page, standing
from feedback.reader import Place

MOST_LISTS = 30  # versions whose comments are looked through


class _Listed(NamedTuple):
    """A member of a list: a rating of a completion, or a comparison of a pair."""

    place: Place
    tag: str


class Comments:
    def __init__(self, redis: "Redis") -> None:
        self._redis = redis

    def newest(
        self,
        versions: Iterable[str],
        since: float,
        until: float,
        tag: str | None,
        count: int,
        after: float | None = None,
    ) -> Page:
        """At most `count` labels with a comment on any of the versions, those older than `after`."""
        last = until if after is None else f"({after!r}"
        with self._redis.pipeline(transaction=False) as pipe:
            for version in list(versions)[:MOST_LISTS]:
                # Those with a tag are somewhere among the others, of which there are MOST_COMMENTS.
                most = count + 1 if tag is None else layout.MOST_COMMENTS
                key = layout.comments_key(version)
                pipe.zrevrangebyscore(key, last, since, start=0, num=most, withscores=True)
            lists: list[Any] = pipe.execute()
        # One of a pair of versions is in the lists of both.
        newest = sorted(dict(chain(*lists)).items(), key=itemgetter(1), reverse=True)
        listed = ((_listed(str(member)), created) for member, created in newest)
        found = list(islice((one for one in listed if tag is None or one[0].tag == tag), count + 1))
        rows = standing(self._redis, [one.place for one, _ in found[:count]])
        return Page(list(rows.values()), repr(found[count - 1][1]) if len(found) > count else None)


def _listed(member: str) -> _Listed:
    kind, of, rater, tag = member.split(" ", 3)
    return _Listed(Place("rating" if kind == "rating" else "comparison", of, rater), tag)
