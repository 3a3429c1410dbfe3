"""Commands about ratings: `python app.py summary`."""

import json
from typing import Annotated

import typer

from db import DatabaseError, Language
from rating.errors import BadFilter
from rating.summary import as_json, as_markdown, filters_from, load_trials, summarise
from ui.command_line.options import DatabaseUrl, Format, give_up, open_database


def summary(
    format_: Annotated[Format, typer.Option("--format", help="markdown or json")] = Format.MARKDOWN,
    pair: Annotated[
        str | None, typer.Option(help='only this pair, as "first-model|second-model"')
    ] = None,
    blind: Annotated[bool | None, typer.Option("--blind/--open", help="only those")] = None,
    language: Annotated[Language | None, typer.Option(help="only this language")] = None,
    since: Annotated[str | None, typer.Option(help="first day, as 2026-02-28 (UTC)")] = None,
    until: Annotated[str | None, typer.Option(help="last day, as 2026-02-28 (UTC)")] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Print what the ratings say so far."""
    mode = None if blind is None else "blind" if blind else "open"
    try:
        filters = filters_from(pair=pair, mode=mode, language=language, since=since, until=until)
        database = open_database(database_url, create=False)
        try:
            pairs = summarise(load_trials(database, filters))
        finally:
            database.close()
    except (BadFilter, DatabaseError) as error:
        raise give_up(error) from error
    if format_ is Format.JSON:
        typer.echo(json.dumps(as_json(pairs), ensure_ascii=False, indent=2))
    else:
        typer.echo(as_markdown(pairs))
