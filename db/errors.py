"""DatabaseError, and what each failure of a driver means for the person who must act.

It opens nothing. Messages name the file or the host, never the password.
"""

import sqlite3

import psycopg
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError


class DatabaseError(Exception):
    """The database can't be used; the message says which one, why, and what to do."""


# By the start of SQLite's error names (https://sqlite.org/rescode.html): why, and what to do.
_SQLITE_CAUSES = {
    "SQLITE_READONLY": (
        "it is read-only",
        "give the user who runs the app the right to write to the file and to its folder",
    ),
    "SQLITE_CANTOPEN": (
        "it can't be opened or made",
        "check that the folder is there and that the user who runs the app may write to it",
    ),
    "SQLITE_PERM": ("access is denied", "check the rights of the file and of its folder"),
    "SQLITE_NOTADB": ("it is not an SQLite database", "name another file, or move this one away"),
    "SQLITE_CORRUPT": ("it is damaged", "restore it from a backup"),
    "SQLITE_FULL": ("the disk is full", "free some space and try again"),
    "SQLITE_IOERR": (
        "the disk refused to read or write",
        "check that it is not full and that it works",
    ),
    "SQLITE_BUSY": (
        "another process keeps it locked",
        "close other programs that have the file open, and try again",
    ),
}

# By words of the server's or libpq's message: failed logins carry no SQLSTATE in psycopg 3.
_POSTGRES_CAUSES = {
    "password authentication failed": (
        "user name or password is wrong",
        "correct them in the database URL (special characters percent-encoded)",
    ),
    "no password supplied": (
        "it wants a password",
        "put it into the database URL: postgresql://user:password@host/database",
    ),
    "connection refused": (
        "nothing listens there",
        "start the PostgreSQL server, or correct host and port in the database URL",
    ),
    "failed to resolve host": ("no such host is known", "correct the host in the database URL"),
    "does not exist": (
        "there is no such database or no such user",
        "create it on the server (createdb, createuser), or correct the database URL",
    ),
    "timeout expired": (
        "it does not answer",
        "check the host, the port and the firewall between",
    ),
}

# By SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_POSTGRES_STATES = {
    "25006": ("it is read-only", "connect to the primary server, or allow writing"),
    "42501": (
        "this user may not do that",
        "grant the user the right to create and write tables in the database",
    ),
    "53100": ("the server's disk is full", "free some space there and try again"),
    "53300": ("it has no connection free", "raise max_connections or run fewer copies of the app"),
    "55P03": ("another process keeps it locked", "try again when that has finished"),
}


def place(url: URL) -> str:
    """Name the database for a message: its file, or its name, host and port."""
    if url.get_backend_name() == "sqlite":
        return f"database file {url.database}"
    host = url.host or url.query.get("host") or "local socket"
    port = f":{url.port}" if url.port else ""
    return f'PostgreSQL database "{url.database or url.username}" at {host}{port}'


def explain(url: URL, error: SQLAlchemyError | OSError) -> DatabaseError:
    """Turn what a driver or the operating system said into a DatabaseError."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        known = _sqlite_cause(cause)
    elif isinstance(cause, psycopg.Error):
        known = _postgres_cause(cause)
    elif isinstance(cause, OSError):
        known = _folder_cause(cause)
    else:
        known = None
    why, advice = known or (
        _without_password(url, cause),
        "check the database URL and the database, and try again",
    )
    return DatabaseError(f"Can't use the {place(url)}: {why}. What to do: {advice}.")


def _sqlite_cause(error: sqlite3.Error) -> tuple[str, str] | None:
    """Look up SQLite's error name; errors of Python's own module have none."""
    name = getattr(error, "sqlite_errorname", "")
    return next((known for start, known in _SQLITE_CAUSES.items() if name.startswith(start)), None)


def _postgres_cause(error: psycopg.Error) -> tuple[str, str] | None:
    """Look up the SQLSTATE; without one the connection failed, and words of the message tell."""
    if error.sqlstate:
        return _POSTGRES_STATES.get(error.sqlstate)
    text = str(error).lower()
    return next((known for words, known in _POSTGRES_CAUSES.items() if words in text), None)


def _folder_cause(error: OSError) -> tuple[str, str]:
    """Say why the folder of an SQLite file is not there and can't be made."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a part of its path is a file, not a folder", "correct the path in the database URL"
    return (
        f"its folder can't be made ({error.strerror})",
        "make the folder and let the user who runs the app write to it, or name another path",
    )


def _without_password(url: URL, cause: BaseException | None) -> str:
    """Quote the first line of an unforeseen error, with the password struck out."""
    text = str(cause)
    if url.password:
        text = text.replace(str(url.password), "***")
    lines = text.strip().splitlines()
    return lines[0].rstrip(".") if lines else type(cause).__name__
