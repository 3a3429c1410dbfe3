"""Which rating session somebody means who writes its name or id."""

from sqlalchemy.orm import Session

from db import exchange_queries
from rating.errors import BadFilter


def session_id(session: Session, name: str) -> str:
    """Return the id of the rating session of this id or name.

    Raises:
        BadFilter: There is none, or there are several.
    """
    found = exchange_queries.sessions_named(session, name)
    if len(found) != 1:
        raise BadFilter(
            "no_such_session",
            f"{len(found) or 'No'} rating sessions are named {name[:40]!r}. Give the id of one.",
            text=name[:40],
        )
    return found[0].id
