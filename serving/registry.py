"""Versions and aliases: what there is, who answers, where a rollback goes. Sync.

tw:policies          hash    policy version → manifest (JSON)
tw:rewards           hash    reward version → manifest (JSON)
tw:aliases           hash    champion, challenger, previous, reward → version
tw:learning          hash    paused (0/1), cursor (id in feedback's events), labels (then), updated (time)
tw:version:<kind>    int     the last version number given out
tw:moved             string  how the champion was last moved: policy.promote or policy.rollback
tw:changed           channel a message whenever something here changed
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
from redis import Redis

from serving.audit import AUDIT, Action
from serving.errors import Conflict, LeaseLost, UnknownVersion
from serving.jobs import LEASE, Lease

POLICIES = "tw:policies"
REWARDS = "tw:rewards"
ALIASES = "tw:aliases"
LEARNING = "tw:learning"
MOVED = "tw:moved"
CHANGED = "tw:changed"
PROMOTE = "policy.promote"
ROLLBACK = "policy.rollback"
BASE = "policy-v0"


@dataclass(frozen=True, slots=True)
class Version:
    """A published version. `path` is relative to THUMBWHEEL_HOME, None for the base model."""

    id: str
    path: str | None
    created: float
    parent: str | None = None
    job: str | None = None
    reward: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    probe: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        plain.pop("probe")
        return plain


@dataclass(frozen=True, slots=True)
class Aliases:
    champion: str = BASE
    challenger: str | None = None
    previous: str | None = None
    reward: str | None = None


@dataclass(frozen=True, slots=True)
class Learning:
    paused: bool = False
    cursor: str = "0-0"
    labels: int = 0
    updated: float | None = None


# KEYS: versions, lease. ARGV: token, version, manifest. Publishes nothing once the lease is lost.
_ADD = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[3])
redis.call('PUBLISH', 'tw:changed', ARGV[2])
return 1
"""

# KEYS: counter, lease. ARGV: token.
_NUMBER = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
return redis.call('INCR', KEYS[1])
"""

# ARGV: alias, version, action, token ('' for a person), version that was expected ('' for any), previous.
# Returns 1, 0 where the lease is lost, -1 where the alias is not what was expected.
_MOVE = """
if ARGV[4] ~= '' and redis.call('GET', 'tw:lease') ~= ARGV[4] then return 0 end
local before = redis.call('HGET', 'tw:aliases', ARGV[1]) or ''
if ARGV[5] ~= '' and ARGV[5] ~= before then return -1 end
if before == ARGV[2] then return 1 end
redis.call('HSET', 'tw:aliases', ARGV[1], ARGV[2])
if ARGV[1] == 'champion' then
  redis.call('HSET', 'tw:aliases', 'previous', ARGV[6])
  redis.call('SET', 'tw:moved', cjson.decode(ARGV[3]).what)
end
redis.call('XADD', 'tw:audit', '*', 'body', ARGV[3])
redis.call('PUBLISH', 'tw:changed', ARGV[2])
return 1
"""

# KEYS: lease, learning. ARGV: token, cursor, labels, time. A job that is taken up again after a later one has
# ended finds the cursor ahead, and leaves it there.
_ADVANCE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local function parts(id)
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(number)
end
local ms, number = parts(ARGV[2])
local old_ms, old_number = parts(redis.call('HGET', KEYS[2], 'cursor') or '0-0')
if ms < old_ms or (ms == old_ms and number < old_number) then return 1 end
redis.call('HSET', KEYS[2], 'cursor', ARGV[2], 'labels', ARGV[3], 'updated', ARGV[4])
return 1
"""


class Registry:
    def __init__(self, redis: Redis, home: Path) -> None:
        self._redis = redis
        self._home = home
        self._add = redis.register_script(_ADD)
        self._number = redis.register_script(_NUMBER)
        self._move = redis.register_script(_MOVE)
        self._advance = redis.register_script(_ADVANCE)

    def ensure_base(self) -> None:
        """Make `policy-v0`, the base model itself, the champion of a registry that has none."""
        base = Version(id=BASE, path=None, created=time.time())
        self._redis.hsetnx(POLICIES, BASE, _json(base))
        self._redis.hsetnx(ALIASES, "champion", BASE)

    def policies(self) -> dict[str, Version]:
        """All policy versions, oldest first."""
        return self._versions(POLICIES)

    def rewards(self) -> dict[str, Version]:
        return self._versions(REWARDS)

    def policy(self, version: str) -> Version:
        return self._version(POLICIES, version, "policies")

    def reward(self, version: str) -> Version:
        return self._version(REWARDS, version, "rewards")

    def aliases(self) -> Aliases:
        return aliases_of(self._redis.hgetall(ALIASES))

    def learning(self) -> Learning:
        stored = {str(name): str(value) for name, value in self._redis.hgetall(LEARNING).items()}
        return Learning(
            paused=stored.get("paused") == "1",
            cursor=stored.get("cursor", "0-0"),
            labels=int(stored.get("labels", 0)),
            updated=float(stored["updated"]) if "updated" in stored else None,
        )

    def directory(self, version: Version) -> Path | None:
        """Where a version's files lie; None for the base model."""
        return None if version.path is None else self._home / version.path

    def next_version(self, kind: str, lease: Lease) -> str:
        """A name that was never used: `policy-v8`, `reward-v3`."""
        number = int(str(self._number(keys=[f"tw:version:{kind}", LEASE], args=[lease.token])))
        if not number:
            raise LeaseLost(f"the lease on {lease.job_id} is lost")
        return f"{kind}-v{number}"

    def add_policy(self, version: Version, lease: Lease) -> None:
        self._publish(POLICIES, version, lease)

    def add_reward(self, version: Version, lease: Lease) -> None:
        """Publish a reward version and make it the live one."""
        self._publish(REWARDS, version, lease)
        before = self.aliases().reward
        action = Action(lease.job_id, "reward.publish", None, before=before, after=version.id)
        self._alias("reward", version.id, action, lease)

    def promote(
        self,
        to: str,
        *,
        who: str,
        why: str | None,
        instead_of: str | None = None,
        lease: Lease | None = None,
    ) -> Aliases:
        """Let `to` answer from now on, instead of the champion, whichever (or `instead_of`) that is.

        Raises Conflict where the champion is another one by now, LeaseLost where a given lease is lost; then
        nothing has moved.
        """
        self.policy(to)
        before = instead_of or self.aliases().champion
        action = Action(who, PROMOTE, why, before=before, after=to)
        self._alias("champion", to, action, lease, expected=before, previous=before)
        return self.aliases()

    def roll_back(self, to: str, *, who: str, why: str, instead_of: str | None = None) -> Aliases:
        """Let an older version answer again, instead of the champion, whichever (or `instead_of`) that is.

        The next rollback would go to that version's parent. Raises Conflict as `promote` does.
        """
        version = self.policy(to)
        before = instead_of or self.aliases().champion
        action = Action(who, ROLLBACK, why, before=before, after=to)
        self._alias("champion", to, action, None, expected=before, previous=version.parent or "")
        return self.aliases()

    def pause_learning(self, paused: bool, who: str, why: str | None) -> Learning:
        what = "learning.pause" if paused else "learning.resume"
        action = Action(who, what, why, {"paused": self.learning().paused}, {"paused": paused})
        with self._redis.pipeline() as pipe:
            pipe.hset(LEARNING, "paused", int(paused))
            pipe.xadd(AUDIT, {"body": action.to_json()})
            pipe.publish(CHANGED, "learning")
            pipe.execute()
        return self.learning()

    def advance_cursor(self, cursor: str, labels: int, lease: Lease) -> None:
        """Everything up to `cursor` has been learnt from; `labels` had been given by then. Never back."""
        args: list[str | int] = [lease.token, cursor, labels, repr(time.time())]
        if not self._advance(keys=[LEASE, LEARNING], args=args):
            raise LeaseLost(f"the lease on {lease.job_id} is lost")

    def _publish(self, where: str, version: Version, lease: Lease) -> None:
        if not self._add(keys=[where, LEASE], args=[lease.token, version.id, _json(version)]):
            raise LeaseLost(f"the lease on {lease.job_id} is lost; {version.id} is not published")

    def _alias(
        self,
        alias: str,
        to: str,
        action: Action,
        lease: Lease | None,
        expected: str = "",
        previous: str = "",
    ) -> None:
        token = "" if lease is None else lease.token
        moved = int(str(self._move(args=[alias, to, action.to_json(), token, expected, previous])))
        if moved == 0:
            raise LeaseLost("the lease is lost; nothing was moved")
        if moved < 0:
            raise Conflict("The champion was moved by somebody else at the same time. Look, and try again.")

    def _versions(self, where: str) -> dict[str, Version]:
        stored = self._redis.hgetall(where)
        found = {str(name): Version(**orjson.loads(manifest)) for name, manifest in stored.items()}
        return dict(sorted(found.items(), key=lambda item: number_of(item[0])))

    def _version(self, where: str, version: str, listing: str) -> Version:
        manifest = self._redis.hget(where, version)
        if manifest is None:
            raise UnknownVersion(f"There is no version {version!r}. GET /v1/{listing} lists them.")
        return Version(**orjson.loads(manifest))


def aliases_of(stored: Mapping[Any, Any]) -> Aliases:
    return Aliases(**{str(name): str(version) or None for name, version in stored.items()})  # type: ignore[arg-type]


def number_of(version: str) -> int:
    return int(version.rpartition("-v")[2])


def _json(version: Version) -> str:
    return orjson.dumps(asdict(version)).decode()
