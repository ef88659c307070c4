"""Questions that are asked until they are answered: does this server answer yet?

python -m deploy.readiness URL      exits with 0 if it does; redis:// and http:// are known
"""

import http.client
import json
import sys
import urllib.error
import urllib.request
from typing import Any

import redis

TIMEOUT = 2.0
CHAT_TIMEOUT = 120.0
# A server that breaks the protocol, or a URL that is none (ValueError), is as good as no answer.
NO_ANSWER = (OSError, http.client.HTTPException, ValueError)
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def redis_answers(url: str) -> bool:
    """Whether a Redis answers a PING at `url`; not while it still reads its files."""
    try:
        with redis.Redis.from_url(url, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT) as client:
            return bool(client.ping())
    except (redis.RedisError, ValueError):  # the latter where the URL is none
        return False


def http_answers(url: str) -> bool:
    """Whether a GET of `url` is answered with 200."""
    try:
        with _open(url, timeout=TIMEOUT) as response:
            return bool(response.status == 200)
    except NO_ANSWER:
        return False


def chat(url: str, key: str) -> tuple[str, str]:
    """One short chat through the gateway at `url`, not logged: (the reply, "") or ("", why there is none)."""
    body = {
        "model": "policy",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 16,
        "temperature": 0,
        "store": False,
    }
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with _open(request, timeout=CHAT_TIMEOUT) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        return "", f"{error.code}: {error.read(500).decode(errors='replace')}"
    except NO_ANSWER as error:
        return "", str(error) or type(error).__name__
    return answer["choices"][0]["message"]["content"], ""


if __name__ == "__main__":
    answers = http_answers if sys.argv[1].startswith("http") else redis_answers
    sys.exit(not answers(sys.argv[1]))
