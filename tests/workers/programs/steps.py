"""A stage that takes `seconds`, tells how far it is, and leaves its process id behind."""

import os
import time
from typing import Any

from workers.stage import Stage, StageConfig, run


class Config(StageConfig):
    seconds: float


def main(config: Config, stage: Stage) -> dict[str, Any]:
    stage.path("pid").write_text(str(os.getpid()))
    with stage.path("runs").open("a") as runs:
        runs.write("x")
    end = time.monotonic() + config.seconds
    while time.monotonic() < end:
        stage.progress(1, 2, "half of it")
        time.sleep(0.05)
    return {"answer": 42}


if __name__ == "__main__":
    run(Config, main)
