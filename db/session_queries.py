"""What rating sessions ask of the database, as functions of an open session of SQLAlchemy.

They load and count; which session is on, and what is given to whom, is decided in
`rating.sessions`.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, String, cast, func, or_, select
from sqlalchemy.orm import Session, joinedload

from db.queries import ANSWERED, FINAL, locked, whole_trials
from db.session_tables import (
    Assignment,
    PackedAnswer,
    RatingSession,
    SessionState,
    TrialKind,
)
from db.tables import Answer, Rating, Trial, TrialState, Turn

UNRATED = (TrialState.DRAFTING, *ANSWERED)
"""The states of a trial that was begun and is neither rated nor left."""


@dataclass(frozen=True)
class CellCount:
    """How many trials of a prompt and a pair have that model on the left."""

    prompt_id: str
    pair: str
    left_model: str
    count: int


def ongoing_sessions(session: Session) -> list[RatingSession]:
    """Return the sessions that aren't closed: the open ones first, of each the newest first."""
    query = (
        select(RatingSession)
        .where(RatingSession.state != SessionState.CLOSED)
        .order_by(
            (RatingSession.state == SessionState.PAUSED).asc(),
            RatingSession.created_at.desc(),
            RatingSession.id,
        )
        .options(joinedload(RatingSession.pack))
    )
    return list(session.scalars(query))


def load_session(
    session: Session, session_id: str, *, for_update: bool = False
) -> RatingSession | None:
    """Return the rating session of that id with its pack, None if there is none."""
    query = (
        select(RatingSession)
        .where(RatingSession.id == session_id)
        .options(joinedload(RatingSession.pack))
    )
    if for_update:
        query = locked(query, RatingSession)
    return session.scalars(query).one_or_none()


def last_session(session: Session, rater_id: str) -> RatingSession | None:
    """Return the session that gave the rater their last trial, left or not; None if none did."""
    last = (
        select(Trial.id)
        .where(Trial.rater_id == rater_id)
        .order_by(Trial.created_at.desc(), Trial.id)
        .limit(1)
    )
    query = (
        select(RatingSession)
        .join(Assignment, Assignment.session_id == RatingSession.id)
        .where(Assignment.trial_id == last.scalar_subquery())
        .options(joinedload(RatingSession.pack))
    )
    return session.scalars(query).one_or_none()


def unrevealed_sessions(session: Session, rater_id: str) -> list[RatingSession]:
    """Return the sessions in which the rater has rated trials that aren't revealed yet."""
    rated = (
        select(Assignment.session_id)
        .join(Trial, Trial.id == Assignment.trial_id)
        .where(Trial.rater_id == rater_id, Trial.state == TrialState.RATED)
    )
    query = select(RatingSession).where(RatingSession.id.in_(rated)).order_by(RatingSession.id)
    return list(session.scalars(query))


def all_sessions(session: Session) -> list[RatingSession]:
    """Return all rating sessions with their sets and packs, the newest first."""
    query = (
        select(RatingSession)
        .order_by(RatingSession.created_at.desc(), RatingSession.id)
        .options(joinedload(RatingSession.pack), joinedload(RatingSession.prompt_set))
    )
    return list(session.scalars(query))


def rated_cells(session: Session, session_id: str) -> list[CellCount]:
    """Count the rated regular trials of the session."""
    query = _cells(session_id).where(Trial.state.in_(FINAL))
    return _counted(session, query)


def taken_cells(
    session: Session, session_id: str, rater_id: str, since: datetime
) -> list[CellCount]:
    """Count the unrated regular trials of other raters that were gone on with since then."""
    touched = (
        select(Answer.id)
        .join(Turn)
        .where(
            Turn.trial_id == Trial.id,
            or_(Answer.started_at >= since, Answer.finished_at >= since),
        )
    )
    query = _cells(session_id).where(
        Trial.state.in_(UNRATED),
        Trial.rater_id != rater_id,
        or_(Trial.updated_at >= since, touched.exists()),
    )
    return _counted(session, query)


def _counted(session: Session, query: Select[str, str, str, int]) -> list[CellCount]:
    return [
        CellCount(prompt_id, pair, left_model, count)
        for prompt_id, pair, left_model, count in session.execute(query)
    ]


def _cells(session_id: str) -> Select[str, str, str, int]:
    cell = (Assignment.prompt_id, Trial.pair, Trial.left_model)
    return (
        select(*cell, func.count())
        .join(Trial, Trial.id == Assignment.trial_id)
        .where(Assignment.session_id == session_id, Assignment.kind == TrialKind.REGULAR)
        .group_by(*cell)
    )


def given_to(session: Session, session_id: str, rater_id: str) -> list[tuple[Assignment, Trial]]:
    """Return what the session gave to the rater, the oldest first, without turns and answers."""
    query = (
        select(Assignment, Trial)
        .join(Trial, Trial.id == Assignment.trial_id)
        .where(Assignment.session_id == session_id, Trial.rater_id == rater_id)
        .order_by(Trial.created_at, Trial.id)
    )
    return [(assignment, trial) for assignment, trial in session.execute(query)]


def flagged_prompts(session: Session, session_id: str, flag: str) -> set[str]:
    """Return the prompts of the session in whose abandoned trials the flag stands."""
    query = (
        select(Assignment.prompt_id)
        .join(Trial, Trial.id == Assignment.trial_id)
        .where(
            Assignment.session_id == session_id,
            Trial.state == TrialState.ABANDONED,
            cast(Trial.flags, String).contains(f'"{flag}"'),
        )
    )
    return set(session.scalars(query))


def rated_regular_trials(session: Session, session_id: str, rater_id: str) -> list[Trial]:
    """Return the rater's rated regular trials of the session, whole, the oldest rating first."""
    query = (
        whole_trials()
        .join(Assignment, Assignment.trial_id == Trial.id)
        .join(Rating, Rating.trial_id == Trial.id)
        .where(
            Assignment.session_id == session_id,
            Assignment.kind == TrialKind.REGULAR,
            Trial.rater_id == rater_id,
            Trial.state.in_(FINAL),
        )
        .order_by(Rating.rated_at, Rating.id)
    )
    return list(session.scalars(query))


def count_raters(session: Session, session_id: str) -> int:
    """Return how many raters have rated something in the session."""
    query = (
        select(func.count(Trial.rater_id.distinct()))
        .join(Assignment, Assignment.trial_id == Trial.id)
        .where(Assignment.session_id == session_id, Trial.state.in_(FINAL))
    )
    return session.scalar(query) or 0


def count_given(session: Session, session_id: str) -> dict[TrialKind, int]:
    """Return how many rated trials of each kind the session has."""
    query = (
        select(Assignment.kind, func.count().label("n"))
        .join(Trial, Trial.id == Assignment.trial_id)
        .where(Assignment.session_id == session_id, Trial.state.in_(FINAL))
        .group_by(Assignment.kind)
    )
    return {row.kind: row.n for row in session.execute(query)}


def packed_timings(
    session: Session, pack_id: str, model_key: str, limit: int
) -> list[tuple[int, float, float]]:
    """Return (characters, first_token_s, total_s) of some answers that the model gave."""
    query = (
        select(func.length(PackedAnswer.text), PackedAnswer.first_token_s, PackedAnswer.total_s)
        .where(PackedAnswer.pack_id == pack_id, PackedAnswer.model_key == model_key)
        .order_by(PackedAnswer.id)
        .limit(limit)
    )
    return [(chars, first_s, total_s) for chars, first_s, total_s in session.execute(query)]
