"""What the rating domain asks of the database, as functions of an open session.

They load and count; which rows are written, and when a trial may change its state, is decided in
`rating`. Rows come back with everything a view of them needs, since nothing loads lazily later.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, exists, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from db.measurement_tables import (
    MeasuredAnswer,
    MeasuredModel,
    Measurement,
    MeasurementState,
)
from db.session_tables import Assignment, RatingSession, TrialKind
from db.tables import (
    Answer,
    Base,
    FinishReason,
    Language,
    Rater,
    Rating,
    Trial,
    TrialState,
    Turn,
)

T = TypeVar("T")

ANSWERED = (TrialState.ANSWERING, TrialState.RATEABLE)
"""The states of a trial that has answers and isn't rated."""

FINAL = (TrialState.RATED, TrialState.REVEALED)
"""The states of a trial that is rated."""

_UNTIL_DONE = {"key_share": True}  # FOR NO KEY UPDATE
_NEWEST_FIRST = (Measurement.started_at.desc(), Measurement.id)


@dataclass(frozen=True)
class Filters:
    """Which rated trials are meant; None is no limit. `until` is exclusive.

    `session` is a rating session's id; trials of `hidden_sessions` are left out, whatever else is
    asked for.
    """

    pair: str | None = None
    blind: bool | None = None
    language: Language | None = None
    since: datetime | None = None
    until: datetime | None = None
    session: str | None = None
    hidden_sessions: frozenset[str] = frozenset()


def ensure_rater(session: Session, rater_id: str, language: Language) -> Rater:
    """Return the rater of that id, locked against a second trial begun at once; make it if new.

    The lock lets others refer to the rater: whoever saves a rating holds its trial, and would wait
    for the rater while we wait for the trial.
    """
    rater = session.get(Rater, rater_id, with_for_update=_UNTIL_DONE)
    if rater is not None:
        return rater
    try:
        with session.begin_nested():
            session.add(rater := Rater(id=rater_id, language=language))
        return rater
    except IntegrityError:  # another tab of the rater was quicker
        return session.get_one(Rater, rater_id, with_for_update=_UNTIL_DONE)


def load_trial(
    session: Session, trial_id: str, rater_id: str, *, for_update: bool = False
) -> Trial | None:
    """Return the rater's trial with its turns, answers and rating; None if it isn't theirs."""
    query = whole_trials().where(Trial.id == trial_id, Trial.rater_id == rater_id)
    if for_update:
        query = locked(query, Trial)
    return session.scalars(query).one_or_none()


def latest_trial(session: Session, rater_id: str, *, for_update: bool = False) -> Trial | None:
    """Return the trial the rater began last, unless it was abandoned.

    There is one at most that isn't ended, and it is that one, whatever was imported since.
    """
    ended = Trial.state.in_((*FINAL, TrialState.ABANDONED))
    query = (
        whole_trials()
        .where(Trial.rater_id == rater_id)
        .order_by(ended, Trial.created_at.desc(), Trial.id)
        .limit(1)
    )
    if for_update:
        query = locked(query, Trial)
    trial = session.scalars(query).one_or_none()
    return None if trial is None or trial.state is TrialState.ABANDONED else trial


def has_hidden_answers(session: Session, rater_id: str) -> bool:
    """Whether the rater has answers whose models they must not know yet.

    Those of a blind trial that isn't rated, or not revealed in the rating session that gave it.
    """
    given = exists().where(Assignment.trial_id == Trial.id, Assignment.session_id.is_not(None))
    hidden = exists().where(
        Trial.rater_id == rater_id,
        Trial.state.in_((*ANSWERED, TrialState.RATED)),
        Trial.blind,
        or_(Trial.state != TrialState.RATED, given),
    )
    return bool(session.scalar(select(hidden)))


def count_rated(session: Session, rater_id: str, pair: str) -> int:
    """Return how many trials of `pair` the rater has rated, but for repeats and attention items."""
    query = (
        select(func.count())
        .select_from(Trial)
        .outerjoin(Assignment, Assignment.trial_id == Trial.id)
        .where(
            Trial.rater_id == rater_id,
            Trial.pair == pair,
            Trial.state.in_(FINAL),
            or_(Assignment.kind.is_(None), Assignment.kind == TrialKind.REGULAR),
        )
    )
    return session.scalar(query) or 0


def unrated_since(session: Session, pair: str | None, since: datetime) -> list[str]:
    """Return the trials with answers but no rating that were gone on with since then.

    Those of `pair`, or of all pairs.
    """
    touched = (
        select(Answer.id)
        .join(Turn)
        .where(
            Turn.trial_id == Trial.id,
            or_(Answer.started_at >= since, Answer.finished_at >= since),
        )
    )
    query = select(Trial.id).where(
        Trial.state.in_(ANSWERED),
        or_(Trial.updated_at >= since, touched.exists()),
    )
    if pair is not None:
        query = query.where(Trial.pair == pair)
    return list(session.scalars(query))


def recent_timings(session: Session, model_key: str, limit: int) -> list[tuple[int, float, float]]:
    """Return (characters, first_token_s, total_s) of the last complete answers that it gave itself.

    Those from the answer cache would count one answer's times again and again.
    """
    query = (
        select(func.length(Answer.raw_text), Answer.first_token_s, Answer.total_s)
        .where(
            Answer.model_key == model_key,
            Answer.cached.is_(False),
            Answer.finish_reason.in_((FinishReason.STOP, FinishReason.LENGTH)),
            Answer.first_token_s.is_not(None),
            Answer.total_s.is_not(None),
        )
        .order_by(Answer.id.desc())
        .limit(limit)
    )
    return [(chars, first_s, total_s) for chars, first_s, total_s in session.execute(query)]


def trials_with(session: Session, trial_ids: Sequence[str]) -> list[Trial]:
    """Return the trials of these ids, in their order, with turns, answers and rating."""
    found = {t.id: t for t in session.scalars(whole_trials().where(Trial.id.in_(trial_ids)))}
    return [found[trial_id] for trial_id in trial_ids if trial_id in found]


def fitting(filters: Filters) -> list[ColumnElement[bool]]:
    """Return what holds of the rated trials that fit, where `Trial` and `Rating` are joined."""
    wanted: list[ColumnElement[bool]] = [Trial.state.in_(FINAL)]
    if filters.pair is not None:
        wanted.append(Trial.pair == filters.pair)
    if filters.blind is not None:
        wanted.append(Trial.blind == filters.blind)
    if filters.language is not None:
        wanted.append(Trial.language == filters.language)
    if filters.since is not None:
        wanted.append(Rating.rated_at >= filters.since)
    if filters.until is not None:
        wanted.append(Rating.rated_at < filters.until)
    if filters.session is not None:
        wanted.append(_is_of({filters.session}))
    if filters.hidden_sessions:
        wanted.append(~_is_of(filters.hidden_sessions))
    return wanted


def _is_of(sessions: Collection[str]) -> ColumnElement[bool]:
    """Whether a trial was given out by one of these rating sessions."""
    return exists().where(
        Assignment.trial_id == Trial.id, Assignment.session_id.in_(sorted(sessions))
    )


def rated_pairs(session: Session, filters: Filters) -> list[str]:
    """Return the pairs that have ratings that fit, most ratings first."""
    query = (
        select(Trial.pair)
        .join(Trial.rating)
        .where(*fitting(filters))
        .group_by(Trial.pair)
        .order_by(func.count().desc(), Trial.pair)
    )
    return list(session.scalars(query))


def load_measurement(session: Session, measurement_id: str) -> Measurement | None:
    """Return the measurement with all that it has found; None if there is none of that id."""
    return session.scalars(
        _whole_measurements().where(Measurement.id == measurement_id)
    ).one_or_none()


def latest_measurement(session: Session, model_keys: Collection[str] | None) -> Measurement | None:
    """Return the last one that timed an answer, of any of these models; None: of any at all."""
    timed = select(MeasuredAnswer.id).where(
        MeasuredAnswer.measurement_id == Measurement.id, MeasuredAnswer.total_s.is_not(None)
    )
    if model_keys is not None:
        timed = timed.where(MeasuredAnswer.model_key.in_(model_keys))
    return session.scalars(
        _whole_measurements().where(timed.exists()).order_by(*_NEWEST_FIRST).limit(1)
    ).one_or_none()


def recent_measurements(session: Session, count: int) -> list[Measurement]:
    """Return the last measurements, the newest first."""
    return list(session.scalars(_whole_measurements().order_by(*_NEWEST_FIRST).limit(count)))


def running_measurements(session: Session) -> list[Measurement]:
    """Return those that are running, or were when their program ended."""
    query = select(Measurement).where(Measurement.state == MeasurementState.RUNNING)
    return list(session.scalars(query.with_for_update()))


def measured_model(
    session: Session, measurement_id: str, model_key: str, together: bool
) -> MeasuredModel | None:
    """Return what is known so far of what the model took, alone or together with the others."""
    query = select(MeasuredModel).where(
        MeasuredModel.measurement_id == measurement_id,
        MeasuredModel.model_key == model_key,
        MeasuredModel.together.is_(together),
    )
    return session.scalars(query).one_or_none()


def _whole_measurements() -> Select[Measurement]:
    return select(Measurement).options(
        selectinload(Measurement.models), selectinload(Measurement.answers)
    )


def locked(query: Select[T], rows: type[Base]) -> Select[T]:
    """Let the query lock its `rows` and read them anew: waiting for a lock makes them old."""
    return query.with_for_update(of=rows).execution_options(populate_existing=True)


def whole_trials() -> Select[Trial]:
    """Select trials with all that a view of them needs."""
    return select(Trial).options(
        selectinload(Trial.turns).selectinload(Turn.answers),
        selectinload(Trial.rating).selectinload(Rating.scores),
        selectinload(Trial.assignment)
        .selectinload(Assignment.session)
        .selectinload(RatingSession.pack),
    )
