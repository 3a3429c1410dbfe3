"""Twopane's entry: settings -> servers -> pages -> launch, and the command line.

Puts the parts together; what they do is theirs.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import uvicorn
from fastapi import FastAPI
from typer.core import TyperGroup

from backends.lineup import Lineup
from backends.listening import listen
from backends.measure import measure as carry_out
from backends.memory import DoesNotFit
from backends.resources import Monitor
from backends.specs import UnknownModel
from backends.supervisor import State
from db import Database, DatabaseError
from rating.errors import BadPack
from rating.measuring.background import Measuring
from rating.measuring.measurements import Measurements
from rating.session import Panel
from ui.command_line.database import empty_cache, migrate
from ui.command_line.exchange import export, import_
from ui.command_line.generate import generate
from ui.command_line.measure import measure
from ui.command_line.options import DatabaseUrl, give_up, load_settings, option
from ui.command_line.ratings import report, summary
from ui.command_line.served import Served, served_by
from ui.command_line.settings import Settings

logger = logging.getLogger(__name__)


class _ServeByDefault(TyperGroup):
    """`python app.py --port 8000` means `python app.py serve --port 8000`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h")):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


cli = typer.Typer(
    cls=_ServeByDefault,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Two small chat models side by side on a CPU, rated blind. Without a command: serve.",
)


@cli.command()
def serve(
    pair: Annotated[str | None, option("pair", "--pair")] = None,
    left: Annotated[str | None, option("left", "--left")] = None,
    right: Annotated[str | None, option("right", "--right")] = None,
    pack: Annotated[Path | None, option("pack", "--pack")] = None,
    host: Annotated[str | None, option("host", "--host")] = None,
    port: Annotated[int | None, option("port", "--port")] = None,
    database_url: DatabaseUrl = None,
    open_: Annotated[bool | None, option("open", "--open/--blind")] = None,
    threads: Annotated[int | None, option("threads", "--threads")] = None,
    precision: Annotated[str | None, option("precision", "--precision")] = None,
    cache_memory: Annotated[int | None, option("cache_memory", "--cache-memory")] = None,
    hubs: Annotated[str | None, option("hubs", "--hubs")] = None,
    force: Annotated[bool | None, option("force", "--force")] = None,
    answer_cache: Annotated[
        Literal["off", "open", "all"] | None, option("answer_cache", "--answer-cache")
    ] = None,
    answer_cache_pace: Annotated[
        Literal["recorded", "at-once"] | None, option("answer_cache_pace", "--answer-cache-pace")
    ] = None,
    alarm_memory: Annotated[int | None, option("alarm_memory", "--alarm-memory")] = None,
    alarm_cpu: Annotated[int | None, option("alarm_cpu", "--alarm-cpu")] = None,
) -> None:
    """Start both models and serve the panel; with an answer pack, without any model."""
    settings = load_settings(
        pair=pair,
        left=left,
        right=right,
        pack=pack,
        host=host,
        port=port,
        database_url=database_url,
        open=open_,
        threads=threads,
        precision=precision,
        cache_memory=cache_memory,
        hubs=hubs,
        force=force,
        answer_cache=answer_cache,
        answer_cache_pace=answer_cache_pace,
        alarm_memory=alarm_memory,
        alarm_cpu=alarm_cpu,
    )
    try:
        served = served_by(settings)
        listener = listen(settings.host, settings.port)
        database = Database.open(settings.database_url)
    except (UnknownModel, DoesNotFit, BadPack, DatabaseError, OSError) as error:
        raise give_up(error) from error
    try:
        _serve(settings, served, database, listener)
    finally:
        database.close()


for _command in (summary, report, export, import_, measure, generate, migrate, empty_cache):
    cli.command(_command.__name__.rstrip("_").replace("_", "-"))(_command)


def _serve(settings: Settings, served: Served, database: Database, listener: socket.socket) -> None:
    # Before Gradio is imported: it would ask its makers for news otherwise.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from ui.metrics import Metrics  # noqa: PLC0415
    from ui.operator import Operator  # noqa: PLC0415
    from ui.pages import PATHS, build_pages  # noqa: PLC0415
    from ui.web import build_app  # noqa: PLC0415

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


if __name__ == "__main__":
    cli()
