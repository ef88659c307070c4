"""Connections to Redis or Valkey: text in and out, bounded waits."""

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

CONNECT_TIMEOUT = 2.0
ANSWER_TIMEOUT = 10.0


def connect(url: str) -> Redis:
    return Redis.from_url(
        url, decode_responses=True, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=ANSWER_TIMEOUT
    )


def connect_async(url: str) -> AsyncRedis:
    return AsyncRedis.from_url(
        url, decode_responses=True, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=ANSWER_TIMEOUT
    )
