"""The table of answers that are kept to be given again.

No queries, and no rule about which answers are kept: that is `rating.answer_cache`'s. No other row
points to these: each may go at any time.
"""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from db.tables import Base, FinishReason, choice, utc_now


class CachedAnswer(Base):
    """One whole answer as it came, under the hash of all that it depends on.

    `pieces` holds `[characters, milliseconds]` of each piece in turn: how much of `text` it is, and
    when it came, from the request on. As texts of their own the pieces would take three times the
    space. `size_bytes` is what `text` and `pieces` take.
    """

    __tablename__ = "cached_answers"
    __table_args__ = (
        CheckConstraint("finish_reason IN ('stop', 'length')", name="whole"),
        CheckConstraint("size_bytes >= 0", name="size_bytes"),
        CheckConstraint("hits >= 0", name="hits"),
        CheckConstraint("prompt_tokens >= 0", name="prompt_tokens"),
        CheckConstraint("completion_tokens >= 0", name="completion_tokens"),
        CheckConstraint("first_token_s >= 0", name="first_token_s"),
        CheckConstraint("total_s >= 0", name="total_s"),
    )

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    text: Mapped[str]
    pieces: Mapped[list[list[int]]] = mapped_column(JSON)
    finish_reason: Mapped[FinishReason] = mapped_column(choice(FinishReason, "finish_reason"))
    seed: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    first_token_s: Mapped[float]
    total_s: Mapped[float]
    size_bytes: Mapped[int]
    hits: Mapped[int] = mapped_column(default=0)
    recorded_at: Mapped[datetime] = mapped_column(default=utc_now)
    used_at: Mapped[datetime] = mapped_column(default=utc_now)
