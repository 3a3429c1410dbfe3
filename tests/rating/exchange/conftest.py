"""Fixtures: as many empty databases as a test needs, of SQLite and of PostgreSQL."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import delete

from db import Base, Database
from tests.db.postgres import running_server

NewDatabase = Callable[[], Database]


@pytest.fixture(scope="session")
def postgres_databases() -> Iterator[list[Database]]:
    """Migrated databases of one server, to be emptied and used again: a new one takes longer."""
    with running_server() as server, ExitStack() as stack:
        urls = [server.new_database().url for _ in range(3)]
        yield [stack.enter_context(closing(Database.open(url))) for url in urls]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(
    request: pytest.FixtureRequest, migrated_file: Path, tmp_path: Path
) -> Iterator[NewDatabase]:
    """Make an empty, migrated database, up to three times."""
    if request.param == "sqlite":
        urls = [f"sqlite:///{shutil.copy(migrated_file, tmp_path / f'{n}.db')}" for n in range(3)]
        with ExitStack() as stack:
            waiting = iter(urls)
            yield lambda: stack.enter_context(closing(Database.open(next(waiting))))
        return
    databases: list[Database] = request.getfixturevalue("postgres_databases")
    yield iter(databases).__next__
    for database in databases:
        with database.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
