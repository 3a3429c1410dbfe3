"""The tables: raters, trials, turns, answers, ratings, scores.

What must hold is a constraint here, whatever the code above does. No queries, no connection, no
rules about which state may follow which (that is the rating domain's).

What belongs to a rating is never deleted: every foreign key is RESTRICT and the relationships
cascade nothing. Change
this file only together with a new migration; a test compares the two.
"""

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    String,
    UniqueConstraint,
    false,
)
from sqlalchemy.ext.mutable import MutableList
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from db.types import SafeText, UtcDateTime

if TYPE_CHECKING:
    from db.session_tables import Assignment

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Language(StrEnum):
    """The language of a rater's page."""

    ZH = "zh"
    EN = "en"


class TrialState(StrEnum):
    """How far a trial has come."""

    DRAFTING = "drafting"
    ANSWERING = "answering"
    RATEABLE = "rateable"
    RATED = "rated"
    REVEALED = "revealed"
    ABANDONED = "abandoned"


class Side(StrEnum):
    """The pane an answer was shown in."""

    LEFT = "left"
    RIGHT = "right"


class FinishReason(StrEnum):
    """Why an answer ended: by itself, at its token limit, by the rater, by an error."""

    STOP = "stop"
    LENGTH = "length"
    STOPPED = "stopped"
    FAILED = "failed"


class Preference(StrEnum):
    """Which side the rater likes better overall."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both_bad"


class Dimension(StrEnum):
    """What a score is about."""

    UNDERSTANDING = "understanding"
    COHERENCE = "coherence"
    MEMORY = "memory"
    NATURALNESS = "naturalness"
    REASONING = "reasoning"


def new_id() -> str:
    """Return a random identifier of 32 hexadecimal digits."""
    return uuid4().hex


def utc_now() -> datetime:
    """Return this moment, aware, in UTC."""
    return datetime.now(UTC)


def choice(kind: type[StrEnum], name: str) -> Enum:
    """A short string with a CHECK named `name`: readable in SQL, extended by a plain migration."""
    return Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=True,
        validate_strings=True,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    """What all tables share: names of constraints, and the types that Python types map to."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {  # noqa: RUF012 - declared by SQLAlchemy
        datetime: UtcDateTime(),
        str: SafeText(),
        dict[str, Any]: JSON(none_as_null=True),
    }


def public_name(rater_id: str) -> str:
    """Return the pseudonym of a rater of this database, made of the id, which nobody can guess."""
    return f"r{sha256(rater_id.encode()).hexdigest()[:12]}"


def _side_seed() -> int:
    return secrets.randbits(63)


class Rater(Base):
    """A person who rates, known by a random id alone.

    `side_seed` orders the rater's sides; it never leaves the server, or sides could be foretold.
    Nor does `id`: who knows it is the rater. `pseudonym` names one whose ratings were imported.
    """

    __tablename__ = "raters"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    language: Mapped[Language] = mapped_column(choice(Language, "language"))
    side_seed: Mapped[int] = mapped_column(BigInteger, default=_side_seed)
    pseudonym: Mapped[str | None] = mapped_column(String(64), unique=True)

    @property
    def public_name(self) -> str:
        """What stands for the rater in files and on pages; the id can't be found from it."""
        return self.pseudonym or public_name(self.id)


class Trial(Base):
    """One comparison of two models by one rater: a conversation of one or more turns.

    `pair` is the two model keys sorted and joined by "|", the same whichever side each is on.
    `draft` is what the rater has entered and not sent yet; assign it as a whole, changes inside it
    are not noticed. `flags` notices `append`.
    """

    __tablename__ = "trials"
    __table_args__ = (
        Index(None, "rater_id", "state", "created_at"),
        Index(None, "pair", "state"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    rater_id: Mapped[str] = mapped_column(ForeignKey("raters.id", ondelete="RESTRICT"))
    pair: Mapped[str] = mapped_column(String(401))  # two keys and the bar between them
    left_model: Mapped[str] = mapped_column(String(200))
    right_model: Mapped[str] = mapped_column(String(200))
    blind: Mapped[bool]
    language: Mapped[Language] = mapped_column(choice(Language, "language"))
    state: Mapped[TrialState] = mapped_column(
        choice(TrialState, "state"), default=TrialState.DRAFTING
    )
    draft: Mapped[dict[str, Any] | None]
    flags: Mapped[list[str]] = mapped_column(MutableList.as_mutable(JSON()), default=list)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)
    revealed_at: Mapped[datetime | None]

    rater: Mapped[Rater] = relationship()
    turns: Mapped[list["Turn"]] = relationship(
        back_populates="trial", order_by="Turn.position", passive_deletes="all"
    )
    rating: Mapped["Rating | None"] = relationship(back_populates="trial", passive_deletes="all")
    assignment: Mapped["Assignment | None"] = relationship(
        back_populates="trial", foreign_keys="Assignment.trial_id", passive_deletes="all"
    )

    def model_on(self, side: Side) -> str:
        """Return the key of the model on that side."""
        return self.left_model if side is Side.LEFT else self.right_model


class Turn(Base):
    """One prompt in a trial. `position` counts from 1; `prompt_id` names a prompt of a set."""

    __tablename__ = "turns"
    __table_args__ = (
        UniqueConstraint("trial_id", "position"),
        CheckConstraint("position >= 1", name="position"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id", ondelete="RESTRICT"))
    position: Mapped[int]
    prompt: Mapped[str]
    prompt_id: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    trial: Mapped[Trial] = relationship(back_populates="turns")
    answers: Mapped[list["Answer"]] = relationship(
        back_populates="turn",
        order_by="Answer.side, Answer.attempt",
        passive_deletes="all",
    )


class Answer(Base):
    """One attempt of one side to answer a turn.

    `text` is as it was shown (names masked), `raw_text` as the model wrote it. While it streams,
    `finish_reason` and `finished_at` are both null; afterwards both are set. `seed` is signed 64
    bit. Times are in seconds from the request. One that is `cached` was given before: its seed,
    times and token counts are those of that time, null where it was stopped.
    """

    __tablename__ = "answers"
    __table_args__ = (
        UniqueConstraint("turn_id", "side", "attempt"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint("prompt_tokens >= 0", name="prompt_tokens"),
        CheckConstraint("completion_tokens >= 0", name="completion_tokens"),
        CheckConstraint("first_token_s >= 0", name="first_token_s"),
        CheckConstraint("total_s >= 0", name="total_s"),
        CheckConstraint("(finish_reason IS NULL) = (finished_at IS NULL)", name="finished"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    turn_id: Mapped[int] = mapped_column(ForeignKey("turns.id", ondelete="RESTRICT"))
    side: Mapped[Side] = mapped_column(choice(Side, "side"))
    attempt: Mapped[int]
    text: Mapped[str] = mapped_column(default="")
    raw_text: Mapped[str] = mapped_column(default="")
    finish_reason: Mapped[FinishReason | None] = mapped_column(
        choice(FinishReason, "finish_reason")
    )
    seed: Mapped[int] = mapped_column(BigInteger)
    settings: Mapped[dict[str, Any]]
    model_key: Mapped[str] = mapped_column(String(200))
    model_revision: Mapped[str] = mapped_column(String(200))
    precision: Mapped[str] = mapped_column(String(32))
    cached: Mapped[bool] = mapped_column(default=False, server_default=false())
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    first_token_s: Mapped[float | None]
    total_s: Mapped[float | None]
    error: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]

    turn: Mapped[Turn] = relationship(back_populates="answers")


class Rating(Base):
    """What the rater said of a trial; at most one a trial.

    `guess` is the side on which the rater believes the pair's first model to be, where asked.
    """

    __tablename__ = "ratings"
    __table_args__ = (UniqueConstraint("trial_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    trial_id: Mapped[str] = mapped_column(ForeignKey("trials.id", ondelete="RESTRICT"))
    rater_id: Mapped[str] = mapped_column(ForeignKey("raters.id", ondelete="RESTRICT"), index=True)
    preference: Mapped[Preference] = mapped_column(choice(Preference, "preference"))
    comment: Mapped[str] = mapped_column(default="")
    guess: Mapped[Side | None] = mapped_column(choice(Side, "guess"))
    rated_at: Mapped[datetime] = mapped_column(default=utc_now)

    trial: Mapped[Trial] = relationship(back_populates="rating")
    rater: Mapped[Rater] = relationship()
    scores: Mapped[list["Score"]] = relationship(
        back_populates="rating", order_by="Score.id", passive_deletes="all"
    )


class Score(Base):
    """One dimension of one side: 1 to 5, or null where the dimension does not apply."""

    __tablename__ = "scores"
    __table_args__ = (
        UniqueConstraint("rating_id", "side", "dimension"),
        CheckConstraint("score IN (1, 2, 3, 4, 5)", name="score"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    rating_id: Mapped[int] = mapped_column(ForeignKey("ratings.id", ondelete="RESTRICT"))
    side: Mapped[Side] = mapped_column(choice(Side, "side"))
    dimension: Mapped[Dimension] = mapped_column(choice(Dimension, "dimension"))
    score: Mapped[int | None]

    rating: Mapped[Rating] = relationship(back_populates="scores")
