"""The migrations make the schema that the tables declare, once, completely or not at all."""

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    Table,
    create_engine,
    func,
    inspect,
    select,
    text,
)

from db import Answer, Base, Database, DatabaseError, Rater, Score, engine
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


REVISIONS = sorted(file.name[:4] for file in engine._MIGRATIONS.glob("versions/[0-9]*.py"))


def test_migrations_follow_each_other_in_the_order_of_their_files_names() -> None:
    """By which an up-to-date schema is known without Alembic."""
    steps = ScriptDirectory(str(engine._MIGRATIONS)).walk_revisions()
    assert [step.revision for step in steps] == REVISIONS[::-1]


NEXT = '''
"""A migration for a test."""
import sqlalchemy as sa
from alembic import op

revision = "9000"
down_revision = "{head}"

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
    head = max(REVISIONS)
    (copy / "versions" / "9000_later.py").write_text(NEXT.format(head=head, last=last))
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


MOMENT = datetime(2026, 11, 22, 8, 30, 15, 123456, tzinfo=UTC)
FIRST_ROWS: dict[str, dict[str, Any]] = {
    "raters": {"id": "a" * 32, "created_at": MOMENT, "language": "zh", "side_seed": 2**62},
    "trials": {
        "id": "b" * 32,
        "rater_id": "a" * 32,
        "pair": "tiny-chatglm|tiny-qwen",
        "left_model": "tiny-qwen",
        "right_model": "tiny-chatglm",
        "blind": True,
        "language": "zh",
        "state": "revealed",
        "draft": {"comment": "快"},
        "flags": ["self_naming_left"],
        "created_at": MOMENT,
        "updated_at": MOMENT,
        "revealed_at": MOMENT,
    },
    "turns": {"trial_id": "b" * 32, "position": 1, "prompt": "你好", "created_at": MOMENT},
    "answers": {
        "turn_id": 1,
        "side": "left",
        "attempt": 1,
        "text": "我是█████",
        "raw_text": "我是 tiny-qwen",
        "finish_reason": "stop",
        "seed": 2**62,
        "settings": {"temperature": 0.7},
        "model_key": "tiny-qwen",
        "model_revision": "1",
        "precision": "float32",
        "total_s": 0.5,
        "started_at": MOMENT,
        "finished_at": MOMENT,
    },
    "ratings": {
        "trial_id": "b" * 32,
        "rater_id": "a" * 32,
        "preference": "left",
        "comment": "好",
        "rated_at": MOMENT,
    },
    "scores": {"rating_id": 1, "side": "left", "dimension": "reasoning", "score": 4},
}
"""One row of each table of the first version, the later ones pointing to the earlier."""


def _dump(bare: Engine, tables: Mapping[str, Table]) -> dict[str, list[tuple[Any, ...]]]:
    with bare.connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(select(table))]
            for name, table in tables.items()
        }


def test_ratings_of_the_first_version_are_all_there_after_an_update(
    database_url: str, bare: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        first = tmp_path / "first"
        shutil.copytree(engine._MIGRATIONS, first)
        for revision in REVISIONS[1:]:
            next(first.glob(f"versions/{revision}_*.py")).unlink()
        patch.setattr(engine, "_MIGRATIONS", first)
        Database.open(database_url).close()
    (tables := MetaData()).reflect(bare, only=list(FIRST_ROWS))
    with bare.begin() as connection:
        for name, row in FIRST_ROWS.items():
            connection.execute(tables.tables[name].insert(), row)
    before = _dump(bare, tables.tables)
    assert [len(found) for found in before.values()] == [1] * 6

    with pytest.raises(DatabaseError, match=r"has schema 0001.*python app\.py migrate"):
        Database.open(database_url, migrate=False)
    assert _dump(bare, tables.tables) == before
    updated = Database.open(database_url)
    assert _dump(bare, tables.tables) == before
    with updated.write() as session:
        assert session.scalars(select(Score.score)).one() == 4
        assert session.scalars(select(Answer.cached)).one() is False
        session.add(rows.measured_answer())
    updated.close()
    bare.dispose()


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
