"""Files of ratings read back: CSV in the long form, or JSON Lines; told apart by what they hold."""

from pathlib import Path

from db import Database
from rating.errors import BadImport
from rating.exchange import csv_reading, json_lines
from rating.exchange.incoming import Contents, Problem, refusal
from rating.exchange.storing import Imported, store

_PARQUET = b"PAR1"


def import_file(database: Database, file: Path) -> Imported:
    """Store the trials of `file` that are not there yet.

    Raises:
        BadImport: It can't be read, or something in it is wrong; says what and where. Nothing was
            stored.
        DatabaseError: The database failed.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadImport([f"{file} can't be read: {error.strerror}."]) from error
    return import_bytes(database, content, file.name)


def import_bytes(database: Database, content: bytes, name: str) -> Imported:
    """The same of what a file holds; `name` is for messages."""
    text = _decoded(content, name)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        reason = "there is a NUL character, which no database can hold; take it out"
        raise refusal(name, [Problem(line, "", reason)])
    contents = _read(text) if text.strip() else Contents()
    if not contents.trials and not contents.problems:
        raise BadImport([f"{name} has no ratings. Nothing was imported."])
    return store(database, contents, name)


def _read(text: str) -> Contents:
    """JSON begins with a brace, which no name of a column does."""
    return json_lines.read(text) if text.lstrip().startswith("{") else csv_reading.read(text)


def _decoded(content: bytes, name: str) -> str:
    if content.startswith(_PARQUET):
        raise BadImport([f"{name} is a Parquet file. Only CSV and JSON Lines are read back."])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = 'this is not UTF-8; save the file as UTF-8 (in Excel: "CSV UTF-8")'
        raise refusal(name, [Problem(line, "", reason)]) from error
