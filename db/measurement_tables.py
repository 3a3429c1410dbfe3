"""The tables of what was measured on this machine: measurements, models in them, timed answers.

What belongs to a measurement goes with it when it is deleted: it can be measured again.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.tables import Base, choice, new_id, utc_now


class MeasurementState(StrEnum):
    """How far a measurement has come; "failed" also where the app ended before it did."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


class Measurement(Base):
    """One run through a plan on one machine.

    `machine` and `plan` are `backends.measurement`'s, as JSON. `finished_at` is null while it runs.
    """

    __tablename__ = "measurements"
    __table_args__ = (
        Index(None, "started_at"),
        CheckConstraint("(state = 'running') = (finished_at IS NULL)", name="finished"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    state: Mapped[MeasurementState] = mapped_column(
        choice(MeasurementState, "state"), default=MeasurementState.RUNNING
    )
    machine: Mapped[dict[str, Any]]
    plan: Mapped[dict[str, Any]]
    error: Mapped[str] = mapped_column(default="")
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]

    models: Mapped[list["MeasuredModel"]] = relationship(
        back_populates="measurement", order_by="MeasuredModel.id", cascade="all, delete-orphan"
    )
    answers: Mapped[list["MeasuredAnswer"]] = relationship(
        back_populates="measurement", order_by="MeasuredAnswer.id", cascade="all, delete-orphan"
    )


class MeasuredModel(Base):
    """What one model took, alone or together with the others; null is not measured."""

    __tablename__ = "measured_models"
    __table_args__ = (
        UniqueConstraint("measurement_id", "model_key", "together"),
        CheckConstraint("peak_bytes >= 0", name="peak_bytes"),
        CheckConstraint("cold_start_s >= 0", name="cold_start_s"),
        CheckConstraint("warm_start_s >= 0", name="warm_start_s"),
        CheckConstraint("cpu_share >= 0", name="cpu_share"),
        CheckConstraint("others_share >= 0", name="others_share"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    measurement_id: Mapped[str] = mapped_column(ForeignKey("measurements.id", ondelete="CASCADE"))
    model_key: Mapped[str] = mapped_column(String(200))
    together: Mapped[bool]
    remote: Mapped[bool]
    revision: Mapped[str] = mapped_column(String(200), default="")
    precision: Mapped[str] = mapped_column(String(32), default="")
    threads: Mapped[int | None]
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    peak_bytes: Mapped[int | None] = mapped_column(BigInteger)
    cold_start_s: Mapped[float | None]
    warm_start_s: Mapped[float | None]
    cpu_share: Mapped[float | None]
    others_share: Mapped[float | None]
    disk_free_bytes: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[str] = mapped_column(default="")

    measurement: Mapped[Measurement] = relationship(back_populates="models")


class MeasuredAnswer(Base):
    """One answer to one prompt of the plan, counted from 1; times are null where it failed."""

    __tablename__ = "measured_answers"
    __table_args__ = (
        UniqueConstraint(  # by the convention its name would be longer than PostgreSQL's can be
            *("measurement_id", "model_key", "together", "prompt", "repeat"),
            name="uq_measured_answers_once",
        ),
        CheckConstraint("prompt >= 1", name="prompt"),
        CheckConstraint("repeat >= 1", name="repeat"),
        CheckConstraint("first_token_s >= 0", name="first_token_s"),
        CheckConstraint("total_s >= 0", name="total_s"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    measurement_id: Mapped[str] = mapped_column(ForeignKey("measurements.id", ondelete="CASCADE"))
    model_key: Mapped[str] = mapped_column(String(200))
    together: Mapped[bool]
    prompt: Mapped[int]
    repeat: Mapped[int]
    first_token_s: Mapped[float | None]
    total_s: Mapped[float | None]
    prompt_tokens: Mapped[int | None]
    completion_tokens: Mapped[int | None]
    characters: Mapped[int]
    error: Mapped[str] = mapped_column(default="")

    measurement: Mapped[Measurement] = relationship(back_populates="answers")
