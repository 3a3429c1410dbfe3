"""What was acknowledged survives the sudden death of the process."""

from sqlalchemy import func, select, text

from db import Database, Rating, Score
from tests.db.writer import start

ROUNDS = 5


def _reported_until_killed(url: str, count: int) -> list[str]:
    """Let a process store ratings without end; kill it as soon as it has reported `count`."""
    with start(url, count=-1) as process:
        assert process.stdout is not None
        reported = [process.stdout.readline() for _ in range(count)]
        process.kill()
        reported += process.stdout.readlines()
    return [line.strip() for line in reported if line.endswith("\n")]


def test_a_process_killed_right_after_a_commit_loses_nothing(sqlite_url: str) -> None:
    reported: list[str] = []
    for round_number in range(1, ROUNDS + 1):
        reported += _reported_until_killed(sqlite_url, count=round_number)
        database = Database.open(sqlite_url)
        with database.read() as session:
            stored = session.scalars(select(Rating.trial_id)).all()
            scores = session.scalar(select(func.count()).select_from(Score))
        database.close()
        assert set(reported) <= set(stored)
        assert len(stored) - len(reported) <= round_number  # committed, killed before the report
        assert scores == 10 * len(stored)  # no rating is there in part
    assert len(reported) >= 15


def test_the_file_is_sound_after_a_kill(sqlite_url: str) -> None:
    _reported_until_killed(sqlite_url, count=3)
    database = Database.open(sqlite_url)
    with database.read() as session:
        assert session.scalar(text("PRAGMA integrity_check")) == "ok"
        assert session.execute(text("PRAGMA foreign_key_check")).all() == []
    database.close()
