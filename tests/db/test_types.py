"""What goes into a column comes out the same, from both databases."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import joinedload

from db import Answer, Database, Rater, Trial
from tests.db import rows

SHANGHAI = timezone(timedelta(hours=8))


def test_a_moment_of_any_zone_comes_back_in_utc(database: Database) -> None:
    noon = datetime(2026, 3, 4, 12, 30, 15, 123456, tzinfo=SHANGHAI)
    with database.write() as session:
        session.add(rows.rater(created_at=noon))
    with database.read() as session:
        stored = session.scalars(select(Rater.created_at)).one()
    assert stored == noon
    assert stored.tzinfo is UTC
    assert stored.isoformat() == "2026-03-04T04:30:15.123456+00:00"


def test_moments_of_several_zones_are_ordered_and_filtered_by_when_they_were(
    database: Database,
) -> None:
    later = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)
    earlier = datetime(2026, 3, 4, 17, 0, tzinfo=SHANGHAI)
    with database.write() as session:
        session.add_all([rows.rater(created_at=later), rows.rater(created_at=earlier)])
    with database.read() as session:
        ordered = session.scalars(select(Rater.created_at).order_by(Rater.created_at)).all()
        boundary = datetime(2026, 3, 4, 17, 30, tzinfo=SHANGHAI)
        after = session.scalars(select(Rater.created_at).where(Rater.created_at > boundary)).all()
    assert ordered == [earlier, later]
    assert after == [later]


def test_a_moment_without_a_zone_is_refused(database: Database) -> None:
    naive = datetime(2026, 3, 4, 12, 30)
    with (
        pytest.raises(StatementError, match="without a time zone"),
        database.write() as session,
    ):
        session.add(rows.rater(created_at=naive))


def test_rows_know_when_they_were_made_and_changed(database: Database) -> None:
    before = datetime.now(UTC)
    with database.write() as session:
        session.add(trial := rows.trial())
    with database.write() as session:
        changed = session.get_one(Trial, trial.id)
        changed.draft = {"comment": "快"}
    assert before <= trial.created_at <= trial.updated_at < changed.updated_at <= datetime.now(UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "你好，世界",
        "👩‍🚀 and 𝕬",
        "שלום",
        "<b>'\"; DROP TABLE ratings; --",
        "a\r\n\tb",
        "字" * 100_000,
    ],
    ids=["empty", "chinese", "astral", "right to left", "sql", "control", "long"],
)
def test_text_comes_back_unchanged(database: Database, text: str) -> None:
    with database.write() as session:
        session.add(rows.answer(raw_text=text))
    with database.read() as session:
        assert session.scalars(select(Answer.raw_text)).one() == text


def test_what_no_database_can_hold_in_a_text_is_replaced_and_the_rest_kept(
    database: Database,
) -> None:
    with database.write() as session:
        session.add(rows.answer(raw_text="a\0b\ud83dc😀d"))
    with database.read() as session:
        assert session.scalars(select(Answer.raw_text)).one() == "a�b�c😀d"


def test_json_comes_back_unchanged_and_an_appended_flag_is_kept(database: Database) -> None:
    draft = {"left": {"memory": None, "reasoning": 5}, "comment": "半\ud83d"}
    with database.write() as session:
        session.add(rows.answer(turn=rows.turn(trial=rows.trial(draft=draft))))
    with database.write() as session:
        trial = session.scalars(select(Trial)).one()
        trial.flags.append("self_naming_left")
    with database.read() as session:
        answer = session.scalars(select(Answer).options(joinedload(Answer.turn))).one()
        trial = session.scalars(select(Trial)).one()
    assert answer.settings == {"temperature": 0.7, "stop": ["<eop>"]}
    assert answer.seed == 2**63 - 1
    assert trial.draft == draft
    assert trial.flags == ["self_naming_left"]


def test_no_draft_is_null_and_not_the_json_word_null(database: Database) -> None:
    with database.write() as session:
        session.add(rows.trial(draft=None))
    with database.read() as session:
        assert session.scalars(select(Trial).where(Trial.draft.is_(None))).one()
