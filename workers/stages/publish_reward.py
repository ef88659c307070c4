"""A trained reward model becomes `reward-v3`, the live one. No torch.

python -m workers.stages.publish_reward DIR
"""

import time
from pathlib import Path
from typing import Any

from feedback.redis import connect
from serving.jobs import Lease
from serving.registry import Registry, Version
from workers import plots
from workers.artifacts import install, reserved_name
from workers.settings import WorkerSettings
from workers.stage import METRICS, Stage, StageConfig, read_json, run


class Config(StageConfig):
    """`trained`: the folder of `train_reward`; `parent`: the version that it was measured against."""

    job: str
    token: int
    trained: Path
    parent: str | None


def main(config: Config, stage: Stage) -> dict[str, Any]:
    settings = WorkerSettings()
    registry = Registry(connect(settings.redis_url), settings.home)
    lease = Lease(config.job, config.token)
    name = reserved_name(stage, lambda: registry.next_version("reward", lease))
    version = Version(
        id=name,
        path=f"artifacts/rewards/{name}",
        created=time.time(),
        parent=config.parent,
        job=config.job,
        metrics=read_json(config.trained / METRICS),
    )
    plots.redraw_reliability(config.trained / "reward" / "plots")
    install(
        (config.trained / "reward").iterdir(), settings.home / f"artifacts/rewards/{name}", version.as_dict()
    )
    registry.add_reward(version, lease)
    return {"version": name}


if __name__ == "__main__":
    run(Config, main)
