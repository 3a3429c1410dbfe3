"""Database URLs: which ones Twopane takes, and the one form the rest of the code sees.

It opens nothing and makes no folder.
"""

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from db.errors import DatabaseError

_EXAMPLES = "sqlite:///data/twopane.db or postgresql://user:password@host/database"
_POSTGRES_DRIVERS = {"postgres", "postgresql", "postgresql+psycopg"}
_SQLITE_DRIVERS = {"sqlite", "sqlite+pysqlite"}


def parse(text: str) -> URL:
    """Read a database URL; SQLite's file becomes absolute, PostgreSQL's driver psycopg 3.

    Raises DatabaseError, which never repeats the URL: there may be a password in it.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise DatabaseError(f"The database URL can't be read. Write it like {_EXAMPLES}.") from None
    if url.drivername in _SQLITE_DRIVERS:
        return _sqlite(url)
    if url.drivername in _POSTGRES_DRIVERS:
        return _postgres(url)
    raise DatabaseError(
        f'The database URL begins with "{url.drivername}", which Twopane does not know. '
        f"Write it like {_EXAMPLES}."
    )


def _sqlite(url: URL) -> URL:
    """Refuse what is no plain file: each connection would see another database, or none."""
    name = url.database
    if not name or name.startswith((":memory:", "file:")) or url.query or url.host:
        raise DatabaseError(
            "The database URL names no SQLite file; ratings must outlive the process. "
            "Write it like sqlite:///data/twopane.db (three slashes, four for an absolute path)."
        )
    path = Path(name).expanduser().absolute()
    return url.set(drivername="sqlite+pysqlite", database=str(path))


def _postgres(url: URL) -> URL:
    """Refuse a host that holds the rest of a password with a bare "@"."""
    if "@" in (url.host or ""):
        raise DatabaseError(
            'The database URL has more than one "@". Write the one in the password as %40.'
        )
    return url.set(drivername="postgresql+psycopg")
