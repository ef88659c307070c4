"""Who decides on what the gate accepted; the words of release control. No Redis."""

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
