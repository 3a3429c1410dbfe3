"""The schema refuses what must never be stored, in both databases."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from db import (
    Answer,
    Base,
    Database,
    Dimension,
    FinishReason,
    MeasuredAnswer,
    MeasuredModel,
    Measurement,
    MeasurementState,
    Rater,
    Rating,
    Score,
    Side,
    Trial,
    TrialKind,
    Turn,
    utc_now,
)
from tests.db import rows

Make = Callable[[], Base]

BROKEN: dict[str, Make] = {
    "ck_scores_score-0": lambda: rows.score(score=0),
    "ck_scores_score-6": lambda: rows.score(score=6),
    "ck_scores_score-negative": lambda: rows.score(score=-1),
    "ck_turns_position": lambda: rows.turn(position=0),
    "ck_answers_attempt": lambda: rows.answer(attempt=0),
    "ck_answers_prompt_tokens": lambda: rows.answer(prompt_tokens=-1),
    "ck_answers_completion_tokens": lambda: rows.answer(completion_tokens=-1),
    "ck_answers_first_token_s": lambda: rows.answer(first_token_s=-0.1),
    "ck_answers_total_s": lambda: rows.answer(total_s=-0.1),
    "ck_answers_finished-no_reason": lambda: rows.answer(finish_reason=None),
    "ck_answers_finished-no_time": lambda: rows.answer(finished_at=None),
    "ck_cached_answers_whole-stopped": lambda: rows.cached_answer(finish_reason="stopped"),
    "ck_cached_answers_whole-failed": lambda: rows.cached_answer(finish_reason="failed"),
    "ck_cached_answers_size_bytes": lambda: rows.cached_answer(size_bytes=-1),
    "ck_cached_answers_hits": lambda: rows.cached_answer(hits=-1),
    "ck_cached_answers_prompt_tokens": lambda: rows.cached_answer(prompt_tokens=-1),
    "ck_cached_answers_completion_tokens": lambda: rows.cached_answer(completion_tokens=-1),
    "ck_cached_answers_first_token_s": lambda: rows.cached_answer(first_token_s=-0.1),
    "ck_cached_answers_total_s": lambda: rows.cached_answer(total_s=-0.1),
    "ck_rating_sessions_raters_per_prompt": lambda: rows.rating_session(raters_per_prompt=0),
    "ck_rating_sessions_repeat_share": lambda: rows.rating_session(repeat_share=1.1),
    "ck_rating_sessions_attention_share": lambda: rows.rating_session(attention_share=-0.1),
    "ck_rating_sessions_closed": lambda: rows.rating_session(closed_at=utc_now()),
    "ck_assignments_repeat_of": lambda: rows.assignment(kind=TrialKind.REPEAT),
    "ck_assignments_better": lambda: rows.assignment(kind=TrialKind.ATTENTION),
    "ck_assignments_side": lambda: rows.assignment(kind=TrialKind.ATTENTION, better="top"),
    "ck_packed_answers_position": lambda: rows.packed_answer(position=0),
    "ck_packed_answers_whole": lambda: rows.packed_answer(finish_reason="stopped"),
    "ck_packed_answers_first_token_s": lambda: rows.packed_answer(first_token_s=-0.1),
    "ck_packed_answers_total_s": lambda: rows.packed_answer(total_s=-0.1),
    "ck_measurements_finished-no_time": lambda: rows.measurement(state=MeasurementState.DONE),
    "ck_measurements_finished-running": lambda: rows.measurement(finished_at=utc_now()),
    "ck_measured_models_peak_bytes": lambda: rows.measured_model(peak_bytes=-1),
    "ck_measured_models_cold_start_s": lambda: rows.measured_model(cold_start_s=-0.1),
    "ck_measured_models_warm_start_s": lambda: rows.measured_model(warm_start_s=-0.1),
    "ck_measured_models_cpu_share": lambda: rows.measured_model(cpu_share=-0.1),
    "ck_measured_models_others_share": lambda: rows.measured_model(others_share=-0.1),
    "ck_measured_answers_prompt": lambda: rows.measured_answer(prompt=0),
    "ck_measured_answers_repeat": lambda: rows.measured_answer(repeat=0),
    "ck_measured_answers_first_token_s": lambda: rows.measured_answer(first_token_s=-0.1),
    "ck_measured_answers_total_s": lambda: rows.measured_answer(total_s=-0.1),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_value_out_of_range_is_refused_by_the_constraint_made_for_it(
    database: Database, name: str
) -> None:
    with (
        pytest.raises(IntegrityError, match=name.partition("-")[0]),
        database.write() as session,
    ):
        session.add(BROKEN[name]())


CHOICES = {
    "raters": ["language"],
    "trials": ["language", "state"],
    "answers": ["side", "finish_reason"],
    "ratings": ["preference", "guess"],
    "scores": ["side", "dimension"],
    "measurements": ["state"],
    "rating_sessions": ["state", "results"],
    "assignments": ["kind"],
}


@pytest.mark.parametrize(
    ("table", "column"),
    [(table, column) for table, columns in CHOICES.items() for column in columns],
)
def test_a_word_that_is_no_choice_is_refused_even_in_plain_sql(
    database: Database, table: str, column: str
) -> None:
    with database.write() as session:
        session.add_all([turn := rows.turn(), rows.answer(turn=turn)])
        session.add(rows.rating(trial=turn.trial))
        session.add(rows.measurement(state=MeasurementState.DONE, finished_at=utc_now()))
        session.add(rows.assignment(trial=turn.trial))
    with (
        pytest.raises(IntegrityError, match=f"ck_{table}_{column}"),
        database.write() as session,
    ):
        session.execute(text(f"UPDATE {table} SET {column} = 'nonsense'"))


def test_a_word_that_is_no_choice_does_not_even_reach_the_database(database: Database) -> None:
    with pytest.raises(StatementError, match="nonsense"), database.write() as session:
        session.add(rows.score(side="nonsense"))


def test_choices_are_stored_as_their_words(database: Database) -> None:
    with database.write() as session:
        session.add(rows.answer(finish_reason=FinishReason.LENGTH))
    with database.read() as session:
        assert session.execute(text("SELECT side, finish_reason FROM answers")).one() == (
            "left",
            "length",
        )
        assert session.scalars(select(Answer.finish_reason)).one() is FinishReason.LENGTH


def test_a_score_of_none_means_not_applicable_and_is_stored(database: Database) -> None:
    with database.write() as session:
        session.add(rows.score(dimension=Dimension.MEMORY, score=None))
    with database.read() as session:
        assert session.scalars(select(Score.score)).one() is None


def _stored(database: Database) -> Rating:
    """Store a rated trial with one turn and one answer."""
    with database.write() as session:
        turn = rows.turn()
        rating = rows.rating(trial=turn.trial)
        session.add_all([turn, rows.answer(turn=turn), rating])
    return rating


def _measured(database: Database) -> Measurement:
    """Store a measurement of one model with one answer."""
    with database.write() as session:
        measurement = rows.measurement()
        session.add(rows.measured_model(measurement=measurement))
        session.add(rows.measured_answer(measurement=measurement))
    return measurement


def _second_rating(rating: Rating) -> Base:
    return Rating(trial_id=rating.trial_id, rater_id=rating.rater_id, preference="tie")


def _second_score(rating: Rating) -> Base:
    return Score(rating_id=rating.id, side="left", dimension="memory", score=None)


def _second_turn(rating: Rating) -> Base:
    return Turn(trial_id=rating.trial_id, position=1, prompt="again")


def _second_answer(rating: Rating) -> Base:
    return rows.answer(turn_id=rating.trial.turns[0].id)


@pytest.mark.parametrize("second", [_second_rating, _second_score, _second_turn, _second_answer])
def test_what_may_be_there_once_is_refused_twice(
    database: Database, second: Callable[[Rating], Base]
) -> None:
    rating = _stored(database)
    with pytest.raises(IntegrityError, match=r"(?i)unique"), database.write() as session:
        session.add(second(rating))


@pytest.mark.parametrize("kind", [MeasuredModel, MeasuredAnswer])
@pytest.mark.parametrize("together", [False, True])
def test_what_is_measured_once_alone_and_once_together_is_refused_twice(
    database: Database, kind: type[Base], together: bool
) -> None:
    make = rows.measured_model if kind is MeasuredModel else rows.measured_answer
    measurement = _measured(database)
    with database.write() as session:
        session.add(make(measurement_id=measurement.id, together=True))
    with pytest.raises(IntegrityError, match=r"(?i)unique"), database.write() as session:
        session.add(make(measurement_id=measurement.id, together=together))


def test_an_answer_may_be_asked_again_and_each_side_has_its_own(database: Database) -> None:
    turn = rows.turn()
    with database.write() as session:
        for side in Side:
            session.add_all([rows.answer(turn=turn, side=side, attempt=n) for n in (1, 2)])
    with database.read() as session:
        found = [(each.side, each.attempt) for each in session.get_one(Turn, turn.id).answers]
    assert found == [("left", 1), ("left", 2), ("right", 1), ("right", 2)]


ORPHANS: dict[str, Make] = {
    "trials": lambda: rows.trial(rater_id="0" * 32),
    "turns": lambda: rows.turn(trial_id="0" * 32),
    "answers": lambda: rows.answer(turn_id=404),
    "ratings": lambda: Rating(trial_id="0" * 32, rater_id="0" * 32, preference="tie"),
    "scores": lambda: rows.score(rating_id=404),
    "measured_models": lambda: rows.measured_model(measurement_id="0" * 32),
    "measured_answers": lambda: rows.measured_answer(measurement_id="0" * 32),
}


@pytest.mark.parametrize("table", ORPHANS)
def test_a_row_that_belongs_to_nothing_is_refused(database: Database, table: str) -> None:
    with (
        pytest.raises(IntegrityError, match=r"(?i)foreign key"),
        database.write() as session,
    ):
        session.add(ORPHANS[table]())


@pytest.mark.parametrize("parent", [Rater, Trial, Turn, Rating])
def test_a_row_that_others_belong_to_can_not_be_deleted(
    database: Database, parent: type[Base]
) -> None:
    _stored(database)
    with (
        pytest.raises(IntegrityError, match=r"(?i)foreign key"),
        database.write() as session,
    ):
        session.execute(delete(parent))
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Score)) == 10


@pytest.mark.parametrize("parent", [Trial, Turn, Rating])
def test_deleting_through_an_object_takes_nothing_along(
    database: Database, parent: type[Base]
) -> None:
    _stored(database)
    with (
        pytest.raises(IntegrityError, match=r"(?i)foreign key"),
        database.write() as session,
    ):
        session.delete(session.scalars(select(parent)).one())


def _delete_row(session: Session, measurement: Measurement) -> None:
    session.execute(delete(Measurement).where(Measurement.id == measurement.id))


def _delete_object(session: Session, measurement: Measurement) -> None:
    session.delete(session.get_one(Measurement, measurement.id))


@pytest.mark.parametrize("delete_it", [_delete_row, _delete_object])
def test_what_belongs_to_a_measurement_goes_with_it_and_nothing_else(
    database: Database, delete_it: Callable[[Session, Measurement], None]
) -> None:
    _stored(database)
    first, second = _measured(database), _measured(database)
    with database.write() as session:
        delete_it(session, first)
    with database.read() as session:
        assert session.scalars(select(MeasuredModel.measurement_id)).all() == [second.id]
        assert session.scalars(select(MeasuredAnswer.measurement_id)).all() == [second.id]
        assert session.scalar(select(func.count()).select_from(Score)) == 10


REQUIRED = [
    (table.name, column.name)
    for table in Base.metadata.sorted_tables
    for column in table.columns
    if not column.nullable and not column.primary_key
]


@pytest.mark.parametrize(("table", "column"), REQUIRED)
def test_a_required_value_can_not_be_taken_away(
    database: Database, table: str, column: str
) -> None:
    _stored(database)
    _measured(database)
    with database.write() as session:
        session.add(rows.cached_answer())
        session.add(given := rows.assignment(trial=session.scalars(select(Trial)).one()))
        assert given.session is not None
        session.add(rows.answer_pack(prompt_set=given.session.prompt_set))
        session.flush()
        session.add(rows.packed_answer())
    with pytest.raises(IntegrityError, match=column), database.write() as session:
        session.execute(text(f"UPDATE {table} SET {column} = NULL"))


def test_half_points_are_refused_by_sqlite_too(sqlite_url: str) -> None:
    database = Database.open(sqlite_url)
    _stored(database)
    with pytest.raises(IntegrityError, match="ck_scores_score"), database.write() as session:
        session.execute(update(Score).values(score=text("3.5")))
    database.close()


def _bulk(count: int) -> list[dict[str, Any]]:
    return [
        {"id": f"{n:032x}", "language": "en", "created_at": utc_now(), "side_seed": n}
        for n in range(count)
    ]


def test_one_bad_row_in_a_transaction_leaves_none_of_it(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(insert(Rater), [*_bulk(50), *_bulk(1)])
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Rater)) == 0
