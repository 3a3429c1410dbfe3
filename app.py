"""Twopane's entry: the command line.

Checks what `serve` is to serve before anything slow is imported; what it serves with is put
together in `ui.serving`. The other commands are `ui.command_line`'s.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from backends.listening import listen
from backends.memory import DoesNotFit
from backends.specs import UnknownModel
from db import Database, DatabaseError
from rating.errors import BadPack
from ui.command_line.database import empty_cache, migrate
from ui.command_line.exchange import export, import_
from ui.command_line.generate import generate
from ui.command_line.measure import measure
from ui.command_line.options import DatabaseUrl, give_up, load_settings, option
from ui.command_line.ratings import report, summary
from ui.command_line.served import served_by


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
    # Before Gradio is imported: it would ask its makers for news otherwise.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        from ui.serving import run  # noqa: PLC0415 -- Gradio and the web server take seconds

        run(settings, served, database, listener)
    finally:
        database.close()


for _command in (summary, report, export, import_, measure, generate, migrate, empty_cache):
    cli.command(_command.__name__.rstrip("_").replace("_", "-"))(_command)


if __name__ == "__main__":
    cli()
