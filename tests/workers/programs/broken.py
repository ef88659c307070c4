"""A stage that fails with a sentence."""

from typing import Any

from workers.stage import Stage, StageConfig, StageError, run


class Config(StageConfig):
    pass


def main(config: Config, stage: Stage) -> dict[str, Any]:
    raise StageError("the moon is in the wrong phase")


if __name__ == "__main__":
    run(Config, main)
