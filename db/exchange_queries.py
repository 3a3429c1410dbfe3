"""What export and import ask of the database, as functions of an open session.

They load; what is written and what may be left out is decided in `rating.exchange`.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from db.queries import Filters, fitting
from db.session_tables import Assignment, RatingSession
from db.tables import Rater, Rating, Trial, Turn, public_name

_AT_ONCE = 500


def rated_in_order(
    session: Session, filters: Filters, session_id: str | None = None
) -> Iterator[Trial]:
    """Yield the rated trials that fit, oldest rating first, with all that belongs to them.

    A few hundred are in memory at a time. Those rated at the same moment come in the order of
    their ids, so it is the same order whatever the database.
    """
    query = select(Trial.id, Rating.rated_at).join(Trial.rating).where(*fitting(filters))
    if session_id is not None:
        query = query.join(Trial.assignment).where(Assignment.session_id == session_id)
    # Sorted here: PostgreSQL's order of texts depends on its locale.
    ids = [trial_id for trial_id, _ in sorted(session.execute(query), key=lambda r: (r[1], r[0]))]
    for some in _parts(ids):
        found = {trial.id: trial for trial in whole_trials(session, some)}
        yield from (found[trial_id] for trial_id in some)
        session.expunge_all()


def whole_trials(session: Session, ids: Collection[str]) -> list[Trial]:
    """Return the trials of these ids, at most a few hundred, with all that belongs to them."""
    query = (
        select(Trial)
        .where(Trial.id.in_(ids))
        .options(
            selectinload(Trial.turns).selectinload(Turn.answers),
            selectinload(Trial.rating).selectinload(Rating.scores),
            joinedload(Trial.rater),
            joinedload(Trial.assignment),
        )
    )
    return list(session.scalars(query))


def known_trials(session: Session, ids: Sequence[str]) -> Iterator[Trial]:
    """Yield those of these trials that there are, whatever their state."""
    for some in _parts(ids):
        yield from whole_trials(session, some)
        session.expunge_all()


def known_ids(session: Session, ids: Sequence[str]) -> set[str]:
    """Return those of these ids of which there is a trial."""
    return {
        found
        for some in _parts(ids)
        for found in session.scalars(select(Trial.id).where(Trial.id.in_(some)))
    }


def raters_by_name(session: Session) -> dict[str, str]:
    """Return the id of every rater by what stands for them in files."""
    rows = session.execute(select(Rater.id, Rater.pseudonym))
    return {pseudonym or public_name(rater_id): rater_id for rater_id, pseudonym in rows}


def sessions_named(session: Session, name: str) -> list[RatingSession]:
    """Return the rating sessions of that id or name."""
    query = select(RatingSession).where(or_(RatingSession.id == name, RatingSession.name == name))
    return list(session.scalars(query))


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    waiting = iter(ids)
    while some := list(islice(waiting, _AT_ONCE)):
        yield some
