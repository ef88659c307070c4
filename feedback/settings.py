"""What the feedback store needs to know, and the base of every process's settings."""

import os
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "THUMBWHEEL_"


class FeedbackSettings(BaseSettings):
    """Read from `THUMBWHEEL_…` environment variables; frozen; an unknown one is refused by name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

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
        unknown = sorted(
            key
            for key in os.environ
            if key.startswith(PREFIX) and key.removeprefix(PREFIX).lower() not in cls.model_fields
        )
        if unknown:
            known = ", ".join(sorted(PREFIX + name.upper() for name in cls.model_fields))
            raise ValueError(f"{cls.__name__} does not know {', '.join(unknown)}. It knows: {known}")
        return values

    @model_validator(mode="after")
    def _absolute_home(self) -> Self:
        object.__setattr__(self, "home", self.home.expanduser().resolve())
        return self

    def environment(self) -> dict[str, str]:
        """These settings as the environment variables that reproduce them in a child process."""
        plain = self.model_dump(mode="json", exclude_none=True)
        return {PREFIX + key.upper(): _as_variable(value) for key, value in plain.items()}


def _as_variable(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(str(item) for item in value)
    return str(value)
