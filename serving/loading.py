"""Bringing a version onto every engine before anyone is routed to it. Async."""

import asyncio

from serving.engine import Engine, EngineDown, EngineRefused
from serving.errors import Conflict, NoEngine
from serving.fleet import Loaded, Wanted, load_and_probe
from serving.probe import ProbeFailed


async def bring_up(engines: list[Engine], wanted: Wanted) -> list[Loaded]:
    """Load and probe a version on every engine that is up; an engine that is down heals later by itself.

    Raises NoEngine where none is up, Conflict where one refuses the version or its probe fails.
    """
    if not (wanted.path / "adapter_config.json").is_file():
        raise Conflict(f"The files of {wanted.name} are gone ({wanted.path}); it cannot be loaded.")
    found = await asyncio.gather(
        *(load_and_probe(engine, wanted) for engine in engines), return_exceptions=True
    )
    for result in found:
        if isinstance(result, ProbeFailed | EngineRefused):
            raise Conflict(f"{wanted.name} cannot be served: {result}") from result
        if isinstance(result, BaseException) and not isinstance(result, EngineDown):
            raise result
    loaded = [result for result in found if isinstance(result, Loaded)]
    if not loaded:
        raise NoEngine("No engine is up, so nothing can be loaded. Nothing was changed.")
    return loaded
