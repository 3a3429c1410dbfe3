"""Rated trials as rows of plain values: what frames of many ratings are made of.

Makes no objects of the tables, which would take twenty times as long and as much memory; knows
nothing of frames. Each table is read once from its start to its end: putting rows together by id
afterwards takes half as long as a join, which looks each id up. Values come as the database has
them: moments are text on SQLite and aware on PostgreSQL, truth is 0 and 1 on SQLite.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, String, case, cast, exists, func, select, type_coerce
from sqlalchemy.orm import Session, aliased

from db.queries import FINAL, Filters, fitting
from db.session_tables import Assignment, RatingSession
from db.tables import Answer, Dimension, Rater, Rating, Score, Side, Trial, Turn

Rows = Iterator[Sequence[tuple[Any, ...]]]
"""Rows, some thousands at a time."""

Query = Select[*tuple[Any, ...]]

SCORE_PLACES = tuple((side, dimension) for side in Side for dimension in Dimension)
"""Whose digit of `score_digits` is which, the lowest first."""

SCORE_BASE = 6

_CHUNK = 10_000


def rated_trials_plain(session: Session, filters: Filters) -> Rows:
    """Return the rated trials that fit.

    As (id, rater's id, pair, model on the left, on the right, blind, language, flags as JSON).
    """
    query = select(
        *(Trial.id, Trial.rater_id, Trial.pair, Trial.left_model, Trial.right_model, Trial.blind),
        *(Trial.language, cast(Trial.flags, String)),
    ).where(Trial.state.in_(FINAL))
    return _rows(session, _of_those(query, Trial.id, filters))


def ratings_plain(session: Session, filters: Filters) -> Rows:
    """Return (trial id, rating id, preference, guess, moment) of the rated trials that fit."""
    query = select(Rating.trial_id, Rating.id, Rating.preference, Rating.guess, Rating.rated_at)
    return _rows(session, _of_those(query, Rating.trial_id, filters))


def assignments_plain(session: Session, filters: Filters) -> Rows:
    """Return what sessions gave out, as far as it is rated and fits.

    As (trial id, session id, prompt id, kind, repeated trial's id, better side).
    """
    query = select(
        *(Assignment.trial_id, Assignment.session_id, Assignment.prompt_id),
        *(Assignment.kind, Assignment.repeat_of, Assignment.better),
    )
    return _rows(session, _of_those(query, Assignment.trial_id, filters))


def turns_plain(session: Session, filters: Filters) -> Rows:
    """Return the turns of the rated trials that fit.

    As (trial id, id, position, prompt id, creation, prompt); the prompt is None after the first.
    """
    prompt = case((Turn.position == 1, Turn.prompt))
    query = select(Turn.trial_id, Turn.id, Turn.position, Turn.prompt_id, Turn.created_at, prompt)
    return _rows(session, _of_those(query, Turn.trial_id, filters))


def pseudonyms(session: Session) -> dict[str, str]:
    """Return the pseudonyms of raters who came with one, by their ids."""
    query = select(Rater.id, Rater.pseudonym).where(Rater.pseudonym.is_not(None))
    return dict(row for rows in _rows(session, query) for row in rows)


def score_digits(session: Session, filters: Filters) -> Rows:
    """Return (rating id, its scores) of the rated trials that fit.

    The ten scores are digits of one number to the base `SCORE_BASE`, in the order of
    `SCORE_PLACES`, 0 being "not applicable": one row is read instead of ten.
    """
    dimension = {key.value: SCORE_BASE**place for place, key in enumerate(Dimension)}
    side = {key.value: SCORE_BASE ** (len(Dimension) * n) for n, key in enumerate(Side)}
    weight = case(dimension, value=_plain(Score.dimension)) * case(side, value=_plain(Score.side))
    digits = func.coalesce(func.sum(Score.score * weight), 0)
    query = select(Score.rating_id, digits).group_by(Score.rating_id)
    if filters != Filters():
        query = query.where(Score.rating_id.in_(_fitting(select(Rating.id), filters)))
    return _rows(session, query)


def answer_lengths(session: Session, filters: Filters) -> Rows:
    """Return the lengths of the answers of the rated trials that fit, as they were shown.

    As (turn id, characters left, right, completion), of each side's latest attempt.
    """
    later = aliased(Answer)
    replaced = exists().where(
        later.turn_id == Answer.turn_id,
        later.side == Answer.side,
        later.attempt > Answer.attempt,
    )
    left, right = (
        func.sum(case((_plain(Answer.side) == key.value, func.length(Answer.text)))) for key in Side
    )
    query = (
        select(Answer.turn_id, left, right, func.max(Answer.finished_at))
        .where(~replaced)
        .group_by(Answer.turn_id)
    )
    if filters != Filters():
        turns = _of_those(select(Turn.id), Turn.trial_id, filters)
        query = query.where(Answer.turn_id.in_(turns))
    return _rows(session, query)


def _of_those(query: Query, trial_id: Any, filters: Filters) -> Query:
    """Limit rows to those of the rated trials that fit; without limits all are read."""
    if filters == Filters():
        return query
    return query.where(trial_id.in_(_fitting(select(Trial.id), filters)))


def _fitting(query: Query, filters: Filters) -> Query:
    return query.select_from(Trial).join(Trial.rating).where(*fitting(filters))


def _rows(session: Session, query: Query) -> Rows:
    """Yield what the driver gives: turning a million values into Python's own takes seconds."""
    cursor = session.connection().execute(query).cursor
    assert cursor is not None  # every SELECT has one
    while rows := cursor.fetchmany(_CHUNK):
        yield rows


def _plain(column: Any) -> Any:
    """Compare a choice as the text that it is in the database."""
    return type_coerce(column, String)


def rating_stamp(session: Session) -> tuple[int, str]:
    """Return what changes whenever a rating is added or changed: number and last moment."""
    count, last = session.execute(select(func.count(), func.max(Rating.rated_at))).one()
    return count, str(last)


def session_stamp(session: Session) -> tuple[int, int]:
    """Return what changes whenever a rating session is made or closed: how many are, of both."""
    query = select(func.count(), func.count(RatingSession.closed_at)).select_from(RatingSession)
    made, closed = session.execute(query).one()
    return made, closed


class Version(NamedTuple):
    """Which revision and precision of a model was rated in a pair, blind or open."""

    pair: str
    blind: bool
    model_key: str
    revision: str
    precision: str


def rated_versions(session: Session, pairs: Sequence[str], filters: Filters) -> set[Version]:
    """Return those of all answers that were rated in these pairs and fit."""
    query = (
        select(
            *(Trial.pair, Trial.blind),
            *(Answer.model_key, Answer.model_revision, Answer.precision),
        )
        .distinct()
        .select_from(Trial)
        .join(Rating, Rating.trial_id == Trial.id)
        .join(Turn, Turn.trial_id == Trial.id)
        .join(Answer, Answer.turn_id == Turn.id)
        .where(*fitting(filters), Trial.pair.in_(pairs))
    )
    return {Version(*row) for row in session.execute(query)}


def rating_sessions(session: Session) -> list[RatingSession]:
    """Return all rating sessions, the newest first; their prompts aren't loaded."""
    query = select(RatingSession)
    return list(session.scalars(query.order_by(RatingSession.created_at.desc(), RatingSession.id)))
