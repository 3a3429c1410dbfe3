"""The tables of rating sessions: prompt sets, answer packs, sessions, what each gave to a rater.

A trial that belongs to a session has one `Assignment`; one that a rater began by themselves has
none. What may be assigned next, and who may see results, is the rating domain's.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.tables import Base, FinishReason, Trial, choice, new_id, utc_now


class SessionState(StrEnum):
    """Whether a session gives out trials; "paused" goes on, "closed" never does."""

    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


class ResultsRule(StrEnum):
    """When its raters may see a session's results; the operator may always."""

    NEVER = "never"
    OWN_DONE = "own_done"
    CLOSED = "closed"
    ALWAYS = "always"


class TrialKind(StrEnum):
    """Why a session gave a trial: for its scores, or to see how carefully somebody rates."""

    REGULAR = "regular"
    REPEAT = "repeat"
    ATTENTION = "attention"


class PromptSet(Base):
    """What raters are asked to rate: `prompts` are `rating.prompt_sets`'s, as JSON, in their order.

    `id` is a hash over the prompts, so the same file twice is one set.
    """

    __tablename__ = "prompt_sets"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    prompts: Mapped[list[dict[str, Any]]] = mapped_column(JSON())
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class AnswerPack(Base):
    """Answers to a whole prompt set, made ahead; `id` is the hash over content and settings.

    `models` are dicts as in the pack's file: key, title, revision, precision, settings, names.
    """

    __tablename__ = "answer_packs"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    prompt_set_id: Mapped[str] = mapped_column(ForeignKey("prompt_sets.id", ondelete="RESTRICT"))
    models: Mapped[list[dict[str, Any]]] = mapped_column(JSON())
    made_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    prompt_set: Mapped[PromptSet] = relationship()


class PackedAnswer(Base):
    """One model's answer to one turn of one prompt of a pack; `position` counts turns from 1.

    `pieces` are [characters, milliseconds from the request] in the order in which they came.
    """

    __tablename__ = "packed_answers"
    __table_args__ = (
        UniqueConstraint(  # by the convention its name would be longer than PostgreSQL's can be
            *("pack_id", "prompt_id", "position", "model_key"), name="uq_packed_answers_once"
        ),
        CheckConstraint("position >= 1", name="position"),
        CheckConstraint("finish_reason IN ('stop', 'length')", name="whole"),
        CheckConstraint("first_token_s >= 0", name="first_token_s"),
        CheckConstraint("total_s >= 0", name="total_s"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    pack_id: Mapped[str] = mapped_column(ForeignKey("answer_packs.id", ondelete="RESTRICT"))
    prompt_id: Mapped[str] = mapped_column(String(200))
    position: Mapped[int]
    model_key: Mapped[str] = mapped_column(String(200))
    text: Mapped[str]
    pieces: Mapped[list[list[int]]] = mapped_column(JSON())
    finish_reason: Mapped[FinishReason] = mapped_column(choice(FinishReason, "finish_reason"))
    seed: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    first_token_s: Mapped[float]
    total_s: Mapped[float]


class RatingSession(Base):
    """Who rates what: a prompt set, models (all their pairs), and the rules.

    `seed` orders prompts, sides and repeats; like a rater's it never leaves the server. Shares are
    0 to 1 of a rater's regular trials.
    """

    __tablename__ = "rating_sessions"
    __table_args__ = (
        CheckConstraint("raters_per_prompt >= 1", name="raters_per_prompt"),
        CheckConstraint("repeat_share >= 0 AND repeat_share <= 1", name="repeat_share"),
        CheckConstraint("attention_share >= 0 AND attention_share <= 1", name="attention_share"),
        CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="closed"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(200))
    state: Mapped[SessionState] = mapped_column(
        choice(SessionState, "state"), default=SessionState.OPEN
    )
    prompt_set_id: Mapped[str] = mapped_column(ForeignKey("prompt_sets.id", ondelete="RESTRICT"))
    pack_id: Mapped[str | None] = mapped_column(ForeignKey("answer_packs.id", ondelete="RESTRICT"))
    models: Mapped[list[str]] = mapped_column(JSON())
    raters_per_prompt: Mapped[int]
    blind: Mapped[bool]
    results: Mapped[ResultsRule] = mapped_column(choice(ResultsRule, "results"))
    repeat_share: Mapped[float]
    attention_share: Mapped[float]
    asks_guess: Mapped[bool]
    at_once: Mapped[bool] = mapped_column(default=False, server_default=false())
    seed: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    closed_at: Mapped[datetime | None]

    prompt_set: Mapped[PromptSet] = relationship()
    pack: Mapped[AnswerPack | None] = relationship()


class Assignment(Base):
    """What a session gave to a rater as one trial.

    `prompt_id` is the prompt's in the session's set. Of a repeat, `repeat_of` is the trial whose
    answers are shown again, sides swapped. Of an attention trial, `better` is the side with the
    answer that is known to be better.
    """

    __tablename__ = "assignments"
    __table_args__ = (
        Index(None, "session_id", "prompt_id"),
        CheckConstraint("(kind = 'repeat') = (repeat_of IS NOT NULL)", name="repeat_of"),
        CheckConstraint("(kind = 'attention') = (better IS NOT NULL)", name="better"),
        CheckConstraint("better IN ('left', 'right')", name="side"),
    )

    trial_id: Mapped[str] = mapped_column(
        ForeignKey("trials.id", ondelete="RESTRICT"), primary_key=True
    )
    session_id: Mapped[str | None] = mapped_column(
        ForeignKey("rating_sessions.id", ondelete="RESTRICT")
    )
    prompt_id: Mapped[str] = mapped_column(String(200))
    kind: Mapped[TrialKind] = mapped_column(choice(TrialKind, "kind"), default=TrialKind.REGULAR)
    repeat_of: Mapped[str | None] = mapped_column(ForeignKey("trials.id", ondelete="RESTRICT"))
    better: Mapped[str | None] = mapped_column(String(8))

    trial: Mapped[Trial] = relationship(foreign_keys=trial_id, back_populates="assignment")
    session: Mapped[RatingSession | None] = relationship()
