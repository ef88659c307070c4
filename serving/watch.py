"""Keeping this gateway's view of the registry fresh: by push from Redis, and by a slow poll."""

import asyncio
import logging
from collections.abc import Set

from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from serving.auth import Key, Keys, KeyView
from serving.fleet import Fleet
from serving.registry import CHANGED, Registry
from serving.releases import Releases
from serving.router import Router, View, wanted
from serving.sessions import Sessions, SessionView

log = logging.getLogger(__name__)


class Watch:
    def __init__(
        self,
        redis: AsyncRedis,
        registry: Registry,
        releases: Releases,
        keys: Keys,
        router: Router,
        fleet: Fleet,
        key_view: KeyView,
        sessions: Sessions,
        session_view: SessionView,
        every: float,
        loaded_versions: int,
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._releases = releases
        self._keys = keys
        self._router = router
        self._fleet = fleet
        self._key_view = key_view
        self._sessions = sessions
        self._session_view = session_view
        self._every = every
        self._loaded_versions = loaded_versions

    async def refresh(self) -> None:
        """Look at the registry now. Raises RedisError, and then the last view stays."""
        view, keys, (secret, ended) = await asyncio.to_thread(self._look)
        self._router.view = view
        self._key_view.keys = keys
        self._session_view.secret, self._session_view.ended = secret, ended
        self._fleet.want(wanted(view, self._registry, self._loaded_versions))

    def _look(self) -> tuple[View, dict[str, Key], tuple[str, Set[str]]]:
        aliases, versions = self._registry.aliases(), self._registry.policies()
        view = View(aliases, versions, self._releases.state().trial)
        return view, self._keys.all(), self._sessions.look()

    async def keep_fresh(self) -> None:
        """For ever: at once when something changed, else every so many seconds."""
        while True:
            try:
                await self._listen()
            except RedisError as error:
                log.warning("Redis is away; answering by the last known route: %s", error)
                await asyncio.sleep(self._every)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as changes:
            await changes.subscribe(CHANGED)
            await self.refresh()
            while True:
                await changes.get_message(ignore_subscribe_messages=True, timeout=self._every)
                await self.refresh()
