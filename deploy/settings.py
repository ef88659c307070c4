"""What one machine needs to know to run all of it, and what each of its processes is told."""

import re
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, model_validator

from feedback.settings import FeedbackSettings
from workers.settings import WorkerSettings

PACKAGED_MODEL = "smollm2-135m-instruct"
REDIS_SCHEMES = ("redis", "rediss")


class DeploySettings(WorkerSettings):
    start_timeout: float = Field(default=900.0, gt=0, description="Seconds after which a start is given up")
    engine_args: str = Field(
        default="", description="More arguments for the vLLM engine, as on a command line"
    )

    @model_validator(mode="after")
    def _find_model(self) -> Self:
        """Make `model` absolute where it is a folder, so that it means the same to every process."""
        packaged = str(self.home / "models" / PACKAGED_MODEL)
        if self.model in (PACKAGED_MODEL, packaged):
            object.__setattr__(self, "model", packaged)
        elif Path(self.model).expanduser().is_dir():
            object.__setattr__(self, "model", str(Path(self.model).expanduser().resolve()))
        elif not re.fullmatch(r"[\w.-]+/[\w.-]+", self.model) or self.model.startswith("."):
            raise ValueError(f"THUMBWHEEL_MODEL: {self.model} is neither a folder nor a hub id like org/name")
        return self

    @model_validator(mode="after")
    def _check_broker(self) -> Self:
        if "broker_url" in self.model_fields_set:
            return self
        url = urlsplit(self.redis_url)
        if url.scheme == "unix":
            raise ValueError("THUMBWHEEL_BROKER_URL is needed beside a THUMBWHEEL_REDIS_URL that is a socket")
        if url.scheme in REDIS_SCHEMES and not re.fullmatch(r"/?|/\d+/?", url.path):
            raise ValueError(f"THUMBWHEEL_REDIS_URL: {url.path} is no database, such as /0")
        return self

    @property
    def model_is_local(self) -> bool:
        return Path(self.model).is_absolute()

    @property
    def model_is_packaged(self) -> bool:
        return self.model == str(self.home / "models" / PACKAGED_MODEL)

    @property
    def embeds_valkey(self) -> bool:
        return "redis_url" not in self.model_fields_set

    @property
    def names_redis_broker(self) -> bool:
        """Whether the broker was named, and is one that can be asked for a sign of life."""
        return "broker_url" in self.model_fields_set and urlsplit(self.broker_url).scheme in REDIS_SCHEMES

    @property
    def starts_engine(self) -> bool:
        return not self.engines

    def wired(self, valkey: str, engines: tuple[str, ...]) -> "DeploySettings":
        """These settings with the addresses that were open: `valkey` (a URL, no database) and `engines`.

        Whoever names a Redis but no broker gets that server's next database as the broker.
        """
        redis_url = f"{valkey}/0" if self.embeds_valkey else self.redis_url
        broker_url = self.broker_url if "broker_url" in self.model_fields_set else _next_database(redis_url)
        update = {"redis_url": redis_url, "broker_url": broker_url, "engines": self.engines or engines}
        return self.model_copy(update=update)


def environment_for(process: type[FeedbackSettings], settings: DeploySettings) -> dict[str, str]:
    """The variables of `settings` that the process with these settings knows; it would refuse the others."""
    known = {f"THUMBWHEEL_{name.upper()}" for name in process.model_fields}
    return {key: value for key, value in settings.environment().items() if key in known}


def _next_database(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{int(parts.path.strip('/') or 0) + 1}"))
