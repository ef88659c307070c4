"""What the gateway needs to know."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from feedback.settings import FeedbackSettings


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
    loaded_versions: int = Field(default=5, ge=2, description="Policy versions kept loaded on each engine")
    refresh: float = Field(
        default=2.0, gt=0, description="Seconds between looks at the registry and the engines"
    )
    log_buffer: int = Field(default=10_000, gt=0, description="Replies kept in memory while Redis is away")

    @field_validator("engines", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(url.strip().rstrip("/") for url in value.split(",") if url.strip())
        return value
