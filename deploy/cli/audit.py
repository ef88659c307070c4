"""What an action changed, in a few words: what it is about, and what was and is now."""

from collections.abc import Mapping
from typing import Any

from deploy.cli.words import span, stamp, traffic

ABOUT = ("id", "kind", "name", "role", "version", "state")  # understood without their name
SECONDS = ("canary", "watch")
TIMES = ("revoked",)
UNSAID = ("created",)  # the action has its time itself


def change(before: object, after: object) -> str | None:
    if before is None and after is None:
        return None
    if before is None:
        return _told(after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return _difference(before, after)
    return f"{_told(before)} → {'none' if after is None else _told(after)}"


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`a38d3311 temp user: valid → revoked`, `watch: 24 hours → 0 seconds`."""
    changed = [name for name in after if before.get(name) != after[name]]
    about = _told({name: value for name, value in after.items() if name in ABOUT and name not in changed})
    moves = ", ".join(
        ("" if name == "state" and about else f"{name}: ")
        + f"{_value(name, before.get(name))} → {_value(name, after[name])}"
        for name in changed
    )
    return ": ".join(part for part in (about, moves) if part) or _told(after)


def _told(value: object) -> str:
    if not isinstance(value, Mapping):
        return _value("", value)
    said = {name: inner for name, inner in value.items() if inner is not None and name not in UNSAID}
    about = " ".join(_value(name, said[name]) for name in ABOUT if name in said)
    rest = [f"{name} {_value(name, inner)}" for name, inner in said.items() if name not in ABOUT]
    return ", ".join(part for part in (about, *rest) if part)


def _value(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_value(name, inner) for inner in value)
    if not isinstance(value, int | float):
        return str(value)
    if name in SECONDS:
        return span(value)
    if name in TIMES:
        return stamp(value)
    if name == "share":
        return traffic(value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
