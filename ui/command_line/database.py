"""Commands about the database itself: `python app.py migrate`, `empty-cache`."""

import typer

from db import DatabaseError
from rating.answer_cache import AnswerCache
from ui.command_line.options import DatabaseUrl, give_up, open_database


def migrate(database_url: DatabaseUrl = None) -> None:
    """Bring the database to this version's schema (serve does it too)."""
    try:
        database = open_database(database_url)
    except DatabaseError as error:
        raise give_up(error) from error
    typer.echo(f"{database.url} is up to date.")
    database.close()


def empty_cache(database_url: DatabaseUrl = None) -> None:
    """Forget the answers that are kept to be given again (see --answer-cache)."""
    try:
        database = open_database(database_url, create=False)
        try:
            count = AnswerCache(database).empty()
        finally:
            database.close()
    except DatabaseError as error:
        raise give_up(error) from error
    typer.echo(f"Forgotten: {count}.")
