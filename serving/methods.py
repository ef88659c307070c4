"""The ways to optimise a policy, by name. Imports nothing: commands and workers read it too."""

from enum import StrEnum


class Method(StrEnum):
    """How a policy is optimised."""

    rloo = "rloo"
    grpo = "grpo"
    online_dpo = "online_dpo"
    dpo = "dpo"
    kto = "kto"
    best_of_n = "best_of_n"
