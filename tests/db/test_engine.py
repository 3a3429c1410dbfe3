"""Sessions: readers block nobody, writers lose nothing, failures undo."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from db import Database, DatabaseError, Rater, Rating, Score, Trial, TrialState
from tests.db import rows
from tests.db.writer import start, store_rating


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    database = Database.open(sqlite_url, busy_timeout_s=0.2)
    yield database
    database.close()


def _count(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Rater)) or 0


def test_what_was_written_can_be_used_after_its_session_and_read_by_the_next(
    database: Database,
) -> None:
    with database.write() as session:
        session.add(trial := rows.trial())
    with database.read() as session:
        assert session.get_one(Trial, trial.id).rater_id == trial.rater.id


def test_an_exception_undoes_the_whole_block(database: Database) -> None:
    def add_and_fail() -> None:
        with database.write() as session:
            session.add(rows.rater())
            session.flush()
            raise KeyError

    with pytest.raises(KeyError):
        add_and_fail()
    assert _count(database) == 0


def test_reading_sees_one_moment_while_another_writes(database: Database) -> None:
    with database.read() as session:
        before = session.scalar(select(func.count()).select_from(Rater))
        with database.write() as other:
            other.add(rows.rater())
        after = session.scalar(select(func.count()).select_from(Rater))
    assert (before, after, _count(database)) == (0, 0, 1)


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as session:
        session.add(rows.rater())
        session.flush()
        assert _count(database) == 0
    assert _count(database) == 1


def test_a_session_for_reading_can_not_write(database: Database) -> None:
    with database.write() as session:
        session.add(rows.rater())
    with pytest.raises(DBAPIError, match=r"(?i)read-?only"), database.read() as session:
        session.execute(update(Rater).values(language="en"))
    with database.write() as session:
        session.execute(update(Rater).values(language="en"))


def test_what_is_added_to_a_session_for_reading_is_not_stored(database: Database) -> None:
    with database.read() as session:
        session.add(rows.rater())
    assert _count(database) == 0


def test_mistakes_in_sql_are_not_called_failures_of_the_database(database: Database) -> None:
    with pytest.raises(DBAPIError, match="no_such_table"), database.read() as session:
        session.execute(text("SELECT * FROM no_such_table"))


def test_a_connection_to_sqlite_is_set_up_to_keep_promises(sqlite_url: str) -> None:
    database = Database.open(sqlite_url)
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    for block in (database.read, database.write):
        with block() as session:
            found = {name: session.scalar(text(f"PRAGMA {name}")) for name in expected}
        assert found == expected
    database.close()


def test_a_second_writer_gives_up_with_a_clear_message(sqlite: Database, sqlite_url: str) -> None:
    other = Database.open(sqlite_url, busy_timeout_s=0.2)
    with sqlite.write() as session:
        session.execute(select(Rater))
        with pytest.raises(DatabaseError, match="another process keeps it locked"):
            store_rating(other)
    store_rating(other)
    other.close()


def test_writers_of_one_process_wait_for_each_other_as_long_as_it_takes(sqlite_url: str) -> None:
    database = Database.open(sqlite_url, busy_timeout_s=0.1)

    def write(_: int) -> None:
        with database.write() as session:
            session.add(rows.rater())
            session.flush()
            time.sleep(0.05)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(16)))
    assert _count(database) == 16
    database.close()


def test_opening_a_locked_file_says_so(sqlite: Database, sqlite_url: str) -> None:
    with sqlite.write() as session:
        session.execute(select(Rater))
        with pytest.raises(DatabaseError, match=r"twopane\.db: another process keeps it locked"):
            Database.open(sqlite_url, busy_timeout_s=0.1)


def _rate_once(database: Database, trial: Trial) -> bool:
    """Try to rate a trial, as a second tab would; tell whether this one was stored."""
    try:
        with database.write() as session:
            session.add(
                Rating(trial_id=trial.id, rater_id=trial.rater_id, preference="tie", scores=[])
            )
    except IntegrityError:
        return False
    return True


def test_of_many_ratings_of_one_trial_at_once_one_is_stored(database: Database) -> None:
    with database.write() as session:
        session.add(trial := rows.trial())
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(lambda _: _rate_once(database, trial), range(24)))
    assert stored.count(True) == 1


def _add_flag(database: Database, trial_id: str, flag: str) -> None:
    with database.write() as session:
        trial = session.scalars(select(Trial).where(Trial.id == trial_id).with_for_update()).one()
        trial.flags = [*trial.flags, flag]
        trial.state = TrialState.ANSWERING


def test_many_threads_that_read_then_write_one_row_lose_no_change(database: Database) -> None:
    with database.write() as session:
        session.add(trial := rows.trial())
    flags = [f"flag-{n}" for n in range(60)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda flag: _add_flag(database, trial.id, flag), flags))
    with database.read() as session:
        assert sorted(session.get_one(Trial, trial.id).flags) == sorted(flags)


def test_many_processes_and_threads_lose_nothing_and_are_never_locked_out(
    database_url: str,
) -> None:
    database = Database.open(database_url)
    with ExitStack() as stack:
        processes = [stack.enter_context(start(database_url, count=60)) for _ in range(2)]
        with ThreadPoolExecutor(8) as pool:
            reported = list(pool.map(lambda _: store_rating(database), range(80)))
        outputs = [process.communicate(timeout=60) for process in processes]
    assert [errors for _, errors in outputs] == [""] * 2
    reported += [line for lines, _ in outputs for line in lines.split()]
    with database.read() as session:
        stored = session.scalars(select(Rating.trial_id)).all()
        scores = session.scalar(select(func.count()).select_from(Score))
    database.close()
    assert len(stored) == 200
    assert sorted(stored) == sorted(reported)
    assert scores == 2000


def test_closing_folds_the_write_ahead_log_into_the_file(sqlite_url: str, tmp_path: Path) -> None:
    database = Database.open(sqlite_url)
    store_rating(database)
    database.close()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["twopane.db"]


def test_a_savepoint_undoes_its_part_alone(database: Database) -> None:
    with database.write() as session:
        session.add(kept := rows.rater())
        session.flush()
        with pytest.raises(IntegrityError), session.begin_nested():
            session.add(Rating(trial_id="0" * 32, rater_id=kept.id, preference="tie"))
        session.add(rows.rater())
    assert _count(database) == 2


def test_a_database_knows_its_own_files_by_whatever_name(sqlite_url: str, tmp_path: Path) -> None:
    database = Database.open(sqlite_url)
    store_rating(database)
    file = Path(str(database.url.database))
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "hard").hardlink_to(file)
    (tmp_path / "other").write_bytes(file.read_bytes()[:0])
    named = (file, Path(f"{file}-wal"), tmp_path / "link", tmp_path / "hard")
    assert all(map(database.owns, named))
    assert not database.owns(tmp_path / "other")
    assert not database.owns(tmp_path / "nowhere")
    database.close()
