"""Who is calling: the key behind a request, its role, and the rater that it speaks for."""

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from fastapi import Request


class Role(IntEnum):
    """Each role may do what the ones below it may: `user` ⊂ `viewer` ⊂ `operator`."""

    user = 1
    viewer = 2
    operator = 3


class Forbidden(Exception):
    """The key is good, but its role does not reach."""


@dataclass(frozen=True, slots=True)
class Caller:
    key_id: str
    name: str
    role: Role

    def rater(self, user: str | None) -> str:
        """The opaque id of the person behind this key, stable for one (key, user)."""
        person = f"{self.key_id}\0{user or ''}"
        return "rater-" + hashlib.sha256(person.encode()).hexdigest()[:20]

    def require(self, role: Role) -> None:
        if self.role < role:
            raise Forbidden(
                f"This needs a key with the role {role.name}; {self.name!r} has the role {self.role.name}."
            )


def caller_of(request: Request) -> Caller:
    """The caller that the gateway's authentication put on the request."""
    caller: Caller = request.scope["caller"]
    return caller


def viewer(request: Request) -> Caller:
    caller = caller_of(request)
    caller.require(Role.viewer)
    return caller


def operator(request: Request) -> Caller:
    caller = caller_of(request)
    caller.require(Role.operator)
    return caller
