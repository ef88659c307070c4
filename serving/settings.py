"""What the gateway needs to know."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from feedback.settings import FeedbackSettings
from serving.modes import Mode, Rules, Undecided

MAX_ADAPTERS = 8  # that an engine keeps in memory (--max-cpu-loras); one more drops another without a word
# What a job loads beside the versions: the candidate that it goes on from, its own, and what it publishes.
OF_A_JOB = 3


class ServingSettings(FeedbackSettings):
    host: str = Field(default="127.0.0.1", description="Address that the gateway listens on")
    port: int = Field(default=8000, ge=1, le=65535, description="Port that the gateway listens on")
    broker_url: str = Field(
        default="redis://127.0.0.1:6379/1",
        description="Celery's broker; unset: the next database of the same server",
    )
    engines: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="URLs of vLLM engines, comma separated; deploy/up starts one unless set"
    )
    max_body: int = Field(default=1 << 20, gt=0, description="Largest request body, bytes")
    operator_key: str | None = Field(
        default=None, description="The first operator key; else keys/operator is made"
    )
    session_hours: int = Field(default=168, ge=1, description="Hours that a browser stays signed in")
    proxies: str = Field(
        default="127.0.0.1",
        description="Addresses of proxies whose `X-Forwarded-…` headers hold, comma separated",
    )
    loaded_versions: int = Field(
        default=5, ge=2, description="Policy versions kept loaded on each engine, 2 to 5"
    )
    refresh: float = Field(
        default=2.0, gt=0, description="Seconds between looks at the registry and the engines"
    )
    log_buffer: int = Field(default=10_000, gt=0, description="Replies kept in memory while Redis is away")

    release_mode: Mode = Field(
        default=Mode.auto,
        description="What becomes of a version that the gate accepted: auto, canary_then_ask, ask_first, "
        "at_once",
    )
    canary_share: float = Field(
        default=0.1, gt=0, le=0.5, description="Share of the traffic that a canary gets"
    )
    canary_seconds: float = Field(
        default=7 * 24 * 3600.0, gt=0, description="Time after which a canary is undecided"
    )
    canary_undecided: Undecided = Field(
        default=Undecided.wait, description="What becomes of it then: wait, promote, abort"
    )
    watch_seconds: float = Field(
        default=24 * 3600.0,
        ge=0,
        description="Time after a promotion in which harm rolls back by itself; 0: none",
    )

    @property
    def release_rules(self) -> Rules:
        return Rules(
            self.release_mode,
            self.canary_share,
            self.canary_seconds,
            self.canary_undecided,
            self.watch_seconds,
        )

    @field_validator("loaded_versions")
    @classmethod
    def _fit_beside_a_job(cls, value: int) -> int:
        if value > MAX_ADAPTERS - OF_A_JOB:
            raise ValueError(
                f"THUMBWHEEL_LOADED_VERSIONS: take at most {MAX_ADAPTERS - OF_A_JOB}. An engine keeps "
                f"{MAX_ADAPTERS} adapters (--max-cpu-loras), {OF_A_JOB} of them for a job's candidates, and "
                "drops any beyond without a word"
            )
        return value

    @field_validator("engines", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(url.strip().rstrip("/") for url in value.split(",") if url.strip())
        return value
