"""The migrations make the schema that the tables declare, once, completely or not at all."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, func, inspect, select, text

from db import Base, Database, DatabaseError, Rater, Score, engine
from tests.db import rows
from tests.db.writer import start

Constraints = dict[str, list[tuple[str | None, str]]]


def _constraints(connection: Connection) -> Constraints:
    """Name and rule of every constraint and index; Alembic's comparison leaves CHECKs out."""
    found: Constraints = {}
    inspector = inspect(connection)
    for table in Base.metadata.tables:
        rules: list[tuple[str | None, str]] = []
        rules += [
            (each["name"], each["sqltext"]) for each in inspector.get_check_constraints(table)
        ]
        rules += [(each["name"], str(each)) for each in inspector.get_foreign_keys(table)]
        rules += [
            (each["name"], str(each["column_names"]))
            for each in [*inspector.get_unique_constraints(table), *inspector.get_indexes(table)]
        ]
        rules.append((inspector.get_pk_constraint(table)["name"], "primary key"))
        found[table] = sorted(rules, key=str)
    return found


@pytest.fixture
def bare(database_url: str) -> Engine:
    """The database as it is, without this project's code between."""
    if database_url.startswith("sqlite"):
        Path(database_url.removeprefix("sqlite:///")).parent.mkdir()
    return create_engine(database_url)


def _rewrite_version(bare: Engine, version: str) -> None:
    with bare.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :v"), {"v": version})


def test_an_empty_database_is_brought_to_what_the_tables_declare(
    database_url: str, bare: Engine
) -> None:
    Database.open(database_url).close()
    with bare.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        differences = compare_metadata(context, Base.metadata)
    bare.dispose()
    assert differences == []


def test_the_migrations_make_every_constraint_that_the_tables_declare(
    database_url: str, bare: Engine
) -> None:
    Database.open(database_url).close()
    with bare.begin() as connection:
        migrated = _constraints(connection)
        connection.execute(text("DROP TABLE alembic_version"))
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
        declared = _constraints(connection)
    bare.dispose()
    assert migrated == declared
    assert all(name for rules in migrated.values() for name, _ in rules)


def test_opening_again_keeps_what_is_stored(database_url: str) -> None:
    first = Database.open(database_url)
    with first.write() as session:
        session.add(rows.rating())
    first.close()
    again = Database.open(database_url, migrate=False)
    with again.read() as session:
        assert session.scalar(select(func.count()).select_from(Score)) == 10
    again.close()


def test_a_schema_from_the_future_is_refused_and_left_alone(
    database_url: str, bare: Engine
) -> None:
    Database.open(database_url).close()
    _rewrite_version(bare, "9999")
    with pytest.raises(DatabaseError, match=r"newer version of Twopane \(schema 9999.*update"):
        Database.open(database_url)
    with bare.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    bare.dispose()


def test_without_migrate_an_empty_database_is_refused_and_stays_empty(
    database_url: str, bare: Engine
) -> None:
    with pytest.raises(DatabaseError, match=r"has schema none.*python app\.py migrate"):
        Database.open(database_url, migrate=False)
    with bare.connect() as connection:
        assert inspect(connection).get_table_names() == []
    bare.dispose()


def test_tables_of_another_program_are_not_touched(database_url: str, bare: Engine) -> None:
    with bare.begin() as connection:
        connection.execute(text("CREATE TABLE ratings (stars INTEGER)"))
    with pytest.raises(DatabaseError, match=r'a table "ratings" that is not Twopane'):
        Database.open(database_url)
    with bare.connect() as connection:
        assert inspect(connection).get_table_names() == ["ratings"]
    bare.dispose()


def test_processes_that_start_at_once_do_not_clash(database_url: str) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(start(database_url, count=1)) for _ in range(4)]
        ends = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert ends == [("", 0)] * 4
    database = Database.open(database_url)
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Rater)) == 4
    database.close()


NEXT = '''
"""A migration for a test."""
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "0001"

def upgrade() -> None:
    with op.batch_alter_table("raters", recreate="auto") as table:
        table.add_column(sa.Column("nickname", sa.String(40), nullable=True))
        table.create_check_constraint(op.f("ck_raters_nickname"), "nickname <> ''")
    {last}
'''


def _add_migration(monkeypatch: pytest.MonkeyPatch, folder: Path, last: str) -> None:
    """Let the engine find one more migration, as a later version of the code would have."""
    copy = folder / "100% later"
    shutil.copytree(engine._MIGRATIONS, copy)
    (copy / "versions" / "next.py").write_text(NEXT.format(last=last))
    monkeypatch.setattr(engine, "_MIGRATIONS", copy)


def _store_one(database_url: str) -> None:
    database = Database.open(database_url)
    with database.write() as session:
        session.add(rows.rating())
    database.close()


def test_a_later_migration_may_make_a_table_anew_that_rows_point_to(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _store_one(database_url)
    _add_migration(monkeypatch, tmp_path, last="")
    migrated = Database.open(database_url)
    with migrated.read() as session:
        assert session.execute(text("SELECT language, nickname FROM raters")).one() == ("zh", None)
        assert session.scalar(select(func.count()).select_from(Score)) == 10
    migrated.close()


@pytest.mark.parametrize(
    "last", ["op.execute('nonsense')", "1 / 0"], ids=["database error", "python error"]
)
def test_a_migration_that_fails_halfway_leaves_all_as_it_was(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    _store_one(database_url)
    with monkeypatch.context() as patch:
        _add_migration(patch, tmp_path, last)
        with pytest.raises((DatabaseError, ZeroDivisionError)):
            Database.open(database_url)
    restored = Database.open(database_url, migrate=False)
    with restored.read() as session:
        columns = inspect(session.connection()).get_columns("raters")
        assert "nickname" not in {column["name"] for column in columns}
        assert session.scalar(select(func.count()).select_from(Score)) == 10
    restored.close()


def test_a_migration_that_breaks_a_reference_is_undone(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _store_one(sqlite_url)
    with monkeypatch.context() as patch:
        _add_migration(patch, tmp_path, last="op.execute('DELETE FROM trials')")
        with pytest.raises(DatabaseError, match="rows in ratings that point to missing rows"):
            Database.open(sqlite_url)
    restored = Database.open(sqlite_url, migrate=False)
    with restored.read() as session:
        assert session.scalar(text("SELECT count(*) FROM trials")) == 1
    restored.close()
