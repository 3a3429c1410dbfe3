"""What the answer cache asks of the database, as functions of an open session.

They know rows and bounds. Which answers are kept, and under which key, is decided in `rating`.
"""

from collections.abc import Iterable

from sqlalchemy import delete, func, or_, select, text, update
from sqlalchemy.orm import Session

from db.cache_tables import CachedAnswer
from db.tables import utc_now


def load(session: Session, key: str) -> CachedAnswer | None:
    """Return the answer under `key`, if there is one."""
    return session.get(CachedAnswer, key)


def count_hit(session: Session, key: str) -> None:
    """Note that the answer under `key` is given again now."""
    session.execute(
        update(CachedAnswer)
        .where(CachedAnswer.key == key)
        .values(hits=CachedAnswer.hits + 1, used_at=utc_now())
    )


def store(
    session: Session, answers: Iterable[CachedAnswer], *, entries: int, size_bytes: int
) -> None:
    """Add `answers`, then delete the longest unused of all until both bounds hold.

    Where there is one under the same key, that one stays: whoever asked at the same time was
    quicker.
    """
    if session.get_bind().dialect.name == "postgresql":
        # One at a time, as on SQLite: others could add the same key, or more than the bounds allow.
        session.execute(text("LOCK TABLE cached_answers IN SHARE ROW EXCLUSIVE MODE"))
    for answer in answers:
        if session.get(CachedAnswer, answer.key) is None:
            session.add(answer)
            session.flush()
    _evict(session, entries, size_bytes)


def _evict(session: Session, entries: int, size_bytes: int) -> None:
    newest_first = (CachedAnswer.used_at.desc(), CachedAnswer.key)
    ranked = select(
        CachedAnswer.key,
        func.row_number().over(order_by=newest_first).label("rank"),
        func.sum(CachedAnswer.size_bytes).over(order_by=newest_first).label("filled"),
    ).subquery()
    too_much = select(ranked.c.key).where(
        or_(ranked.c.rank > entries, ranked.c.filled > size_bytes)
    )
    session.execute(delete(CachedAnswer).where(CachedAnswer.key.in_(too_much)))


def clear(session: Session) -> int:
    """Delete all answers; return how many there were."""
    count = session.scalar(select(func.count()).select_from(CachedAnswer)) or 0
    session.execute(delete(CachedAnswer))
    return count
