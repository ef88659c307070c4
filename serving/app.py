"""The gateway's composition root: everything is made here, once, and handed to who needs it.

python -m serving.app
"""

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse
from starlette.routing import Route

from feedback.comments import Comments
from feedback.conversations import Conversations
from feedback.dashboard import Dashboard
from feedback.download import Download
from feedback.labels import Labels
from feedback.layout import COMPLETIONS, EVENTS
from feedback.live import Live
from feedback.pages.assets import assets_router
from feedback.pages.renderer import Pages
from feedback.recount import Recount, keep_recounting
from feedback.redis import connect, connect_async
from feedback.routes import feedback_router
from feedback.stats import Stats
from feedback.stats_routes import stats_router
from feedback.store import FeedbackStore
from feedback.types import now
from serving.audit import AUDIT, Audit
from serving.auth import Keys, KeyView
from serving.chat import Chat
from serving.chatlog import ChatLog
from serving.control import Control, control_router
from serving.dashboard import Board, dashboard_router
from serving.dispatch import Dispatcher, producer
from serving.engine import Engine, EngineError, new_session
from serving.fleet import Fleet
from serving.gate import Gate
from serving.imports import Imports, imports_router
from serving.jobfolders import JobFolders
from serving.jobs import Jobs
from serving.metrics import Metrics
from serving.pages import FOLDER
from serving.pages.chat import chat_page_router
from serving.pages.operate import operate_page_router
from serving.pages.render import render_router
from serving.pairs import Pairs
from serving.registry import Registry
from serving.release_routes import release_router
from serving.releases import Releases
from serving.replies import BodyLimit, error_body, error_response, install_error_handlers
from serving.router import Router
from serving.served import ServedSums
from serving.sessions import Sessions, SessionView
from serving.settings import ServingSettings
from serving.signin import signin_router
from serving.watch import Watch

SHUTDOWN_WAIT = 5.0

log = logging.getLogger(__name__)


def create_app(settings: ServingSettings) -> FastAPI:
    """The gateway. Must be made inside a running event loop's process, and started by its lifespan."""
    redis, async_redis = connect(settings.redis_url), connect_async(settings.redis_url)
    registry, jobs, keys, audit = Registry(redis, settings.home), Jobs(redis), Keys(redis), Audit(redis)
    releases = Releases(redis, settings.release_rules)
    store, metrics, key_view = FeedbackStore(async_redis), Metrics(), KeyView()
    sessions, session_view = Sessions(redis), SessionView(settings.session_hours * 3600)
    fleet, recount = Fleet(), Recount(redis)
    router = Router(fleet)
    chat_log = ChatLog(store, ServedSums(async_redis), metrics, settings.log_buffer)
    chat = Chat(router, fleet, chat_log, metrics)
    watch = Watch(
        async_redis,
        registry,
        releases,
        keys,
        router,
        fleet,
        key_view,
        sessions,
        session_view,
        settings.refresh,
        settings.loaded_versions,
    )
    dispatcher = Dispatcher(producer(settings.broker_url))
    folders = JobFolders(settings.home)
    control = Control(
        registry, jobs, folders, keys, audit, dispatcher, store, router, fleet, releases, watch.refresh
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(registry.ensure_base)
        await asyncio.to_thread(releases.settle)
        await asyncio.to_thread(
            keys.ensure_operator, settings.operator_key, settings.home / "keys" / "operator"
        )
        await watch.refresh()
        async with new_session() as session:
            fleet.connect([Engine(url, session) for url in settings.engines])
            loops = [
                asyncio.create_task(_for_ever(loop))
                for loop in (
                    watch.keep_fresh,
                    lambda: fleet.keep_mending(settings.refresh),
                    chat_log.keep_flushing,
                    lambda: keep_recounting(recount),
                    lambda: _get_ready(dashboard),
                )
            ]
            try:
                yield
            finally:
                for loop in loops:
                    loop.cancel()
                await asyncio.wait(loops, timeout=SHUTDOWN_WAIT)
                await chat_log.close()
                await async_redis.aclose()
                redis.close()

    app = FastAPI(title="Thumbwheel", lifespan=lifespan, docs_url=None, redoc_url=None)
    install_error_handlers(app)
    app.router.routes.append(Route("/v1/chat/completions", chat, methods=["POST"]))
    app.router.routes.append(
        Route("/v1/pairs", Pairs(router, chat, store, settings.pair_ttl), methods=["POST"])
    )
    stats, pages = Stats(redis), Pages([FOLDER])
    dashboard = Dashboard(stats, Comments(redis), Labels(redis))
    live = Live(async_redis, (EVENTS, COMPLETIONS, AUDIT))
    for routes in (
        feedback_router(store),
        stats_router(stats, dashboard, Conversations(redis), Download(redis), live),
        imports_router(Imports(redis, store, audit)),
        control_router(control),
        release_router(control),
        assets_router(pages.assets),
        signin_router(pages, key_view, sessions, session_view),
        chat_page_router(pages),
        operate_page_router(pages),
        dashboard_router(pages, Board(dashboard, audit, registry)),
        render_router(),
    ):
        # As they are: include_router makes each of them once more, which doubles the time of a start.
        app.router.routes.extend(routes.routes)
    _add_probes(app, fleet, router, metrics)
    app.add_middleware(BodyLimit, limit=settings.max_body)
    app.add_middleware(Gate, keys=key_view, sessions=session_view, refuse=error_response)
    return app


def _add_probes(app: FastAPI, fleet: Fleet, router: Router, metrics: Metrics) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        """200 once an engine has generated a token as the champion."""
        champion = router.view.aliases.champion
        reasons: dict[str, Any] = {state.engine.url: state.error for state in fleet.states}
        for state in fleet.having(champion):
            try:
                await state.engine.ping(champion)
            except EngineError as error:
                reasons[state.engine.url] = str(error)
            else:
                return JSONResponse({"status": "ready", "champion": champion})
        message = f"No engine answers with {champion}: {reasons or 'none is configured (THUMBWHEEL_ENGINES)'}"
        return JSONResponse(error_body(message, "server_error", "no_engine"), 503)

    @app.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        metrics.engines_ready.set(len(fleet.having(router.view.aliases.champion)))
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _get_ready(dashboard: Dashboard) -> None:
    """Once, then wait for ever. Where it fails, first looks wait instead."""
    try:
        await asyncio.to_thread(dashboard.get_ready, now())
    except Exception as error:
        log.warning("the dashboard's first look will take a moment, it could not be read before: %s", error)
    await asyncio.Event().wait()


async def _for_ever(loop: Callable[[], Any]) -> None:
    """A background loop that an unforeseen error delays, but never ends; only being cancelled does.

    A task group that fails while it is cancelled raises its errors in place of the cancellation.
    """
    task = asyncio.current_task()
    while task is None or not task.cancelling():
        try:
            await loop()
        except Exception:
            log.exception("a background loop failed; it goes on")
            await asyncio.sleep(1)


def main() -> None:
    settings = ServingSettings()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Matrices of a dozen versions: threads would only wait for each other, and for the trainer's.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app = create_app(settings)
    gc.collect()
    gc.freeze()  # what is there by now stays: it need not be looked through again and again
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        forwarded_allow_ips=settings.proxies,
        timeout_graceful_shutdown=5,
        log_config=None,
    )


if __name__ == "__main__":
    main()
