"""The one measurement that may run in the app: begins it, says how far it is, ends it.

Whoever begins it may go away: it goes on by itself. As long as it runs no trial is asked, and the
models of the panel are stopped, since they would hold memory and CPU; they start again afterwards,
however it ends. What is measured and how it is stored is `backends.measure`'s and `measurements`'s;
who may begin one, `ui`'s to decide.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from backends.lineup import Lineup
from backends.machine import this_machine
from backends.measure import planned_steps
from backends.measurement import Event, Plan, Step
from rating.errors import PairInUse, WrongState
from rating.measuring.measurements import Measurements, NotNow
from rating.measuring.time_left import TimeLeft
from rating.session import IN_USE_MIN, Panel, measuring

logger = logging.getLogger(__name__)

Measure = Callable[[Plan], AsyncGenerator[Event, None]]
"""Runs a plan; closing what it returns ends every server that it has started."""


@dataclass(frozen=True)
class Progress:
    """How far the measurement is.

    Attributes:
        measurement_id: "" until it is stored.
        step: What is done now; None while the panel's own models are being stopped.
        left_s: How long it takes yet if the steps to come are like those so far; None before
            anything was answered.
        stopping: Whether somebody has asked it to end.
    """

    plan: Plan
    measurement_id: str = ""
    step: Step | None = None
    left_s: float | None = None
    stopping: bool = False


class Measuring:
    """The app's measurement. All calls belong to one event loop."""

    def __init__(
        self, panel: Panel, lineup: Lineup, measurements: Measurements, measure: Measure
    ) -> None:
        """`panel` and `lineup` are the app's: the former waits, the latter is stopped."""
        self._panel = panel
        self._lineup = lineup
        self.measurements = measurements
        self._measure = measure
        self._progress: Progress | None = None
        self._trouble = ""
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._work: asyncio.Task[None] | None = None  # what Stop cancels

    @property
    def progress(self) -> Progress | None:
        """How far it is; None while nothing is measured."""
        return self._progress

    @property
    def trouble(self) -> str:
        """Why the last one has ended or couldn't begin: the name of a text; "" for no reason."""
        return self._trouble

    async def start(self, plan: Plan, *, force: bool = False) -> None:
        """Begin to measure and return at once; `force` does so even while raters are served.

        Raises:
            PairInUse: Somebody is at a trial, in any copy of the app on this database.
            WrongState: A measurement is running, or the models are being exchanged.
        """
        await self._panel.pause(self._refusal, force=force)
        try:
            if not force and (count := await self.measurements.unrated()):
                raise PairInUse(count, IN_USE_MIN)
        except BaseException:
            self._panel.resume()
            raise
        self._progress, self._trouble = Progress(plan), ""
        self._task = asyncio.create_task(self._run(plan), name="measurement")

    def stop(self) -> None:
        """Have it end; what was measured stays. Does nothing when none is running."""
        if self._progress is None or self._progress.stopping:
            return
        self._progress = replace(self._progress, stopping=True)
        if self._work is not None:
            self._work.cancel()

    async def close(self) -> None:
        """End it for good, and return when nothing of it is left; the models stay stopped."""
        self._closing = True
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _refusal(self) -> WrongState:
        left_s = self._progress.left_s if self._progress else None
        if left_s is None:
            return measuring()
        minutes = math.ceil(left_s / 60)
        words = f"{measuring(f': in about {minutes} min')}"
        return WrongState("measuring_left", words, minutes=minutes)

    async def _run(self, plan: Plan) -> None:
        """Make room, measure, and bring everything back to where it was.

        Only the measuring itself is ever cancelled: a model that is half stopped stays so.
        """
        try:
            await self._lineup.stop()
            if self._progress is not None and not self._progress.stopping:
                self._work = asyncio.create_task(self._follow(plan))
                await asyncio.wait([self._work])
                self._note_end(self._work)
        finally:
            self._work = None
            try:
                if not self._closing:
                    await self._lineup.start()
            finally:
                self._progress = None
                self._panel.resume()

    async def _follow(self, plan: Plan) -> None:
        machine = await asyncio.to_thread(this_machine)
        left = TimeLeft(planned_steps(plan))
        async with aclosing(self.measurements.run(plan, self._measure(plan), machine)) as found:
            async for one in found:
                assert self._progress is not None  # as long as this runs
                if isinstance(one, Step):
                    left.begins(one, time.monotonic())
                    self._progress = replace(self._progress, step=one, left_s=left.seconds())
                else:
                    self._progress = replace(self._progress, measurement_id=one)

    def _note_end(self, work: asyncio.Task[None]) -> None:
        error = None if work.cancelled() else work.exception()
        if isinstance(error, NotNow):
            self._trouble = "measured_elsewhere"
        elif error is not None:
            self._trouble = "measure_broken"
            logger.error("the measurement failed", exc_info=error)
