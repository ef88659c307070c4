"""API keys: made once, stored hashed, compared in constant time.

tw:keys   hash    key id → name, role, SHA-256 of the secret, created, revoked (JSON)

A key reads `tw-<id>-<secret>`; the secret has 192 random bits, so a plain hash is enough to keep it.
"""

import hashlib
import hmac
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
from redis import Redis

from feedback.caller import Caller, Role
from serving.audit import AUDIT, Action
from serving.errors import Conflict, Unauthorized, UnknownKey
from serving.registry import CHANGED

KEYS = "tw:keys"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    id: str
    name: str
    role: str
    hash: str
    created: float
    revoked: float | None = None

    def as_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        plain.pop("hash")
        return plain

    def told(self) -> dict[str, str]:
        """As the audit log has it."""
        state = "valid" if self.revoked is None else "revoked"
        return {"id": self.id, "name": self.name, "role": self.role, "state": state}


class Keys:
    """The keys in Redis. Sync."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def all(self) -> dict[str, Key]:
        stored = self._redis.hgetall(KEYS)
        keys = {str(key_id): Key(**orjson.loads(body)) for key_id, body in stored.items()}
        return dict(sorted(keys.items(), key=lambda item: item[1].created))

    def add(self, name: str, role: Role, who: str) -> tuple[Key, str]:
        """A new key, and its text, which nobody can read again."""
        text = _new_text()
        key = _parsed(text, name, role)
        self._store(key, Action(who, "key.add", None, after=key.as_dict()))
        return key, text

    def revoke(self, key_id: str, who: str, why: str | None) -> Key:
        key = self.all().get(key_id)
        if key is None:
            raise UnknownKey(f"There is no key {key_id!r}. GET /v1/keys lists them.")
        if key.revoked is not None:
            raise Conflict(f"The key {key_id!r} is revoked already.")
        revoked = Key(**{**asdict(key), "revoked": time.time()})
        self._store(revoked, Action(who, "key.revoke", why, before=key.told(), after=revoked.told()))
        return revoked

    def ensure_operator(self, text: str | None, path: Path) -> None:
        """Make sure of an operator key: the given one, else the one in `path`, else a new one there.

        A revoked one stays revoked. In `path` a new one takes its place; ValueError where it was given.
        """
        known, why = self.all(), "the first operator key"
        key = _parsed(text or _read_or_create(path), "operator", Role.operator)
        if key.id in known and known[key.id].revoked is not None:
            if text:
                raise ValueError(
                    f"THUMBWHEEL_OPERATOR_KEY is the key {key.id}, which is revoked. Give another one, or "
                    f"unset the variable: then the key in {path} is used, or made."
                )
            why = f"instead of {key.id}, which is revoked"
            _put_new(path)
            log.warning("the operator's key %s is revoked; %s holds a new one", key.id, path)
            key = _parsed(_read_or_create(path), "operator", Role.operator)
        if key.id not in known:
            self._store(key, Action("thumbwheel", "key.add", why, after=key.as_dict()))

    def _store(self, key: Key, action: Action) -> None:
        with self._redis.pipeline() as pipe:
            pipe.hset(KEYS, key.id, orjson.dumps(asdict(key)))
            pipe.xadd(AUDIT, {"body": action.to_json()})
            pipe.publish(CHANGED, "keys")
            pipe.execute()


def authenticate(keys: Mapping[str, Key], header: str | None) -> Caller:
    """The caller behind an `Authorization` header. Raises Unauthorized."""
    if not header:
        raise Unauthorized("No API key. Send the header `Authorization: Bearer tw-…`.")
    scheme, _, text = header.partition(" ")
    _, _, rest = text.strip().partition("tw-")
    key = keys.get(rest.partition("-")[0])
    expected = key.hash if key else hashlib.sha256(b"").hexdigest()
    matches = hmac.compare_digest(expected, _hash(text.strip()))
    if scheme.lower() != "bearer" or key is None or not matches or key.revoked is not None:
        raise Unauthorized("This API key is wrong or revoked. An operator makes keys: `thumbwheel keys add`.")
    return Caller(key_id=key.id, name=key.name, role=Role[key.role])


class KeyView:
    """The keys as this gateway last saw them."""

    keys: Mapping[str, Key] = {}


def _new_text() -> str:
    return f"tw-{secrets.token_hex(4)}-{secrets.token_hex(24)}"


def _parsed(text: str, name: str, role: Role) -> Key:
    parts = text.strip().split("-")
    if len(parts) != 3 or parts[0] != "tw" or len(parts[2]) < 32:
        raise ValueError("an operator key reads tw-<id>-<secret of at least 32 characters>")
    return Key(id=parts[1], name=name, role=role.name, hash=_hash(text.strip()), created=time.time())


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_or_create(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(handle, "w") as file:
        text = _new_text()
        file.write(text + "\n")
    return text


def _put_new(path: Path) -> None:
    """A new key in place of the one in `path`, for this user's eyes only."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(handle, "w") as file:
        file.write(_new_text() + "\n")
    Path(beside).replace(path)
