"""What the feedback store needs to know, and the base of every process's settings."""

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "THUMBWHEEL_"


class FeedbackSettings(BaseSettings):
    """Read from `THUMBWHEEL_…` environment variables; frozen; an unknown one is refused by name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", allow_inf_nan=False)

    home: Path = Field(
        default=Path(".thumbwheel"), description="Folder of all state: artifacts, jobs, logs, keys"
    )
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="Feedback, registry, jobs; deploy/up embeds one unless set",
    )
    pair_ttl: float = Field(default=3600.0, gt=0, description="Seconds until an unanswered pair expires")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_variables(cls, values: dict[str, Any]) -> dict[str, Any]:
        if wrong := cls.unknown_variables():
            raise ValueError(wrong)
        return values

    @classmethod
    def unknown_variables(cls) -> str | None:
        """What is wrong with the names of the environment's `THUMBWHEEL_…` variables, if anything."""
        known = sorted(PREFIX + name.upper() for name in cls.model_fields)
        unknown = sorted(key for key in os.environ if key.startswith(PREFIX) and key.upper() not in known)
        if not unknown:
            return None
        told = ", ".join(key + _nearest(key, known) for key in unknown)
        return f"{cls.__name__} does not know {told}. It knows: {', '.join(known)}"

    @model_validator(mode="after")
    def _absolute_home(self) -> Self:
        object.__setattr__(self, "home", self.home.expanduser().resolve())
        return self

    def environment(self) -> dict[str, str]:
        """These settings as the environment variables that reproduce them in a child process."""
        plain = self.model_dump(mode="json", exclude_none=True)
        return {PREFIX + key.upper(): _as_variable(value) for key, value in plain.items()}


def _nearest(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _as_variable(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return str(value)
