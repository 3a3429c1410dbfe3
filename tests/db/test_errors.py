"""A database that can't be used says which one, why, and what to do; never the password."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text

from db import Database, DatabaseError
from db.address import parse
from tests.db import rows
from tests.db.postgres import PASSWORD, Server
from tests.db.writer import store_rating
from tests.paths import ROOT

NOBODY = 65534


def _refusal(url: str) -> str:
    """Open a database that can't be opened; return the message."""
    with pytest.raises(DatabaseError) as caught:
        Database.open(url)
    message = str(caught.value)
    assert "What to do: " in message
    return message


@pytest.fixture
def ordinary_folder() -> Iterator[Path]:
    """A folder, with this process stripped of root's power to ignore permissions."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        was_root = os.geteuid() == 0
        if was_root:
            os.chown(folder, NOBODY, -1)
            os.seteuid(NOBODY)
        yield folder
        if was_root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_folder_that_may_not_be_written_is_named(ordinary_folder: Path) -> None:
    ordinary_folder.chmod(0o555)
    message = _refusal(f"sqlite:///{ordinary_folder}/twopane.db")
    assert f"database file {ordinary_folder}/twopane.db: it can't be opened or made" in message


def test_a_folder_that_may_not_be_made_is_named(ordinary_folder: Path) -> None:
    ordinary_folder.chmod(0o555)
    message = _refusal(f"sqlite:///{ordinary_folder}/data/twopane.db")
    assert f"database file {ordinary_folder}/data/twopane.db" in message
    assert "its folder can't be made (Permission denied)" in message


def test_a_file_that_may_not_be_written_is_named(ordinary_folder: Path) -> None:
    file = ordinary_folder / "twopane.db"
    Database.open(f"sqlite:///{file}").close()
    file.chmod(0o444)
    message = _refusal(f"sqlite:///{file}")
    assert f"database file {file}: it is read-only" in message
    assert "right to write" in message


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    for path in (f"{tmp_path}/data/twopane.db", f"{tmp_path}/data/deeper/twopane.db"):
        message = _refusal(f"sqlite:///{path}")
        assert f"database file {path}: a part of its path is a file, not a folder" in message


def test_a_folder_where_no_files_can_be_is_named() -> None:
    assert "database file /proc/twopane.db: it can't be opened" in _refusal(
        "sqlite:////proc/twopane.db"
    )
    assert "database file /proc/data/twopane.db: its folder can't" in _refusal(
        "sqlite:////proc/data/twopane.db"
    )


def test_a_folder_given_as_the_file_is_named(tmp_path: Path) -> None:
    assert f"database file {tmp_path}: it can't be opened" in _refusal(f"sqlite:///{tmp_path}")


def test_a_file_of_another_kind_is_named_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "holiday.jpg"
    file.write_bytes(b"\xff\xd8\xff" * 1000)
    assert f"database file {file}: it is not an SQLite database" in _refusal(f"sqlite:///{file}")
    assert file.read_bytes() == b"\xff\xd8\xff" * 1000


def test_a_damaged_file_is_named(sqlite_url: str, tmp_path: Path) -> None:
    Database.open(sqlite_url).close()
    file = tmp_path / "data" / "twopane.db"
    content = bytearray(file.read_bytes())
    content[100:] = b"\x55" * (len(content) - 100)
    file.write_bytes(content)
    message = _refusal(sqlite_url)
    assert f"database file {file}: it is damaged. What to do: restore it from a backup" in message


def _limit_to_one_page(connection: sqlite3.Connection, _entry: object) -> None:
    connection.execute("PRAGMA max_page_count = 1")


def test_a_full_disk_is_called_a_full_disk(sqlite_url: str) -> None:
    event.listen(Engine, "connect", _limit_to_one_page)  # SQLite's own SQLITE_FULL
    try:
        assert "the disk is full. What to do: free some space" in _refusal(sqlite_url)
    finally:
        event.remove(Engine, "connect", _limit_to_one_page)


def test_a_disk_that_fills_up_while_the_app_runs_undoes_that_write_alone(sqlite_url: str) -> None:
    database = Database.open(sqlite_url)
    store_rating(database)
    with database.write() as session:
        session.execute(text("PRAGMA max_page_count = 1"))
    with pytest.raises(DatabaseError, match="the disk is full"), database.write() as session:
        session.add(rows.turn(prompt="长" * 100_000))
    with database.read() as session:
        assert session.scalar(text("SELECT count(*) FROM raters")) == 1
    database.close()


OPEN_WITH_SMALL_FILES = """
import resource, sys
from db import Database, DatabaseError
Database.open(sys.argv[1]).close()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    Database.open(sys.argv[1])
except DatabaseError as error:
    sys.stdout.write(str(error))
"""


def test_a_file_system_that_takes_no_more_is_noticed_at_open(sqlite_url: str) -> None:
    output = subprocess.run(
        [sys.executable, "-c", OPEN_WITH_SMALL_FILES, sqlite_url],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "twopane.db: the disk refused to read or write" in output
    assert "not full" in output


@pytest.fixture
def no_password_shown(postgres: Server) -> Iterator[list[BaseException]]:
    """Collects errors; none may hold the password anywhere in its traceback."""
    errors: list[BaseException] = []
    yield errors
    shown = "".join("".join(traceback.format_exception(error)) for error in errors)
    assert errors
    assert PASSWORD not in shown
    assert "geheim" not in shown


WRONG_URLS = {
    "password": ("postgresql://twopane:geheim@127.0.0.1:{port}/postgres", "password is wrong"),
    "user": ("postgresql://nobody:geheim@127.0.0.1:{port}/postgres", "password is wrong"),
    "no password": ("postgresql://twopane@127.0.0.1:{port}/postgres", "it wants a password"),
    "port": ("postgresql://twopane:geheim@127.0.0.1:1/postgres", "nothing listens there"),
    "host": ("postgresql://twopane:geheim@no-such-host.invalid/postgres", "no such host"),
    "option": ("postgresql://twopane:geheim@127.0.0.1:{port}/postgres?nonsense=1", "nonsense"),
}


@pytest.mark.parametrize("name", WRONG_URLS)
def test_a_wrong_address_of_a_server_is_explained(
    postgres: Server, no_password_shown: list[BaseException], name: str
) -> None:
    url, expected = WRONG_URLS[name]
    with pytest.raises(DatabaseError, match=expected) as caught:
        Database.open(url.format(port=postgres.port))
    no_password_shown.append(caught.value)
    host = str(parse(url.format(port=postgres.port)).host)
    assert f'PostgreSQL database "postgres" at {host}' in str(caught.value)


def test_a_database_that_the_server_does_not_have_is_explained(postgres: Server) -> None:
    message = _refusal(postgres.url.replace("/postgres", "/missing"))
    assert f'database "missing" at 127.0.0.1:{postgres.port}: there is no such database' in message
    assert "createdb" in message


def test_a_server_that_may_only_be_read_is_explained(postgres: Server) -> None:
    url = postgres.new_database().url
    Database.open(url).close()
    message = _refusal(url + "?options=-c%20default_transaction_read_only%3Don")
    assert "it is read-only. What to do: connect to the primary server" in message


def test_a_user_without_the_right_to_make_tables_is_told_so(postgres: Server) -> None:
    server = postgres.new_database()
    server.execute("DROP ROLE IF EXISTS guest")
    server.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    message = _refusal(f"postgresql://guest:guest@127.0.0.1:{server.port}/{server.database}")
    assert "this user may not do that. What to do: grant the user the right" in message


def test_a_server_that_goes_away_is_explained_and_used_again_when_back(postgres: Server) -> None:
    server = postgres.new_database()
    database = Database.open(server.url)
    with pytest.raises(DatabaseError, match="PostgreSQL database"), database.write() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    store_rating(database)
    database.close()
