"""One turn being answered: asks the sides at once, paces and masks what is shown, notes the truth.

A `TurnRun` lives from the question to the last outcome. It knows neither the database nor the page:
`session` starts it, shows `answers()` as often as it likes, and records the outcomes. Where an
answer comes from is its `Source`'s: the model itself, or what was recorded of it before.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from backends.catalog import Model, Sampling
from backends.client import (
    BackendError,
    Endpoint,
    Finish,
    Message,
    ModelBusy,
    ModelUnavailable,
    Piece,
    PromptTooLong,
    stream_answer,
)
from backends.recorded import NotRecorded
from db import FinishReason, Side
from rating.blinding import NameMask, Pace, Progress, SharedPace
from rating.trial import AnswerStatus, AnswerView, Timing

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 0.1
"""Two panes cost a browser 14 % of a core at 10 updates a second, 42 % at 50."""

READY_TIMEOUT_S = 60.0


class ChatModel(Protocol):
    """A chat model wherever it runs, as `backends.supervisor` gives it."""

    @property
    def model(self) -> Model:
        """What is running."""

    @property
    def precision(self) -> str:
        """How its weights are kept while it runs, such as float32; "" where nobody says."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it answers. Raises ModelUnavailable while it doesn't."""

    async def wait_ready(self, timeout: float) -> None:
        """Return when it answers. Raises ModelUnavailable if it doesn't in time."""


@dataclass(frozen=True)
class Question:
    """What one side is asked.

    Attributes:
        source: Where its answer comes from, if not from where the run's answers do.
    """

    side: Side
    answer_id: int
    chat_model: ChatModel
    messages: Sequence[Message]
    sampling: Sampling
    source: "Source | None" = None


@dataclass(frozen=True)
class Replay:
    """Said before the first piece of an answer that was given before: how it ended then."""

    finish: Finish
    seed: int


@dataclass(frozen=True)
class Recordable:
    """Said after an answer's end: it may be kept under `key`, to be given again."""

    key: str
    seed: int


Event = Replay | Piece | Finish | Recordable
Source = Callable[[Question], AsyncGenerator[Event, None]]
"""Gives an answer: its pieces, then one `Finish`; before and after them what else it knows.

Raises BackendError as `stream_answer` does.
"""


async def ask_model(question: Question) -> AsyncGenerator[Event, None]:
    """Have the model itself answer, as soon as it is ready."""
    await question.chat_model.wait_ready(READY_TIMEOUT_S)
    stream = stream_answer(question.chat_model.endpoint, question.messages, question.sampling)
    async with aclosing(stream):
        async for event in stream:
            yield event


@dataclass(frozen=True)
class Outcome:
    """How one side's answer ended: `text` as shown, `raw_text` as the model wrote it.

    Attributes:
        pieces: In which it came.
        replay: Where it was given before: how it ended then.
        recordable: Where it may be kept.
    """

    side: Side
    answer_id: int
    text: str
    raw_text: str
    reason: FinishReason
    error: str | None
    timing: Timing
    masked: bool
    pieces: tuple[Piece, ...] = ()
    replay: Replay | None = None
    recordable: Recordable | None = None


class _LiveSide:
    """One side while it is being answered."""

    def __init__(self, question: Question, mask: NameMask | None) -> None:
        self.question = question
        self.raw = ""
        self.ready = ""
        self.pieces: list[Piece] = []
        self.replay: Replay | None = None
        self.recordable: Recordable | None = None
        self.finish: Finish | None = None
        self.reason: FinishReason | None = None
        self.error: str | None = None
        self.ended_s: float | None = None
        self.mask = mask

    @property
    def progress(self) -> Progress:
        return Progress(len(self.ready), ended=self.reason is not None)

    def take(self, event: Event) -> None:
        match event:
            case Piece():
                self._add(event)
            case Finish():
                self.finish = event
            case Replay():
                self.replay = event
            case Recordable():
                self.recordable = event

    def _add(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.raw += piece.text
        self.ready += self.mask.feed(piece.text) if self.mask else piece.text

    def complete(self, reason: FinishReason, elapsed_s: float) -> None:
        self.reason, self.ended_s = reason, elapsed_s
        if self.mask:
            self.ready += self.mask.close()

    def break_off(
        self, reason: FinishReason, elapsed_s: float, shown: int, error: str | None = None
    ) -> None:
        """End without an answer. What a blind rater hasn't seen yet stays unseen: how much it is
        would tell the side's speed."""
        self.reason, self.ended_s, self.error = reason, elapsed_s, error
        if self.mask:
            self.ready = self.ready[:shown]

    def timing(self) -> Timing:
        """What the endpoint said at the end; of an answer without an end only the times.

        Those of a replay would be no model's.
        """
        if self.finish is not None:
            return _timing_of(self.finish)
        if self.replay is not None:
            return Timing(None, None, None, None)
        return Timing(self._first_piece_s, self.ended_s, None, None)

    def live_timing(self, elapsed_s: float) -> Timing:
        """The same while it comes, when a piece is the nearest thing to a token."""
        if self.reason is not None:
            return self.timing()
        if self.replay is not None:
            return _timing_of(self.replay.finish)
        return Timing(self._first_piece_s, elapsed_s, None, len(self.pieces))

    @property
    def _first_piece_s(self) -> float | None:
        return self.pieces[0].elapsed_s if self.pieces else None


def _timing_of(finish: Finish) -> Timing:
    return Timing(
        finish.first_token_s, finish.total_s, finish.prompt_tokens, finish.completion_tokens
    )


class TurnRun:
    """Asks one or both sides a question and knows what may be shown of the answers."""

    def __init__(
        self,
        questions: Sequence[Question],
        *,
        hidden_names: Sequence[str] | None,
        reference: Pace | None,
        source: Source = ask_model,
        at_once: bool = False,
    ) -> None:
        """Make ready to ask.

        Args:
            questions: One for each side that is to be asked.
            hidden_names: Masked in the answers of both sides; None in an open trial, where
                nothing is masked or paced.
            reference: The slower model's usual pace, if it is known; only for blind trials.
            source: Gives the answers.
            at_once: Whether both are shown as soon as both are there, without any pace.
        """
        self._source = source
        self._at_once = at_once
        self._blind = hidden_names is not None
        self._sides = {
            q.side: _LiveSide(q, None if hidden_names is None else NameMask(hidden_names))
            for q in questions
        }
        self._pace = SharedPace(reference)
        self._shown = 0
        self._begun = time.perf_counter()
        self._tasks: list[asyncio.Task[None]] = []
        self.too_long = False

    async def run(self) -> Sequence[Outcome]:
        """Ask, and return when everything has been shown, stopped or failed."""
        waiting = [live for live in self._sides.values() if live.reason is None]
        async with asyncio.TaskGroup() as group:
            self._tasks = [group.create_task(self._answer(live)) for live in waiting]
            group.create_task(self._show())
        return [self._outcome(live) for live in self._sides.values()]

    def stop(self) -> None:
        """End every side that is not wholly on the screen; `run` returns soon after."""
        for live in self._sides.values():
            if live.reason is None or (self._blind and len(live.ready) > self._shown):
                live.break_off(FinishReason.STOPPED, self._elapsed_s, self._shown)
        for task in self._tasks:
            task.cancel()

    def answers(self) -> Mapping[Side, AnswerView]:
        """Return what may be shown now of the sides that are being asked.

        Of a turn that is too long nothing is: which side's context it doesn't fit would tell.
        """
        return {side: self._view(live) for side, live in self._sides.items()}

    async def _answer(self, live: _LiveSide) -> None:
        try:
            async with aclosing((live.question.source or self._source)(live.question)) as stream:
                async for event in stream:
                    live.take(event)
            self._end_well(live)
        except PromptTooLong:
            self.too_long = True
            self._fail(live, "too_long")
            self.stop()
        except BackendError as error:
            logger.warning("the %s side failed: %s", live.question.side, error)
            self._fail(live, _error_code(error))
        except Exception:
            # A side must never end silently: the trial would wait for it for ever.
            logger.exception("the %s side failed", live.question.side)
            self._fail(live, "bad_answer")

    def _end_well(self, live: _LiveSide) -> None:
        assert live.finish is not None
        if live.raw.strip():
            live.complete(FinishReason(live.finish.reason), self._elapsed_s)
        else:
            self._fail(live, "empty")

    def _fail(self, live: _LiveSide, code: str) -> None:
        if live.reason is None:  # a stopped side may still break off badly
            live.break_off(FinishReason.FAILED, self._elapsed_s, self._shown, code)

    async def _show(self) -> None:
        """Move the shared cursor until everything is on the screen."""
        while not all(s.reason and len(s.ready) <= self._shown for s in self._sides.values()):
            await asyncio.sleep(FLUSH_INTERVAL_S)
            progress = [live.progress for live in self._sides.values()]
            self._shown = self._may_be_shown(progress)

    def _may_be_shown(self, progress: Sequence[Progress]) -> int:
        if self._at_once and not all(side.ended for side in progress):
            return self._shown
        if self._blind and not self._at_once:
            return self._pace.advance(progress, self._elapsed_s)
        return max(side.ready for side in progress)

    @property
    def _elapsed_s(self) -> float:
        return time.perf_counter() - self._begun

    def _view(self, live: _LiveSide) -> AnswerView:
        if self.too_long:
            return AnswerView("", AnswerStatus.STREAMING)
        if live.reason in (FinishReason.FAILED, FinishReason.STOPPED):
            status = AnswerStatus(live.reason)
        elif live.reason and not self._blind:
            status = AnswerStatus.COMPLETE
        else:
            status = AnswerStatus.STREAMING  # also for a side that is done: the other may not be
        return AnswerView(
            text=live.ready[: self._shown] if self._blind else live.raw,
            status=status,
            error=live.error,
            timing=None if self._blind else live.live_timing(self._elapsed_s),
            cached=live.replay is not None and not self._blind,
        )

    def _outcome(self, live: _LiveSide) -> Outcome:
        assert live.reason is not None
        return Outcome(
            side=live.question.side,
            answer_id=live.question.answer_id,
            text=live.ready,
            raw_text=live.raw,
            reason=live.reason,
            error=live.error,
            timing=live.timing(),
            masked=bool(live.mask and live.mask.found),
            pieces=tuple(live.pieces),
            replay=live.replay,
            recordable=live.recordable,
        )


def _error_code(error: BackendError) -> str:
    if isinstance(error, NotRecorded):
        return "not_recorded"
    if isinstance(error, ModelBusy):
        return "busy"
    return "unavailable" if isinstance(error, ModelUnavailable) else "bad_answer"
