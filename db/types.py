"""Column types that read back the same from SQLite and from PostgreSQL.

It knows no table and no connection.
"""

from datetime import UTC, datetime

from sqlalchemy import DateTime, Dialect, Text
from sqlalchemy.types import TypeDecorator

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware in any zone goes in, aware UTC comes out.

    SQLite drops time zones and PostgreSQL answers in the zone of the connection, so the moment is
    turned into UTC on the way in and marked as UTC on the way out. A naive one raises ValueError
    (SQLAlchemy wraps it in StatementError), since nobody can know which moment it means.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware moment into UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone can't be stored; use datetime.now(UTC)")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Mark what SQLite stored as UTC; turn PostgreSQL's zone into UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SafeText(TypeDecorator[str]):
    """Text from people and models: what no database can hold becomes U+FFFD.

    PostgreSQL refuses NUL, and neither database can encode half of a surrogate pair. An answer
    must not be lost for one such character, so it alone is replaced.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Replace NUL and lone surrogates."""
        if value is None:
            return None
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace("\0", REPLACEMENT)
