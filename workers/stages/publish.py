"""An accepted candidate becomes `policy-v8`: installed, loaded and probed on every engine, and released.

python -m workers.stages.publish DIR
"""

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from feedback.redis import connect
from serving.engine import Engine, new_session
from serving.errors import Conflict
from serving.fleet import Loaded, Wanted
from serving.jobs import Lease
from serving.loading import bring_up
from serving.modes import Mode
from serving.registry import Registry, Version
from serving.releases import Releases
from workers.artifacts import install, reserved_name
from workers.settings import WorkerSettings
from workers.stage import Stage, StageConfig, read_json, run


class Config(StageConfig):
    """`parent`: the champion that the candidate was measured against; `evaluation` and `plots`: what came of
    that."""

    job: str
    token: int
    adapter: Path
    probe: Path
    parent: str
    reward: str | None
    evaluation: dict[str, Any]
    plots: Path | None = None


def main(config: Config, stage: Stage) -> dict[str, Any]:
    settings = WorkerSettings()
    redis = connect(settings.redis_url)
    registry = Registry(redis, settings.home)
    lease = Lease(config.job, config.token)
    name = reserved_name(stage, lambda: registry.next_version("policy", lease))
    folder = settings.home / f"artifacts/policies/{name}"
    probe = as_expected(read_json(config.probe))
    install(parts(config), folder, {"id": name, "parent": config.parent, "job": config.job})
    stage.progress(1, 3, f"{name} is installed; loading it on {len(settings.engines)} engines")
    engines = asyncio.run(_bring_up(settings.engines, Wanted(name, folder, probe)))
    version = Version(
        id=name,
        path=f"artifacts/policies/{name}",
        created=time.time(),
        parent=config.parent,
        job=config.job,
        reward=config.reward,
        metrics={**config.evaluation, "engines": [asdict(engine) for engine in engines]},
        probe=probe,
    )
    registry.add_policy(version, lease)
    stage.progress(2, 3, f"{name} is loaded; releasing it")
    started = time.perf_counter()
    reason = release(registry, Releases(redis, settings.release_rules), name, config.parent, lease)
    return {
        "version": name,
        "reason": reason,
        "engines": [asdict(engine) for engine in engines],
        "alias_seconds": time.perf_counter() - started,
    }


def parts(config: Config) -> list[Path]:
    """What the version's folder holds: the adapter's files, and the folder of plots if there is one."""
    drawn = [config.plots] if config.plots is not None and config.plots.is_dir() else []
    return [*sorted(config.adapter.iterdir()), *drawn]


def release(registry: Registry, releases: Releases, name: str, parent: str, lease: Lease) -> str | None:
    """Hand a version over to release control. Returns why it is not the champion yet."""
    rules = releases.state().rules
    if rules.mode is Mode.at_once and not rules.pinned:
        reason = promote(registry, name, parent, lease)
        releases.settle()
        return reason
    found = releases.arrive(name, lease)
    if found.trial is not None and found.trial.version == name:
        return f"{name} is on canary, with {100 * found.trial.share:.4g}% of the traffic"
    if rules.pinned:
        return f"{name} waits: an operator has pinned {registry.aliases().champion}"
    if found.trial is not None:
        return f"{name} waits: {found.trial.version} is on {found.trial.kind}"
    return f"{name} waits for an operator, who may put it on canary or promote it"


def promote(registry: Registry, name: str, parent: str, lease: Lease) -> str | None:
    """Make a version the champion, or say why not: somebody moved the champion in the meantime."""
    if registry.aliases().champion == name:  # an earlier attempt got this far
        return None
    try:
        registry.promote(name, who=lease.job_id, why="accepted by the gate", instead_of=parent, lease=lease)
    except Conflict:
        return (
            f"{name} is published but not the champion: {parent}, which it was measured against, is not the "
            f"champion any more. An operator may promote {name}."
        )
    return None


def as_expected(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The trainer's probe in the shape that `serving.probe` compares an engine with; a probe may be without
    the base's log-probabilities."""
    expected = {
        "token_ids": [[*row["prompt_token_ids"], *row["token_ids"]] for row in rows],
        "prompt_lengths": [len(row["prompt_token_ids"]) for row in rows],
        "logprobs": [row["logprobs"] for row in rows],
    }
    if all("base_logprobs" in row for row in rows):
        expected["base_logprobs"] = [row["base_logprobs"] for row in rows]
    return expected


async def _bring_up(urls: tuple[str, ...], wanted: Wanted) -> list[Loaded]:
    async with new_session() as session:
        return await bring_up([Engine(url, session) for url in urls], wanted)


if __name__ == "__main__":
    run(Config, main)
