"""What the rating domain asks of the database, as functions of an open session.

They load and count; which rows are written, and when a trial may change its state, is decided in
`rating`. Rows come back with everything a view of them needs, since nothing loads lazily later.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from db.tables import (
    Answer,
    FinishReason,
    Language,
    Rater,
    Rating,
    Trial,
    TrialState,
    Turn,
)

_UNRATED = (TrialState.ANSWERING, TrialState.RATEABLE)
_FINAL = (TrialState.RATED, TrialState.REVEALED)


@dataclass(frozen=True)
class Filters:
    """Which rated trials are meant; None is no limit. `until` is exclusive."""

    pair: str | None = None
    blind: bool | None = None
    language: Language | None = None
    since: datetime | None = None
    until: datetime | None = None


def ensure_rater(session: Session, rater_id: str, language: Language) -> Rater:
    """Return the rater of that id, locked against a second trial begun at once; make it if new."""
    rater = session.get(Rater, rater_id, with_for_update=True)
    if rater is not None:
        return rater
    try:
        with session.begin_nested():
            session.add(rater := Rater(id=rater_id, language=language))
        return rater
    except IntegrityError:  # another tab of the rater was quicker
        return session.get_one(Rater, rater_id, with_for_update=True)


def load_trial(
    session: Session, trial_id: str, rater_id: str, *, for_update: bool = False
) -> Trial | None:
    """Return the rater's trial with its turns, answers and rating; None if it isn't theirs."""
    query = _whole_trials().where(Trial.id == trial_id, Trial.rater_id == rater_id)
    if for_update:
        query = query.with_for_update(of=Trial)
    return session.scalars(query).one_or_none()


def latest_trial(session: Session, rater_id: str, *, for_update: bool = False) -> Trial | None:
    """Return the trial the rater began last, unless it was abandoned."""
    query = (
        _whole_trials()
        .where(Trial.rater_id == rater_id)
        .order_by(Trial.created_at.desc(), Trial.id)
        .limit(1)
    )
    if for_update:
        query = query.with_for_update(of=Trial)
    trial = session.scalars(query).one_or_none()
    return None if trial is None or trial.state is TrialState.ABANDONED else trial


def count_rated(session: Session, rater_id: str, pair: str) -> int:
    """Return how many trials of `pair` the rater has rated."""
    query = select(func.count()).where(
        Trial.rater_id == rater_id, Trial.pair == pair, Trial.state.in_(_FINAL)
    )
    return session.scalar(query) or 0


def unrated_since(session: Session, pair: str, since: datetime) -> list[str]:
    """Return the trials of `pair` with answers but no rating that were gone on with since then."""
    touched = (
        select(Answer.id)
        .join(Turn)
        .where(
            Turn.trial_id == Trial.id,
            or_(Answer.started_at >= since, Answer.finished_at >= since),
        )
    )
    query = select(Trial.id).where(
        Trial.pair == pair,
        Trial.state.in_(_UNRATED),
        or_(Trial.updated_at >= since, touched.exists()),
    )
    return list(session.scalars(query))


def recent_timings(session: Session, model_key: str, limit: int) -> list[tuple[int, float, float]]:
    """Return (characters, first_token_s, total_s) of the model's last complete answers."""
    query = (
        select(func.length(Answer.raw_text), Answer.first_token_s, Answer.total_s)
        .where(
            Answer.model_key == model_key,
            Answer.finish_reason.in_((FinishReason.STOP, FinishReason.LENGTH)),
            Answer.first_token_s.is_not(None),
            Answer.total_s.is_not(None),
        )
        .order_by(Answer.id.desc())
        .limit(limit)
    )
    return [(chars, first_s, total_s) for chars, first_s, total_s in session.execute(query)]


def rated_trials(session: Session, filters: Filters) -> list[Trial]:
    """Return the rated trials that fit, newest rating first."""
    query = (
        _whole_trials()
        .join(Trial.rating)
        .where(Trial.state.in_(_FINAL))
        .order_by(Rating.rated_at.desc(), Rating.id.desc())
    )
    if filters.pair is not None:
        query = query.where(Trial.pair == filters.pair)
    if filters.blind is not None:
        query = query.where(Trial.blind == filters.blind)
    if filters.language is not None:
        query = query.where(Trial.language == filters.language)
    if filters.since is not None:
        query = query.where(Rating.rated_at >= filters.since)
    if filters.until is not None:
        query = query.where(Rating.rated_at < filters.until)
    return list(session.scalars(query))


def rated_pairs(session: Session) -> list[str]:
    """Return the pairs that have ratings, most ratings first."""
    query = (
        select(Trial.pair)
        .where(Trial.state.in_(_FINAL))
        .group_by(Trial.pair)
        .order_by(func.count().desc(), Trial.pair)
    )
    return list(session.scalars(query))


def _whole_trials() -> Select[Trial]:
    return select(Trial).options(
        selectinload(Trial.turns).selectinload(Turn.answers),
        selectinload(Trial.rating).selectinload(Rating.scores),
    )
