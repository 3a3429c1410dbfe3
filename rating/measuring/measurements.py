"""Keeps what is measured as it comes, and gives it back.

Each figure is stored in a transaction of its own, so that Stop, a crash or a model that fails costs
only what was not measured yet. Measures nothing itself, and what the figures say is `figures`'s.
"""

import asyncio
import hashlib
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from sqlalchemy.orm import Session

from backends.measurement import Event, Machine, Plan, Resources, Step, TimedAnswer
from db import (
    Database,
    MeasuredAnswer,
    MeasuredModel,
    Measurement,
    MeasurementState,
    queries,
    utc_now,
)
from rating.session import IN_USE_MIN

logger = logging.getLogger(__name__)

INTERRUPTED = "interrupted: the program ended before the measurement did"

T = TypeVar("T")


_LOOK_S = 0.2
"""How long one who only looks whether it is taken may have the lock, and far more."""


class NotNow(RuntimeError):  # noqa: N818 -- reads as what it is
    """It can't be measured at present; the message says why and what to do."""


@dataclass(frozen=True)
class PlanView:
    """What was to be measured; `models` are keys."""

    models: tuple[str, ...]
    prompts: tuple[str, ...]
    repeats: int
    together: bool


@dataclass(frozen=True)
class MeasurementView:
    """One measurement with all that it has found so far.

    Attributes:
        finished_at: None while it runs.
        error: Why it failed as a whole; what a model failed of is said with the model.
        models: In the order in which they were measured.
        answers: As above.
    """

    id: str
    state: MeasurementState
    started_at: datetime
    finished_at: datetime | None
    error: str
    machine: Machine
    plan: PlanView
    models: tuple[Resources, ...]
    answers: tuple[TimedAnswer, ...]


class Measurements:
    """The measurements in a database. Make one when the program starts."""

    def __init__(self, database: Database) -> None:
        """Those that a crash has left "running" become failed, unless a process is at it.

        Raises:
            DatabaseError: The database can't be written.
        """
        self._database = database
        try:
            with _turn_in(database), database.write() as session:
                _close_interrupted(session)
        except Timeout:
            logger.info("another process is measuring into the same database")

    async def run(
        self, plan: Plan, events: AsyncGenerator[Event, None], machine: Machine
    ) -> AsyncGenerator[Step | str, None]:
        """Store what `events` finds out; yield the measurement's id, then each step.

        Closing this, or cancelling whoever waits for it, is Stop: it closes `events`, and what
        was measured stays.

        Raises:
            NotNow: Another measurement is going on in this database.
            DatabaseError: What was found can't be stored.
        """
        try:
            turn = _turn_in(self._database).acquire(timeout=_LOOK_S)
        except Timeout as error:
            raise NotNow(
                "Another measurement is running: both would take from each other. Wait for its "
                "end, or stop it."
            ) from error
        with turn:
            async with aclosing(events):
                measurement_id = await self._write(lambda session: _begin(session, plan, machine))
                async with aclosing(self._stored(measurement_id, events)) as found:
                    async for one in found:
                        yield one

    async def _stored(
        self, measurement_id: str, events: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[Step | str, None]:
        """Store each figure as it comes, pass the steps on, and note how it ended."""
        state, reason = MeasurementState.STOPPED, ""
        try:
            yield measurement_id
            async for event in events:
                if isinstance(event, Step):
                    yield event
                else:
                    await self._write(_storing(measurement_id, event))
            state = MeasurementState.DONE
        except Exception as error:
            state, reason = MeasurementState.FAILED, str(error) or type(error).__name__
            raise
        finally:
            await self._write(lambda session: _end(session, measurement_id, state, reason))

    async def find(self, measurement_id: str) -> MeasurementView | None:
        """Return the measurement as far as it has come; None if there is no such."""

        def load(session: Session) -> MeasurementView | None:
            found = queries.load_measurement(session, measurement_id)
            return None if found is None else _view_of(found)

        return await self._read(load)

    async def latest(self, model_keys: Collection[str] | None = None) -> MeasurementView | None:
        """Return the last one that has the times of an answer, of any of these models.

        It may be running still, or have been stopped: `state` says so.
        """

        def load(session: Session) -> MeasurementView | None:
            found = queries.latest_measurement(session, model_keys)
            return None if found is None else _view_of(found)

        return await self._read(load)

    async def recent(self, count: int = 20) -> list[MeasurementView]:
        """Return the last ones, also those without any figure, the newest first."""
        return await self._read(
            lambda session: [_view_of(one) for one in queries.recent_measurements(session, count)]
        )

    async def unrated(self) -> int:
        """Return how many trials wait for their rating, in all copies of the app on this database.

        Those that nothing has been done in for `IN_USE_MIN` minutes don't count.
        """
        since = utc_now() - timedelta(minutes=IN_USE_MIN)
        return len(await self._read(lambda session: queries.unrated_since(session, None, since)))

    async def refuse_while_serving(self) -> None:
        """Return if nobody rates at present, in whatever copy of the app on this database.

        Raises:
            NotNow: Somebody does.
        """
        if count := await self.unrated():
            raise NotNow(
                "Raters are being served: trials of the last "
                f"{IN_USE_MIN} minutes that wait for their rating: {count}. A measurement "
                "would slow their answers down, and they would spoil its figures. Wait for the "
                "ratings, or give --force to measure all the same."
            )

    def under_way(self) -> bool:
        """Whether any process of this machine is measuring into this database now."""
        try:
            with _turn_in(self._database).acquire(timeout=0):
                return False
        except Timeout:
            return True

    async def _read(self, work: Callable[[Session], T]) -> T:
        def read() -> T:
            with self._database.read() as session:
                return work(session)

        return await asyncio.to_thread(read)

    async def _write(self, work: Callable[[Session], T]) -> T:
        def write() -> T:
            with self._database.write() as session:
                return work(session)

        return await asyncio.to_thread(write)


def _turn_in(database: Database) -> FileLock:
    """A lock that one process of this machine can have for the database; the system frees it."""
    url = database.url
    if url.get_backend_name() == "sqlite":  # the same file by whatever path
        url = url.set(database=str(Path(str(url.database)).resolve()))
    name = hashlib.sha256(url.render_as_string().encode()).hexdigest()[:16]
    file = Path(tempfile.gettempdir(), f"twopane-measuring-{os.getuid()}-{name}.lock")
    return FileLock(file, blocking=False, thread_local=False)


def _close_interrupted(session: Session) -> None:
    for measurement in queries.running_measurements(session):
        _close(measurement, MeasurementState.FAILED, INTERRUPTED)


def _begin(session: Session, plan: Plan, machine: Machine) -> str:
    _close_interrupted(session)
    measurement = Measurement(
        machine={**vars(machine), "versions": dict(machine.versions)},
        plan={
            "models": [model.key for model in plan.models],
            "prompts": list(plan.prompts),
            "repeats": plan.repeats,
            "together": plan.together,
        },
    )
    session.add(measurement)
    session.flush()
    return measurement.id


def _storing(measurement_id: str, event: Resources | TimedAnswer) -> Callable[[Session], None]:
    """Return what stores `event`; of a model it replaces what was known of it before."""

    def store(session: Session) -> None:
        if isinstance(event, TimedAnswer):
            session.add(MeasuredAnswer(measurement_id=measurement_id, **asdict(event)))
            return
        row = queries.measured_model(session, measurement_id, event.model_key, event.together)
        if row is None:
            session.add(MeasuredModel(measurement_id=measurement_id, **asdict(event)))
            return
        for name, value in asdict(event).items():
            setattr(row, name, value)

    return store


def _end(session: Session, measurement_id: str, state: MeasurementState, reason: str) -> None:
    _close(session.get_one(Measurement, measurement_id), state, reason)


def _close(measurement: Measurement, state: MeasurementState, reason: str) -> None:
    measurement.state, measurement.error = state, reason
    measurement.finished_at = utc_now()


def _view_of(row: Measurement) -> MeasurementView:
    plan = row.plan
    return MeasurementView(
        id=row.id,
        state=row.state,
        started_at=row.started_at,
        finished_at=row.finished_at,
        error=row.error,
        machine=Machine(**row.machine),
        plan=PlanView(
            models=tuple(plan["models"]),
            prompts=tuple(plan["prompts"]),
            repeats=plan["repeats"],
            together=plan["together"],
        ),
        models=tuple(
            Resources(**{field.name: getattr(one, field.name) for field in fields(Resources)})
            for one in row.models
        ),
        answers=tuple(
            TimedAnswer(**{field.name: getattr(one, field.name) for field in fields(TimedAnswer)})
            for one in row.answers
        ),
    )
