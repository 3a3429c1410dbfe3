"""Commands about ratings: `python app.py summary`, `report`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from db import Database, DatabaseError, Language
from db.queries import Filters
from rating.errors import BadFilter
from rating.findings import find
from rating.sessions.naming import session_id
from rating.summary import as_json, filters_from, summarise
from rating.summary_markdown import as_markdown
from ui.command_line.options import DatabaseUrl, Format, give_up, open_database

Pair = Annotated[str | None, typer.Option(help='only this pair, as "first-model|second-model"')]
Blind = Annotated[bool | None, typer.Option("--blind/--open", help="only those")]
OfLanguage = Annotated[Language | None, typer.Option(help="only ratings made in this language")]
Since = Annotated[str | None, typer.Option(help="first day, as 2026-02-28 (UTC)")]
Until = Annotated[str | None, typer.Option(help="last day, as 2026-02-28 (UTC)")]
OfSession = Annotated[
    str | None, typer.Option("--session", help="only this rating session: its name or id")
]
IncludeFlagged = Annotated[
    bool,
    typer.Option("--include-flagged", help="count ratings with signs of carelessness as well"),
]
ReportLanguage = Annotated[Language, typer.Option(help="language of the text (not of the ratings)")]


def summary(
    format_: Annotated[Format, typer.Option("--format", help="markdown or json")] = Format.MARKDOWN,
    pair: Pair = None,
    blind: Blind = None,
    language: OfLanguage = None,
    since: Since = None,
    until: Until = None,
    session: OfSession = None,
    include_flagged: IncludeFlagged = False,
    report_language: ReportLanguage = Language.EN,
    database_url: DatabaseUrl = None,
) -> None:
    """Print what the ratings prove so far, and what they don't."""
    wanted = _wanted(pair, blind, language, since, until)
    with _opened(database_url) as database:
        wanted = _of_session(database, wanted, session)
        results = summarise(database, wanted, include_flagged=include_flagged)
    if format_ is Format.JSON:
        typer.echo(json.dumps(as_json(results), ensure_ascii=False, indent=2, allow_nan=False))
    else:
        typer.echo(as_markdown(results, report_language))


def report(
    out: Annotated[Path, typer.Option(help="the file to write, for example report.html")],
    pair: Pair = None,
    blind: Blind = None,
    language: OfLanguage = None,
    since: Since = None,
    until: Until = None,
    session: OfSession = None,
    include_flagged: IncludeFlagged = False,
    report_language: ReportLanguage = Language.EN,
    database_url: DatabaseUrl = None,
) -> None:
    """Write what the ratings prove as one HTML file that needs nothing else, to hand around."""
    from ui.language import texts_in  # noqa: PLC0415 -- it imports Gradio
    from ui.results.report import report_html  # noqa: PLC0415

    wanted = _wanted(pair, blind, language, since, until)
    with _opened(database_url) as database:
        wanted = _of_session(database, wanted, session)
        findings = find(database, wanted, include_flagged=include_flagged)
    try:
        out.write_text(report_html(texts_in(report_language), findings), encoding="utf-8")
    except OSError as error:
        raise give_up(f"{out} can't be written: {error.strerror}. Name another file.") from error
    typer.echo(f"Written: {out}")


def _wanted(
    pair: str | None,
    blind: bool | None,
    language: Language | None,
    since: str | None,
    until: str | None,
) -> Filters:
    mode = None if blind is None else "blind" if blind else "open"
    try:
        return filters_from(pair=pair, mode=mode, language=language, since=since, until=until)
    except BadFilter as error:
        raise give_up(error) from error


def _of_session(database: Database, wanted: Filters, name: str | None) -> Filters:
    if name is None:
        return wanted
    try:
        with database.read() as session:
            return replace(wanted, session=session_id(session, name))
    except BadFilter as error:
        raise give_up(error) from error


@contextmanager
def _opened(database_url: str | None) -> Iterator[Database]:
    try:
        database = open_database(database_url, create=False)
        try:
            yield database
        finally:
            database.close()
    except DatabaseError as error:
        raise give_up(error) from error
