"""Commands that write ratings to a file and read them back: `python app.py export`, `import`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from db import DatabaseError, Language
from rating.errors import BadExport, BadFilter, BadImport
from rating.exchange import Exported, Format, Selection, export_file, import_file, write
from rating.summary import careless_trials, filters_from
from ui.command_line.options import DatabaseUrl, give_up, open_database

_STDOUT = Path("-")


def export(
    format_: Annotated[
        Format, typer.Option("--format", help="what to write; docs/exchange.md has them all")
    ],
    out: Annotated[Path, typer.Option("--out", help="the file to write; - is the standard output")],
    pair: Annotated[
        str | None, typer.Option(help='only this pair, as "first-model|second-model"')
    ] = None,
    session: Annotated[
        str | None, typer.Option(help="only this rating session: its name or id")
    ] = None,
    blind: Annotated[bool | None, typer.Option("--blind/--open", help="only those")] = None,
    language: Annotated[Language | None, typer.Option(help="only this language")] = None,
    since: Annotated[str | None, typer.Option(help="first day, as 2026-02-28 (UTC)")] = None,
    until: Annotated[str | None, typer.Option(help="last day, as 2026-02-28 (UTC)")] = None,
    include_flagged: Annotated[
        bool,
        typer.Option(
            "--include-flagged", help="flagged trials too, where they are left out otherwise"
        ),
    ] = False,
    spreadsheet: Annotated[
        bool,
        typer.Option(
            "--spreadsheet",
            help="of csv: no cell is a formula to a spreadsheet; not to be imported again",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="overwrite the file")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Write the ratings to a file that other tools read."""
    if spreadsheet and format_ is not Format.CSV:
        raise give_up("--spreadsheet is for --format csv only. Leave it out.")
    if out == _STDOUT and not format_.is_text:
        raise give_up("parquet is no text. Name a file with --out.")
    mode = None if blind is None else "blind" if blind else "open"
    try:
        filters = filters_from(pair=pair, mode=mode, language=language, since=since, until=until)
        database = open_database(database_url, create=False)
        try:
            selection = Selection(
                filters,
                rating_session=session,
                flags=careless_trials(database),
                include_flagged=include_flagged,
                spreadsheet=spreadsheet,
            )
            if out == _STDOUT:
                exported = write(database, format_, selection, sys.stdout.buffer)
            else:
                exported = export_file(database, format_, selection, out, force=force)
        finally:
            database.close()
    except (BadExport, BadFilter, DatabaseError) as error:
        raise give_up(error) from error
    typer.echo(_what(exported), err=True)


def _what(exported: Exported) -> str:
    """Say how many trials were written and why others were not."""
    n_left_out = sum(exported.left_out.values())
    words = f"Trials written: {exported.n_trials - n_left_out}."
    if n_left_out:
        reasons = (f"{reason} {count}" for reason, count in sorted(exported.left_out.items()))
        words += f" Left out: {', '.join(reasons)}."
    return words


def import_(
    file: Annotated[Path, typer.Argument(help="CSV in the long form, or JSON Lines of export")],
    database_url: DatabaseUrl = None,
) -> None:
    """Read ratings from a file: exported ones, or ones made elsewhere."""
    try:
        database = open_database(database_url)
        try:
            imported = import_file(database, file)
        finally:
            database.close()
    except (BadImport, DatabaseError) as error:
        raise give_up(error) from error
    typer.echo(f"New trials: {imported.new}. Already there: {imported.known}.")
