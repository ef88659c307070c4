"""Signed-in browsers: a signed cookie in place of an API key.

tw:sessions:secret   string      what all gateways sign cookies with; made by the first
tw:sessions:ended    sorted set  signed-out session → Unix second until which its cookie was good

A cookie names a key and never holds it: each request looks the key up, so a revoked one ends its sessions.
"""

import hashlib
import hmac
import secrets
from collections.abc import Set
from dataclasses import asdict, dataclass
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer
from redis import Redis

from feedback.types import now
from serving.errors import Unauthorized
from serving.registry import CHANGED

SECRET = "tw:sessions:secret"
ENDED = "tw:sessions:ended"
COOKIE = "thumbwheel_session"
SIGNED_OUT = "You are not signed in, or no longer. Sign in with a key at /signin."


@dataclass(frozen=True, slots=True)
class Session:
    """`user` is the opaque id that this person's ratings carry, `name` what they called themselves."""

    id: str
    key_id: str
    user: str
    name: str


class Sessions:
    """What gateways share of sessions. Sync."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def look(self) -> tuple[str, Set[str]]:
        """The secret, made where there is none, and the sessions that were signed out."""
        self._redis.set(SECRET, secrets.token_hex(32), nx=True)
        return str(self._redis.get(SECRET)), {str(session) for session in self._redis.zrange(ENDED, 0, -1)}

    def end(self, session_id: str, until: float) -> None:
        """Take a session's cookie for nothing from now on, on every gateway."""
        with self._redis.pipeline() as pipe:
            pipe.zremrangebyscore(ENDED, "-inf", now())
            pipe.zadd(ENDED, {session_id: until})
            pipe.publish(CHANGED, "sessions")
            pipe.execute()


class SessionView:
    """Sessions as this gateway last saw them: opens and seals cookies in memory."""

    def __init__(self, lifetime: int) -> None:
        self.lifetime = lifetime
        self.ended: Set[str] = frozenset()
        self.secret = secrets.token_hex(32)  # until the shared one is known

    def seal(self, session: Session) -> str:
        return self._serializer().dumps(asdict(session))

    def open(self, cookie: str) -> Session:
        """Raises Unauthorized for what is forged, too old or signed out."""
        try:
            content: dict[str, Any] = self._serializer().loads(cookie, max_age=self.lifetime)
        except BadSignature as error:
            raise Unauthorized(SIGNED_OUT) from error
        session = Session(**content)
        if session.id in self.ended:
            raise Unauthorized(SIGNED_OUT)
        return session

    def csrf(self, session: Session) -> str:
        """What only a page of this session knows, and a write has to repeat in a header."""
        return hmac.new(self.secret.encode(), f"csrf {session.id}".encode(), hashlib.sha256).hexdigest()

    def _serializer(self) -> URLSafeTimedSerializer:
        how = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        return URLSafeTimedSerializer(self.secret, salt="thumbwheel session", signer_kwargs=how)
