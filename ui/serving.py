"""What `serve` runs: models, panel, pages and the web server, put together.

What the parts do is theirs. Everything slow is imported here, and before the first question, so
that no rater waits for it.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from backends import client
from backends.lineup import Lineup
from backends.measure import measure as carry_out
from backends.resources import Monitor
from backends.supervisor import State
from db import Database, DatabaseError
from rating.measuring.background import Measuring
from rating.measuring.measurements import Measurements
from rating.session import Panel
from ui.command_line.served import Served
from ui.command_line.settings import Settings
from ui.metrics import Metrics
from ui.operator import Operator
from ui.pages import PATHS, build_pages
from ui.web import build_app

logger = logging.getLogger(__name__)


def run(settings: Settings, served: Served, database: Database, listener: socket.socket) -> None:
    """Serve until a signal ends it; models start with it and end with it."""
    client.prepare()
    lineup = Lineup(
        served.models,
        served.make_backends,
        force=settings.force,
        precisions=settings.precisions,
        cache_bytes=settings.cache_bytes,
    )
    measurements = Measurements(database)
    panel = Panel(
        database,
        lineup.backends,
        blind=not settings.open,
        cache=settings.answers_from(database),
        source=served.source(database),
        prompt_set=served.pack.prompt_set if served.pack else None,
        measured=measurements.under_way,
    )
    for_servers = settings.for_servers()
    monitor = Monitor(lineup, settings.alarm_limits, others=for_servers.running)
    key = settings.operator_key.get_secret_value() if settings.operator_key else None
    measure_here = partial(carry_out, settings=for_servers)
    measuring = Measuring(panel, lineup, measurements, measure_here)
    pages = build_pages(panel, database, lineup, measuring, monitor, operator_key=key)
    web = build_app(
        pages,
        PATHS,
        lifespan=_running(panel, lineup, measuring, monitor),
        ready=lambda: _readiness(database, lineup),
        metrics=Metrics(panel, lineup, monitor, Operator(key)).answer,
    )
    host, port = listener.getsockname()[:2]
    logger.info("Twopane is at http://%s:%s", host, port)
    config = uvicorn.Config(
        web, log_config=None, access_log=False, timeout_graceful_shutdown=2, lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[listener])


def _running(panel: Panel, lineup: Lineup, measuring: Measuring, monitor: Monitor) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await lineup.start()
        monitor.start()
        try:
            yield
        finally:
            await measuring.close()
            await monitor.stop()
            await panel.close()
            await lineup.stop()

    return lifespan


async def _readiness(database: Database, lineup: Lineup) -> dict[str, bool]:
    ready = all(backend.status.state is State.READY for backend in lineup.backends)
    try:
        await asyncio.to_thread(database.ping)
    except DatabaseError:
        logger.exception("the database failed")
        return {"database": False, "models": ready}
    return {"database": True, "models": ready}
