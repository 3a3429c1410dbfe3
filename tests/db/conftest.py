"""Databases to test on: SQLite files, and databases of a real PostgreSQL server."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete

from db import Base, Database
from tests.db.postgres import Server, running_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_postgres(postgres: Server) -> Iterator[Database]:
    """One migrated database for all tests that only need it empty: a new one takes longer."""
    database = Database.open(postgres.new_database().url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One migrated SQLite file, to be copied: migrating takes ten times as long."""
    file = tmp_path_factory.mktemp("migrated") / "twopane.db"
    Database.open(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/data/twopane.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database that is empty or, on SQLite, not there yet."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    server: Server = request.getfixturevalue("postgres")
    return server.new_database().url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated database without rows."""
    if request.param == "sqlite":
        file = shutil.copy(request.getfixturevalue("migrated_file"), tmp_path)
        opened = Database.open(f"sqlite:///{file}")
        yield opened
        opened.close()
    else:
        shared: Database = request.getfixturevalue("shared_postgres")
        yield shared
        with shared.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
