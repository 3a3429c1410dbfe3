"""`python app.py measure`: the article's tables for this machine."""

import asyncio
import json
from functools import partial
from typing import Annotated

import typer

from backends.measure import measure as carry_out
from backends.measurement import ARTICLE_PROMPTS, MOST_REPEATS, Plan
from backends.specs import UnknownModel
from db import Database, DatabaseError
from rating.entries import clean_text
from rating.measuring import figures, report
from rating.measuring.foreground import measure_to_end
from rating.measuring.measurements import Measurements, MeasurementView, NotNow
from ui.command_line.options import DatabaseUrl, Format, give_up, load_settings, option
from ui.command_line.settings import MODEL_WORDS, Settings


def measure(
    model: Annotated[
        list[str] | None, typer.Option(help=f"instead of the pair; may be repeated: {MODEL_WORDS}")
    ] = None,
    pair: Annotated[str | None, option("pair", "--pair")] = None,
    left: Annotated[str | None, option("left", "--left")] = None,
    right: Annotated[str | None, option("right", "--right")] = None,
    repeats: Annotated[
        int, typer.Option(min=1, max=MOST_REPEATS, help="how often each prompt is asked")
    ] = 5,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="instead of the article's three prompts; may be repeated"),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="leave out measuring all models at once")
    ] = False,
    threads: Annotated[int | None, option("threads", "--threads")] = None,
    precision: Annotated[str | None, option("precision", "--precision")] = None,
    hubs: Annotated[str | None, option("hubs", "--hubs")] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="even while raters are being served, or memory is short"),
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="markdown or json")] = Format.MARKDOWN,
    database_url: DatabaseUrl = None,
) -> None:
    """Measure what models take on this machine, as the article did; Ctrl+C keeps what there is."""
    settings = load_settings(
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
        raise give_up(error) from error
    if format_ is Format.JSON:
        typer.echo(json.dumps(figures.as_json(view), ensure_ascii=False, indent=2))
    else:
        typer.echo(report.as_markdown(view))
    raise typer.Exit(figures.exit_code(view))


def _prompts(given: list[str] | None) -> tuple[str, ...]:
    prompts = tuple(clean_text(text).strip() for text in given or ARTICLE_PROMPTS)
    if not all(prompts):
        raise give_up("A prompt is empty. Give it some words, or leave --prompt out.")
    return prompts


def _measure(settings: Settings, plan: Plan, force: bool) -> MeasurementView:
    events = carry_out(plan, settings.for_servers())
    database = Database.open(settings.database_url)
    try:
        measurements = Measurements(database)
        tell = partial(typer.echo, err=True)
        return asyncio.run(measure_to_end(measurements, plan, events, tell, force=force))
    finally:
        database.close()
