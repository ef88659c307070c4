"""Who decides on what the gate accepted; the words of release control. No Redis."""

from dataclasses import dataclass
from enum import StrEnum


class Mode(StrEnum):
    """What becomes of a version that the gate accepted. `at_once`: it is promoted without a canary."""

    auto = "auto"
    canary_then_ask = "canary_then_ask"
    ask_first = "ask_first"
    at_once = "at_once"


class Undecided(StrEnum):
    """What becomes of a canary that its time did not decide."""

    wait = "wait"
    promote = "promote"
    abort = "abort"


@dataclass(frozen=True, slots=True)
class Rules:
    """`share`: of the traffic that a canary gets, and during a watch the version before. `canary`, `watch`:
    seconds until a canary is undecided, and of the watch after a promotion (0: none). `pinned`: nothing moves
    by itself."""

    mode: Mode = Mode.auto
    share: float = 0.1
    canary: float = 7 * 24 * 3600.0
    undecided: Undecided = Undecided.wait
    watch: float = 24 * 3600.0
    pinned: bool = False
