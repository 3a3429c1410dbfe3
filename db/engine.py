"""Database: opens SQLite or PostgreSQL, brings the schema up to date, gives out sessions.

It knows the tables only through the migrations, and no queries. Every failure of the database
itself leaves here as a DatabaseError; a broken constraint stays SQLAlchemy's IntegrityError.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Self

from psycopg.errors import ReadOnlySqlTransaction
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from db.address import parse
from db.errors import DatabaseError, explain, place
from db.tables import Base

logger = logging.getLogger(__name__)

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x7477_6F70_616E_65  # any constant that nobody else uses: "twopane"


class Database:
    """An open database. Safe to use from several threads; a session belongs to one."""

    def __init__(self, engine: Engine) -> None:
        """Take an engine made by `open`, which is the way to get a Database."""
        self._engine = engine
        # SQLite's own waiting is polling, without order and with an end: of many writers some would
        # find the database locked.
        self._turn: AbstractContextManager[object] = nullcontext()
        if engine.dialect.name == "sqlite":
            self._turn = Lock()
            self._readers = engine.execution_options(read_only=True)
        else:
            self._readers = engine.execution_options(
                postgresql_readonly=True, isolation_level="REPEATABLE READ"
            )

    @classmethod
    def open(
        cls, url: str, *, create: bool = True, migrate: bool = True, busy_timeout_s: float = 5.0
    ) -> Self:
        """Open the database at `url`, proven writable and with the schema of this code.

        With `create` a missing SQLite file is made, and its folder. With `migrate` the schema is
        brought up to date, without it an older one is refused. `busy_timeout_s` is how long to
        wait for a lock that another process holds. Raises DatabaseError.
        """
        address = parse(url)
        if not create and address.database and not _exists(address):
            raise DatabaseError(f"There is no {place(address)}. What to do: name another database.")
        try:
            engine = _connect(address, busy_timeout_s)
        except OSError as error:
            raise explain(address, error) from error
        try:
            _prepare(engine, migrate=migrate)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @property
    def url(self) -> URL:
        """Where it is, as SQLAlchemy's URL; its `str` hides the password."""
        return self._engine.url

    def owns(self, file: Path) -> bool:
        """Whether `file` is one of this database's, by whatever name.

        Nobody else may open one in this process: closing it drops all locks that the process has
        on it (POSIX). The next program that closes the database then takes itself for its last
        user and removes the write-ahead log, and what is written from then on is lost.
        """
        if self.url.get_backend_name() != "sqlite":
            return False
        own = (Path(f"{self.url.database}{end}") for end in ("", "-wal", "-shm"))
        return file.exists() and any(one.exists() and one.samefile(file) for one in own)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session that sees one moment of the database, blocks nobody, and can't write."""
        with (
            _explained(self.url, reading=True),
            Session(self._readers, expire_on_commit=False) as session,
        ):
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a session whose work is committed at the end of the block, or not at all.

        Once the block has been left without an exception, the work survives a crash. On SQLite
        writers go one after the other from the first statement on. PostgreSQL lets them overlap:
        a row read to decide what to write is selected `with_for_update()` (SQLite ignores that).
        """
        with (
            self._turn,
            _explained(self.url),
            Session(self._engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def ping(self) -> None:
        """Return if the database answers. Raises DatabaseError."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close all connections; SQLite then folds its write-ahead log into the file."""
        self._engine.dispose()


def _exists(address: URL) -> bool:
    """Whether there may be a database; a server can only be asked."""
    return address.get_backend_name() != "sqlite" or Path(str(address.database)).exists()


@contextmanager
def _explained(url: URL, *, reading: bool = False) -> Iterator[None]:
    """Turn failures of the database into DatabaseError; let mistakes of the caller through."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        if _is_mistake(error, reading=reading):
            raise
        raise explain(url, error) from error


def _is_mistake(error: DBAPIError | PoolTimeoutError, *, reading: bool) -> bool:
    """Tell a broken constraint, bad SQL or a write in `read()` from a failing database."""
    if isinstance(error, IntegrityError | ProgrammingError | DataError):
        return True
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.Error):
        name = getattr(cause, "sqlite_errorname", None)
        return name == "SQLITE_ERROR" or (reading and name == "SQLITE_READONLY")
    return reading and isinstance(cause, ReadOnlySqlTransaction)


def _connect(url: URL, busy_timeout_s: float) -> Engine:
    """Make the engine; no connection is opened yet."""
    if url.get_backend_name() != "sqlite":
        timeout = {} if "connect_timeout" in url.query else {"connect_timeout": 10}
        return create_engine(url, pool_pre_ping=True, hide_parameters=True, connect_args=timeout)
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    # Errors are logged, and parameters are prompts and answers.
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": busy_timeout_s})
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    return engine


def _set_pragmas(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    """Set up a new SQLite connection; `timeout` of sqlite3 has set busy_timeout already."""
    # Python 3.11 would begin a deferred transaction at the first write, and not at all for a
    # read: leave transactions to `_begin`.
    connection.isolation_level = None
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL waits for the disk at every commit: with NORMAL a power cut could take back a
        # rating that was acknowledged already.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error:
        connection.close()  # the pool does not take it, so nobody else would
        raise


def _begin(connection: Connection) -> None:
    """Begin a transaction on SQLite.

    A write takes the write lock at once (and waits for it): a deferred transaction that reads
    first can't wait, it fails with "database is locked" when another one has written since. A
    read takes no lock; `query_only` keeps it from ever becoming such a transaction.
    """
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _prepare(engine: Engine, *, migrate: bool) -> None:
    """Check the schema, or bring it up to date, in one transaction that only one process runs."""
    with _explained_at_open(engine), engine.connect() as connection:
        connection.detach()  # its pragmas must not come back to the pool
        if engine.dialect.name == "sqlite":
            # A migration makes a table anew and drops the old one, which rows may point to. Works
            # only outside of a transaction, hence past SQLAlchemy, which would begin one.
            connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
                )
            _bring_up_to_date(connection, migrate=migrate)
            _prove_writable(connection)


@contextmanager
def _explained_at_open(engine: Engine) -> Iterator[None]:
    """Turn every database error into DatabaseError: at open none is a mistake of the caller."""
    try:
        yield
    except DBAPIError as error:
        raise explain(engine.url, error) from error


def _bring_up_to_date(connection: Connection, *, migrate: bool) -> None:
    """Run the missing migrations, or refuse a schema that doesn't fit this code."""
    known = sorted(file.name.partition("_")[0] for file in _MIGRATIONS.glob("versions/[0-9]*.py"))
    head, found = known[-1], _schema_of(connection)
    if found == head:
        return
    where = place(connection.engine.url)
    if found is not None and found not in known:
        raise DatabaseError(
            f"The {where} was made by a newer version of Twopane (schema {found}, this one knows "
            f"{head}). What to do: update Twopane, or name another database."
        )
    if found is None:
        _refuse_foreign_tables(connection)
    if not migrate:
        raise DatabaseError(
            f"The {where} has schema {found or 'none'}, this version needs {head}. "
            "What to do: make a backup, then run `python app.py migrate`."
        )
    logger.info("bringing the schema of the %s from %s to %s", where, found or "none", head)
    _upgrade(connection)
    _check_foreign_keys(connection)


def _schema_of(connection: Connection) -> str | None:
    """Return the last migration that was run; None where there was none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 -- 0.1 s that only an older schema is worth
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _refuse_foreign_tables(connection: Connection) -> None:
    """Refuse a database in which another program has tables under our names."""
    taken = sorted(set(inspect(connection).get_table_names()) & set(Base.metadata.tables))
    if taken:
        raise DatabaseError(
            f'The {place(connection.engine.url)} already has a table "{taken[0]}" that is not '
            "Twopane's. What to do: name another database."
        )


def _check_foreign_keys(connection: Connection) -> None:
    """Catch what a migration may have broken while SQLite's foreign keys were off."""
    if connection.dialect.name != "sqlite":
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken:
        raise DatabaseError(
            f"The {place(connection.engine.url)} has rows in {broken[0]} that point to missing "
            f"rows in {broken[2]}. Nothing was changed. What to do: restore it from a backup."
        )


def _prove_writable(connection: Connection) -> None:
    """Write something that changes nothing: a full disk or a lost right shows now, not later."""
    if connection.dialect.name == "sqlite":
        # Always writes a page, while an UPDATE to the same value may write none.
        connection.exec_driver_sql("PRAGMA user_version = 0")
    else:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
