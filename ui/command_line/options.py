"""What the commands share: options for settings, formats, and how they give up."""

import logging
import os
from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from db import Database
from ui.command_line.settings import Settings


class Format(StrEnum):
    """How a result is printed."""

    MARKDOWN = "markdown"
    JSON = "json"


def option(name: str, *flags: str) -> Any:
    """Return an option of the command line for the setting of that name."""
    words = Settings.model_fields[name].description
    return typer.Option(*flags, help=f"{words} [TWOPANE_{name.upper()}]", show_default=False)


DatabaseUrl = Annotated[str | None, option("database_url", "--database-url")]


def open_database(url: str | None, *, create: bool = True) -> Database:
    """Open the database that the option or the settings name.

    Raises:
        DatabaseError: It can't be opened; says what to do.
    """
    return Database.open(load_settings(database_url=url).database_url, create=create)


def load_settings(**given: object) -> Settings:
    """Return the settings, with options in front of variables; explain what is wrong with them."""
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Settings(**chosen)
    except ValidationError as error:
        lines = [f"{e['loc'][0]}: {e['msg']}" for e in error.errors()]
        raise give_up("A setting is not possible. " + "; ".join(lines)) from error
    if settings.cache is not None:  # it may stand in .env, which the servers don't read
        os.environ["TWOPANE_CACHE"] = str(settings.cache.expanduser().resolve())
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for talkative in ("httpx", "httpx2", "httpcore", "alembic"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    return settings


def give_up(reason: object) -> typer.Exit:
    """Say in red why the command can't be carried out; raise what is returned."""
    typer.secho(str(reason), fg=typer.colors.RED, err=True)
    return typer.Exit(code=2)
