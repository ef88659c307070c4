"""The engines as this gateway sees them, and the loop that keeps them as the registry wants them.

Level-triggered: what each engine has is compared with what it should have, again and again, and the
difference is mended. A restarted or a new engine heals by the same path, and is routed to only once it has.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.engine import Engine, EngineError, EngineRefused
from serving.probe import ProbeFailed, probe

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A policy version that engines should have: its adapter's directory, and what to probe it with."""

    name: str
    path: Path
    expected: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What it took on one engine: seconds, and how far it is (nats a token) from base and trainer."""

    url: str
    load_seconds: float
    probe_seconds: float
    to_base: float
    to_trainer: float


@dataclass(slots=True)
class EngineState:
    engine: Engine
    ready: bool = False
    loaded: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    inflight: int = 0
    error: str | None = "not looked at yet"
    nudge: asyncio.Event = field(default_factory=asyncio.Event)

    def as_dict(self) -> dict[str, Any]:
        return {
            "url": self.engine.url,
            "ready": self.ready,
            "loaded": sorted(self.loaded),
            "refused": self.refused,
            "inflight": self.inflight,
            "error": self.error,
        }


class Fleet:
    def __init__(self, engines: Iterable[Engine] = ()) -> None:
        self.connect(engines)
        self._wanted: dict[str, Wanted] = {}
        self._changed = asyncio.Condition()

    def connect(self, engines: Iterable[Engine]) -> None:
        self.states = [EngineState(engine) for engine in engines]

    def want(self, versions: dict[str, Wanted]) -> None:
        """What every engine should have loaded from now on."""
        changed = versions != self._wanted
        self._wanted = versions
        for state in self.states:
            if changed or state.refused:  # what was refused may have been mended by whoever moved an alias
                state.nudge.set()

    def having(self, version: str) -> list[EngineState]:
        """Engines that can answer with a version, the least busy first."""
        able = [state for state in self.states if state.ready and version in state.loaded]
        return sorted(able, key=lambda state: state.inflight)

    def addressable(self) -> set[str]:
        """Versions that some engine can answer with."""
        return set().union(*(state.loaded for state in self.states if state.ready))

    def refused(self) -> set[str]:
        """Versions that some engine could not be brought to serve."""
        return set().union(*(state.refused for state in self.states))

    async def wait_for(self, version: str, seconds: float) -> list[EngineState]:
        """Like `having`, but waits for an engine to come (back); empty where none did in time."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: self.having(version))
        except TimeoutError:
            pass
        return self.having(version)

    def brought_up(self, version: str, loaded: Iterable[Loaded]) -> None:
        """These engines have just been seen to serve a version."""
        urls = {engine.url for engine in loaded}
        for state in self.states:
            if state.engine.url in urls:
                state.refused.pop(version, None)
                state.loaded.add(version)

    def suspect(self, state: EngineState, error: str) -> None:
        """An engine failed a request: route nothing to it until it has been looked at."""
        state.ready = False
        state.error = error
        state.nudge.set()

    def missing(self, state: EngineState, version: str) -> None:
        """An engine did not know a version that it should have: it has restarted."""
        state.loaded.discard(version)
        state.nudge.set()

    async def keep_mending(self, every: float) -> None:
        """Mend all engines, for ever: at once when something changed, else every so many seconds.

        Each on its own, so that one that hangs does not keep the others from healing.
        """
        async with asyncio.TaskGroup() as group:
            for state in self.states:
                group.create_task(self._keep_mending(state, every))

    async def _keep_mending(self, state: EngineState, every: float) -> None:
        while True:
            state.nudge.clear()
            await self._mend(state)
            async with self._changed:
                self._changed.notify_all()
            try:
                async with asyncio.timeout(every):
                    await state.nudge.wait()
            except TimeoutError:
                continue

    async def _mend(self, state: EngineState) -> None:
        engine = state.engine
        try:
            present = await engine.models()
            if not state.ready:
                await engine.ping()
            state.loaded &= present.keys()
            state.loaded.add(next(iter(present)))  # vLLM lists its base model first
            for wanted in self._wanted.values():
                if wanted.name not in state.loaded:
                    await self._load(state, wanted, present)
            for name in state.loaded - self._wanted.keys() - {next(iter(present))}:
                state.loaded.discard(name)
                await _unload(engine, name)
        except EngineError as error:
            if state.ready:
                log.warning("engine %s is out: %s", engine.url, error)
            state.ready, state.error = False, str(error)
            state.refused.clear()
        else:
            if not state.ready:
                log.info("engine %s is ready with %s", engine.url, ", ".join(sorted(state.loaded)))
            state.ready, state.error = True, None

    async def _load(self, state: EngineState, wanted: Wanted, present: dict[str, str]) -> None:
        """Load and probe one version. One that an engine refuses is not offered to it again.

        What an engine has under the version's own path already was probed by whoever loaded it.
        """
        try:
            if present.get(wanted.name) != str(wanted.path):
                if wanted.name in state.refused:
                    return
                await load_and_probe(state.engine, wanted)
        except (ProbeFailed, EngineRefused) as error:
            state.refused[wanted.name] = str(error)
            log.error("engine %s cannot serve %s: %s", state.engine.url, wanted.name, error)
        else:
            state.refused.pop(wanted.name, None)
            state.loaded.add(wanted.name)
            log.info("engine %s has %s", state.engine.url, wanted.name)


async def load_and_probe(engine: Engine, wanted: Wanted) -> Loaded:
    """Load a version, unless somebody else has just done so, and see that it is what was trained.

    Raises EngineRefused or ProbeFailed; an engine does not keep a version that fails its probe.
    """
    start = time.perf_counter()
    try:
        await engine.load_adapter(wanted.name, wanted.path)
    except EngineRefused:
        if wanted.name not in await engine.models():
            raise
    loaded = time.perf_counter()
    try:
        figures = await probe(engine, wanted.name, wanted.expected)
    except ProbeFailed:
        await _unload(engine, wanted.name)
        raise
    seconds = (loaded - start, time.perf_counter() - loaded)
    return Loaded(engine.url, *seconds, to_base=figures["to_base"], to_trainer=figures["to_trainer"])


async def _unload(engine: Engine, name: str) -> None:
    """Unload an adapter; that another gateway was quicker is no trouble of the engine's."""
    try:
        await engine.unload_adapter(name)
    except EngineRefused as refusal:
        log.info("%s is unloaded already: %s", name, refusal)
