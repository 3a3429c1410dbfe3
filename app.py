"""Twopane's entry: settings -> servers -> pages -> launch, and the command line.

Says what is set and puts the parts together; what they do is theirs.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import uvicorn
from fastapi import FastAPI
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from typer.core import TyperGroup

from backends import memory
from backends.catalog import HUBS, PAIRS, Model, hub_order
from backends.cores import threads_per_server, usable_cores
from backends.hub import with_files
from backends.lineup import Lineup, Models
from backends.listening import listen
from backends.measure import ServerSettings
from backends.measure import measure as carry_out
from backends.measurement import ARTICLE_PROMPTS, Plan
from backends.memory import DoesNotFit
from backends.precisions import PRECISIONS, precision_order
from backends.resources import Limits, Monitor
from backends.specs import UnknownModel, resolve
from backends.supervisor import Backend, ModelServer, RemoteModel, State
from db import Database, DatabaseError, Language
from rating import measured, measured_text
from rating.answer_cache import AnswerCache, CacheLimits
from rating.entries import clean_text
from rating.errors import BadFilter
from rating.foreground import measure_to_end
from rating.measurements import Measurements, MeasurementView, NotNow
from rating.measuring import Measuring
from rating.session import Panel
from rating.summary import as_json, as_markdown, filters_from, load_trials, summarise

logger = logging.getLogger(__name__)

_MODEL_WORDS = "catalog key, folder, hub id, base+adapter folder, or URL#model"


class Settings(BaseSettings):
    """Everything that can be set: by an option, else by a `TWOPANE_*` variable, else as here."""

    model_config = SettingsConfigDict(env_prefix="TWOPANE_", env_file=".env", extra="ignore")

    pair: str = Field("tiny", description=f"which pair to compare: {', '.join(PAIRS)}")
    left: str | None = Field(
        None, description=f"a model instead of the pair's first: {_MODEL_WORDS}"
    )
    right: str | None = Field(
        None, description=f"a model instead of the pair's second: {_MODEL_WORDS}"
    )
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 is every one")
    port: int = Field(7860, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    database_url: str = Field(
        "sqlite:///data/twopane.db", description="where ratings are kept: SQLite or PostgreSQL"
    )
    open: bool = Field(False, description="show from the start which model is which")
    threads: int | None = Field(
        None, ge=1, description="threads of each local model server; otherwise the cores shared out"
    )
    precision: str | None = Field(
        None,
        description=f"what local models compute in: {', '.join(PRECISIONS)}, or several, as "
        "int8,int4: the first that the weights allow; otherwise their own choice",
    )
    cache_memory: int | None = Field(
        None,
        ge=0,
        description="MB that each local model server may use to keep what it has computed of "
        "conversations; otherwise an eighth of what is free, 256 to 2000",
    )
    hubs: str = Field(
        ",".join(HUBS),
        description="where weights are fetched from that are not here, in this order",
    )
    cache: Path | None = Field(
        None,
        description="where fetched weights are kept; otherwise in the user's cache folder "
        "(only as a variable)",
    )
    force: bool = Field(False, description="load models that need more memory than is free")
    answer_cache: Literal["off", "open", "all"] = Field(
        "off",
        description="in which trials a question that was asked before gets its answer again, from "
        "the database: off, open (open ones), all (blind ones too: a rater may know the words "
        "again)",
    )
    answer_cache_pace: Literal["recorded", "at-once"] = Field(
        "recorded",
        description="how fast such an answer comes in an open trial: recorded (as it once came) or "
        "at-once; in a blind one always as recorded",
    )
    answer_cache_entries: int = Field(
        1_000,
        ge=1,
        description="how many answers are kept to be given again; the longest unused one goes "
        "first (only as a variable)",
    )
    answer_cache_size: int = Field(
        50, ge=1, description="MB that these answers may take (only as a variable)"
    )
    api_key: SecretStr = Field(
        SecretStr("none"), description="key for models at a URL (only as a variable)"
    )
    alarm_memory: int = Field(
        80,
        ge=1,
        le=100,
        description="percent of this machine's memory: an alarm begins when the app and its model "
        "servers hold more together; a share of the machine, since that is what runs out",
    )
    alarm_cpu: int | None = Field(
        None,
        ge=1,
        le=100,
        description="percent of all usable cores: an alarm begins when the app and its model "
        "servers take more together over a minute; otherwise none, since answering takes what it "
        "can get",
    )
    operator_key: SecretStr | None = Field(
        None,
        description="who enters it on the Models page may change the pair; without it, only who "
        "visits from this machine (only as a variable)",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="how much is logged"
    )

    @field_validator("hubs")
    @classmethod
    def _check_hubs(cls, hubs: str) -> str:
        hub_order(hubs)
        return hubs

    @field_validator("precision")
    @classmethod
    def _check_precision(cls, precision: str | None) -> str | None:
        return None if precision is None else ",".join(precision_order(precision))

    @property
    def cache_bytes(self) -> int | None:
        """What each server may keep of conversations; None: it depends on what is free."""
        return None if self.cache_memory is None else self.cache_memory * 1_000_000

    @property
    def alarm_limits(self) -> Limits:
        """Above which shares of the machine an alarm begins."""
        cpu = None if self.alarm_cpu is None else self.alarm_cpu / 100
        return Limits(self.alarm_memory / 100, cpu)

    def answers_from(self, database: Database) -> AnswerCache | None:
        """Return the answers that may be given again; None where none may."""
        if self.answer_cache == "off":
            return None
        return AnswerCache(
            database,
            CacheLimits(self.answer_cache_entries, self.answer_cache_size * 1_000_000),
            blind=self.answer_cache == "all",
            at_once=self.answer_cache_pace == "at-once",
        )

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that are wanted, the first choice first; empty: the models' own."""
        return precision_order(self.precision) if self.precision else ()

    def models(self) -> Models:
        """Return the two models to compare.

        Raises:
            UnknownModel: No such pair or model, or twice the same; says what to do.
        """
        if self.pair not in PAIRS:
            raise UnknownModel(f"There is no pair {self.pair!r}. Give one of: {', '.join(PAIRS)}.")
        first, second = PAIRS[self.pair].models
        left, right = resolve(self.left or first), resolve(self.right or second)
        if left.key == right.key:
            raise UnknownModel(f"Both sides would be {left.key}. Give two different models.")
        return with_files(left), with_files(right)

    def models_named(self, names: Sequence[str]) -> tuple[Model, ...]:
        """Return the models of these names; without any, the two to compare.

        Raises:
            UnknownModel: No such model, or one of them twice; says what to do.
        """
        if not names:
            return self.models()
        models = {model.key: model for model in map(resolve, names)}
        if len(models) < len(names):
            raise UnknownModel(f"Of {', '.join(names)} some are the same. Give each model once.")
        return tuple(map(with_files, models.values()))


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


def _option(name: str, *flags: str) -> Any:
    """An option of the command line for the setting of that name."""
    words = Settings.model_fields[name].description
    return typer.Option(*flags, help=f"{words} [TWOPANE_{name.upper()}]", show_default=False)


_DatabaseUrl = Annotated[str | None, _option("database_url", "--database-url")]


@cli.command()
def serve(
    pair: Annotated[str | None, _option("pair", "--pair")] = None,
    left: Annotated[str | None, _option("left", "--left")] = None,
    right: Annotated[str | None, _option("right", "--right")] = None,
    host: Annotated[str | None, _option("host", "--host")] = None,
    port: Annotated[int | None, _option("port", "--port")] = None,
    database_url: _DatabaseUrl = None,
    open_: Annotated[bool | None, _option("open", "--open/--blind")] = None,
    threads: Annotated[int | None, _option("threads", "--threads")] = None,
    precision: Annotated[str | None, _option("precision", "--precision")] = None,
    cache_memory: Annotated[int | None, _option("cache_memory", "--cache-memory")] = None,
    hubs: Annotated[str | None, _option("hubs", "--hubs")] = None,
    force: Annotated[bool | None, _option("force", "--force")] = None,
    answer_cache: Annotated[
        Literal["off", "open", "all"] | None, _option("answer_cache", "--answer-cache")
    ] = None,
    answer_cache_pace: Annotated[
        Literal["recorded", "at-once"] | None, _option("answer_cache_pace", "--answer-cache-pace")
    ] = None,
    alarm_memory: Annotated[int | None, _option("alarm_memory", "--alarm-memory")] = None,
    alarm_cpu: Annotated[int | None, _option("alarm_cpu", "--alarm-cpu")] = None,
) -> None:
    """Start both models and serve the panel."""
    settings = _settings(
        pair=pair,
        left=left,
        right=right,
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
        models = settings.models()
        if not settings.force:
            memory.fit(
                models, precisions=settings.precisions, cache_bytes=settings.cache_bytes
            ).check()
        listener = listen(settings.host, settings.port)
        database = Database.open(settings.database_url)
    except (UnknownModel, DoesNotFit, DatabaseError, OSError) as error:
        raise _give_up(error) from error
    try:
        _serve(settings, models, database, listener)
    finally:
        database.close()


class Format(StrEnum):
    """How a result is printed."""

    MARKDOWN = "markdown"
    JSON = "json"


@cli.command()
def summary(
    format_: Annotated[Format, typer.Option("--format", help="markdown or json")] = Format.MARKDOWN,
    pair: Annotated[
        str | None, typer.Option(help='only this pair, as "first-model|second-model"')
    ] = None,
    blind: Annotated[bool | None, typer.Option("--blind/--open", help="only those")] = None,
    language: Annotated[Language | None, typer.Option(help="only this language")] = None,
    since: Annotated[str | None, typer.Option(help="first day, as 2026-02-28 (UTC)")] = None,
    until: Annotated[str | None, typer.Option(help="last day, as 2026-02-28 (UTC)")] = None,
    database_url: _DatabaseUrl = None,
) -> None:
    """Print what the ratings say so far."""
    mode = None if blind is None else "blind" if blind else "open"
    try:
        filters = filters_from(pair=pair, mode=mode, language=language, since=since, until=until)
        database = Database.open(_settings(database_url=database_url).database_url, create=False)
        try:
            pairs = summarise(load_trials(database, filters))
        finally:
            database.close()
    except (BadFilter, DatabaseError) as error:
        raise _give_up(error) from error
    if format_ is Format.JSON:
        typer.echo(json.dumps(as_json(pairs), ensure_ascii=False, indent=2))
    else:
        typer.echo(as_markdown(pairs))


@cli.command()
def measure(
    model: Annotated[
        list[str] | None, typer.Option(help=f"instead of the pair; may be repeated: {_MODEL_WORDS}")
    ] = None,
    pair: Annotated[str | None, _option("pair", "--pair")] = None,
    left: Annotated[str | None, _option("left", "--left")] = None,
    right: Annotated[str | None, _option("right", "--right")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="how often each prompt is asked")] = 5,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="instead of the article's three prompts; may be repeated"),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="leave out measuring all models at once")
    ] = False,
    threads: Annotated[int | None, _option("threads", "--threads")] = None,
    precision: Annotated[str | None, _option("precision", "--precision")] = None,
    hubs: Annotated[str | None, _option("hubs", "--hubs")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="even while raters are being served, or memory is short"),
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="markdown or json")] = Format.MARKDOWN,
    database_url: _DatabaseUrl = None,
) -> None:
    """Measure what models take on this machine, as the article did; Ctrl+C keeps what there is."""
    settings = _settings(
        pair=pair,
        left=left,
        right=right,
        threads=threads,
        precision=precision,
        hubs=hubs,
        force=force or None,
        database_url=database_url,
    )
    try:
        plan = Plan(
            settings.models_named(model or ()),
            _prompts(prompt),
            repeats,
            together=not alone,
        )
        view = _measure(settings, plan, force)
    except (UnknownModel, DatabaseError, NotNow) as error:
        raise _give_up(error) from error
    if format_ is Format.JSON:
        typer.echo(json.dumps(measured.as_json(view), ensure_ascii=False, indent=2))
    else:
        typer.echo(measured_text.as_markdown(view))
    raise typer.Exit(measured.exit_code(view))


@cli.command()
def migrate(database_url: _DatabaseUrl = None) -> None:
    """Bring the database to this version's schema (serve does it too)."""
    try:
        database = Database.open(_settings(database_url=database_url).database_url)
    except DatabaseError as error:
        raise _give_up(error) from error
    typer.echo(f"{database.url} is up to date.")
    database.close()


@cli.command("empty-cache")
def empty_cache(database_url: _DatabaseUrl = None) -> None:
    """Forget the answers that are kept to be given again (see --answer-cache)."""
    try:
        database = Database.open(_settings(database_url=database_url).database_url, create=False)
        try:
            count = AnswerCache(database).empty()
        finally:
            database.close()
    except DatabaseError as error:
        raise _give_up(error) from error
    typer.echo(f"Forgotten: {count}.")


def _settings(**given: object) -> Settings:
    """Return the settings, with options in front of variables; explain what is wrong with them."""
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Settings(**chosen)
    except ValidationError as error:
        lines = [f"{e['loc'][0]}: {e['msg']}" for e in error.errors()]
        raise _give_up("A setting is not possible. " + "; ".join(lines)) from error
    if settings.cache is not None:  # it may stand in .env, which the servers don't read
        os.environ["TWOPANE_CACHE"] = str(settings.cache.expanduser().resolve())
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for talkative in ("httpx", "httpx2", "httpcore", "alembic"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    return settings


def _give_up(reason: object) -> typer.Exit:
    typer.secho(str(reason), fg=typer.colors.RED, err=True)
    return typer.Exit(code=2)


def _make_backends(settings: Settings, models: Models, force: bool) -> tuple[Backend, Backend]:
    threads = settings.threads or threads_per_server(models)
    logger.info("each local model computes with %d threads of %d cores", threads, usable_cores())
    options = ["--hubs", settings.hubs, *(["--force"] if force else [])]
    if settings.precision:
        options += ["--precision", settings.precision]
    if settings.cache_memory is not None:
        options += ["--cache-memory", str(settings.cache_memory)]
    first, second = (
        ModelServer(model, threads=threads, options=options)
        if model.local
        else RemoteModel(model, api_key=settings.api_key.get_secret_value())
        for model in models
    )
    return first, second


def _prompts(given: list[str] | None) -> tuple[str, ...]:
    prompts = tuple(clean_text(text).strip() for text in given or ARTICLE_PROMPTS)
    if not all(prompts):
        raise _give_up("A prompt is empty. Give it some words, or leave --prompt out.")
    return prompts


def _server_settings(settings: Settings) -> ServerSettings:
    return ServerSettings(
        threads=settings.threads,
        precision=settings.precision,
        hubs=settings.hubs,
        force=settings.force,
        api_key=settings.api_key.get_secret_value(),
    )


def _measure(settings: Settings, plan: Plan, force: bool) -> MeasurementView:
    events = carry_out(plan, _server_settings(settings))
    database = Database.open(settings.database_url)
    try:
        measurements = Measurements(database)
        tell = partial(typer.echo, err=True)
        return asyncio.run(measure_to_end(measurements, plan, events, tell, force=force))
    finally:
        database.close()


def _serve(settings: Settings, models: Models, database: Database, listener: socket.socket) -> None:
    # Before Gradio is imported: it would ask its makers for news otherwise.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    from ui.metrics import Metrics  # noqa: PLC0415
    from ui.operator import Operator  # noqa: PLC0415
    from ui.pages import PATHS, build_pages  # noqa: PLC0415
    from ui.web import build_app  # noqa: PLC0415

    lineup = Lineup(
        models,
        partial(_make_backends, settings),
        force=settings.force,
        precisions=settings.precisions,
        cache_bytes=settings.cache_bytes,
    )
    panel = Panel(
        database,
        lineup.backends,
        blind=not settings.open,
        cache=settings.answers_from(database),
    )
    monitor = Monitor(lineup, settings.alarm_limits)
    key = settings.operator_key.get_secret_value() if settings.operator_key else None
    measure_here = partial(carry_out, settings=_server_settings(settings))
    measuring = Measuring(panel, lineup, Measurements(database), measure_here)
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
