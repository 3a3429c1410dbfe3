"""Answers that are being written: one run a trial, watched, stopped when left, then recorded.

What a run shows is `run`'s; what is recorded, and whether another turn follows at once, decides
who has given `record`. Knows neither the database nor raters.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from rating.run import FLUSH_INTERVAL_S, Outcome, Question, TurnRun
from rating.trial import TrialView

logger = logging.getLogger(__name__)

ABANDON_AFTER_S = 60.0
"""How long answers go on when nobody watches: long enough for a reload or a lost connection."""

_HEARTBEAT_S = 0.5

Opened = tuple[TrialView, list[Question]]
"""A trial with the turn that was opened in it, and what to ask for that."""


@dataclass
class _Writing:
    """What is being written in a trial; `turn` counts from 1. A script goes on in the same one.

    `stopped` also ends what follows: between two turns there is nothing else to stop.
    """

    run: TurnRun
    turn: int
    stopped: bool = False


class Answering:
    """What is being answered at the moment, by trial."""

    def __init__(
        self,
        make_run: Callable[[TrialView, list[Question]], Awaitable[TurnRun]],
        record: Callable[[str, TurnRun, Sequence[Outcome]], Awaitable[Opened | None]],
        keep: Callable[[Sequence[Outcome]], Awaitable[None]],
        stopping: Callable[[], bool],
    ) -> None:
        """Make ready.

        Args:
            make_run: Prepares to ask what was opened.
            record: Writes down how the answers to a trial's turn ended; returns the next turn where
                one follows at once.
            keep: Takes all that was answered once the rater has been told.
            stopping: Whether what would follow at once has to wait until it is asked for again.
        """
        self._make_run = make_run
        self._record = record
        self._keep = keep
        self._stopping = stopping
        self._claimed: set[str] = set()  # from before a turn is opened to after it is recorded
        self._writing: dict[str, _Writing] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: dict[str, int] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    @property
    def trials(self) -> frozenset[str]:
        """The trials that are being answered."""
        return frozenset(self._claimed)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._claimed

    async def start(self, trial_id: str, opening: Callable[[], Awaitable[Opened]]) -> TrialView:
        """Open a turn, then have it answered by a task of its own; the trial isn't in here yet."""
        self._claimed.add(trial_id)
        try:
            view, questions = await opening()
            writing = await self._prepare(view, questions)
        except BaseException:
            self._claimed.discard(trial_id)
            raise
        self._writing[trial_id] = writing
        task = asyncio.create_task(self._drive(trial_id, writing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._stop_if_left(trial_id)
        return self.as_shown(view)

    async def _prepare(self, view: TrialView, questions: list[Question]) -> _Writing:
        return _Writing(await self._make_run(view, questions), len(view.turns))

    def stop(self, trial_id: str) -> None:
        """End the answers of the trial; does nothing when there are none."""
        if writing := self._writing.get(trial_id):
            writing.stopped = True
            writing.run.stop()

    async def close(self) -> None:
        """Stop everything, and return when it is recorded."""
        for trial_id in list(self._writing):
            self.stop(trial_id)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _drive(self, trial_id: str, writing: _Writing) -> None:
        """See one trial through: the answers, then the record, then the panel unlocks."""
        answered: list[Outcome] = []
        try:
            while True:
                outcomes = await writing.run.run()
                answered += outcomes
                opened = await self._record(trial_id, writing.run, outcomes)
                if opened is None:
                    break
                following = await self._prepare(*opened)
                writing.run, writing.turn = following.run, following.turn
                if writing.stopped or self._stopping():
                    writing.run.stop()
        except Exception:
            # Whatever it was: the next look at the trial finds the answers interrupted.
            logger.exception("what was answered in trial %s could not be recorded", trial_id)
        finally:
            del self._writing[trial_id]
            self._claimed.discard(trial_id)
            self._stay(trial_id)
        await self._keep(answered)

    async def watch(
        self, trial_id: str, load: Callable[[], Awaitable[TrialView]]
    ) -> AsyncGenerator[TrialView, None]:
        """Yield the trial as it may be shown, and go on while it is being answered.

        `load` gives it as it stands; the last view is of the trial at rest.
        """
        view = await load()
        if (writing := self._writing.get(trial_id)) is not None:
            async with aclosing(self._frames(view, writing, load)) as frames:
                async for shown in frames:
                    yield shown
            view = await load()
        yield self.as_shown(view)

    async def _frames(
        self, view: TrialView, writing: _Writing, load: Callable[[], Awaitable[TrialView]]
    ) -> AsyncGenerator[TrialView, None]:
        """Yield `view` with what may be shown of its answers, until they are recorded."""
        self._watchers[view.id] = self._watchers.get(view.id, 0) + 1
        self._stay(view.id)
        try:
            shown, quiet_s = None, 0.0
            while self._writing.get(view.id) is writing:
                if len(view.turns) < writing.turn:  # the next one of a script has begun
                    view = await load()
                now = self.as_shown(view)
                if now != shown or quiet_s >= _HEARTBEAT_S:  # a closed tab is noticed at a yield
                    yield now
                    shown, quiet_s = now, 0.0
                await asyncio.sleep(FLUSH_INTERVAL_S)
                quiet_s += FLUSH_INTERVAL_S
        finally:
            self._leave(view.id)

    def _leave(self, trial_id: str) -> None:
        self._watchers[trial_id] -= 1
        if not self._watchers[trial_id]:
            del self._watchers[trial_id]
            self._stop_if_left(trial_id)

    def _stop_if_left(self, trial_id: str) -> None:
        """End the answers unless somebody comes to watch them in a while."""
        self._stay(trial_id)
        if trial_id in self._writing:
            loop = asyncio.get_running_loop()
            self._leaving[trial_id] = loop.call_later(ABANDON_AFTER_S, self.stop, trial_id)

    def _stay(self, trial_id: str) -> None:
        if timer := self._leaving.pop(trial_id, None):
            timer.cancel()

    def as_shown(self, view: TrialView) -> TrialView:
        """Return `view` with what is on the screen of answers that are still being written.

        A view may be older than the run, or newer than its record: then it stands as it is.
        """
        writing = self._writing.get(view.id)
        if writing is None or not view.streaming or writing.turn != len(view.turns):
            return view
        return view.with_last_answers(writing.run.answers())
