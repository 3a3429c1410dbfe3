"""Requests that join and leave a running batch: one thread steps the model for all of them.

A step is one forward pass: the prompt of at most one request that joins, and one token for every
request that is already answering. Text leaves through each request's ``on_event``, called from the
stepping thread. Knows no HTTP and no model family.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from torch import Tensor

from backends.server.answer import AnswerWriter
from backends.server.batch import Span
from backends.server.errors import BusyError, GenerationError
from backends.server.generation import Event, Failed, Finished, GenerationRequest, TextPiece
from backends.server.model import ChatModel
from backends.server.sampling import Sampler

logger = logging.getLogger(__name__)


class Generation:
    """One request's answer in the making; made by ``Engine.submit``."""

    def __init__(
        self, model: ChatModel, request: GenerationRequest, on_event: Callable[[Event], None]
    ) -> None:
        self._request = request
        self._on_event = on_event
        self._stop_ids = model.stop_ids
        self._writer = AnswerWriter(model.tokenizer, request.stops)
        self._sampler = Sampler(request.sampling, model.vocabulary, request.prompt_ids)
        self._cache = model.network.new_cache()
        self._pending = request.prompt_ids
        self._cancelled = threading.Event()
        self.done = False

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._cancelled.is_set()

    @property
    def token_count(self) -> int:
        """Length of the answer so far."""
        return self._writer.token_count

    def cancel(self) -> None:
        """Ends it before the next step; may be called from any thread, and more than once."""
        self._cancelled.set()

    @property
    def span(self) -> Span:
        """What has to go through the network next."""
        return Span(self._pending, self._cache)

    def advance(self, logits: Tensor) -> None:
        """Chooses the next token after the span and takes it.

        Raises:
            GenerationError: the logits are no numbers.
        """
        token = self._sampler.sample(logits)
        if token in self._stop_ids:
            self.finish("stop")
            return
        self._pending = (token,)
        self._say(self._writer.add(token))
        if self._writer.stopped:
            self.finish("stop")
        elif self.token_count >= self._request.max_tokens:
            self.finish("length")

    def finish(self, reason: Literal["stop", "length", "cancelled"]) -> None:
        """Says the rest, and why it ended."""
        if reason != "cancelled":
            self._say(self._writer.finish())
        if self._writer.stopped:
            reason = "stop"
        self.done = True
        self._on_event(Finished(reason, len(self._request.prompt_ids), self.token_count))

    def fail(self, message: str) -> None:
        """Ends it without an answer."""
        self.done = True
        self._on_event(Failed(message))

    def _say(self, text: str) -> None:
        if text:
            self._on_event(TextPiece(text))


class Engine:
    """Answers many requests with one model.

    Args:
        model: what answers.
        places: how many requests are answered at a time.
        queue: how many more may wait for a place.
    """

    def __init__(self, model: ChatModel, *, places: int = 8, queue: int = 32) -> None:
        self._model = model
        self._places = places
        self._queue = queue
        self._running: list[Generation] = []
        self._waiting: deque[Generation] = deque()
        self._changed = threading.Condition()
        self._closed = False

    @property
    def model(self) -> ChatModel:
        """What answers."""
        return self._model

    @property
    def running(self) -> int:
        """How many requests are being answered."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return len(self._waiting)

    def submit(self, request: GenerationRequest, on_event: Callable[[Event], None]) -> Generation:
        """Asks for an answer; returns at once.

        Args:
            request: what is wanted; ``max_tokens`` is cut to what the context leaves.
            on_event: gets pieces of text, and at the end one ``Finished`` or ``Failed``. Called
                from the thread that steps the model, which it must not hold up.

        Raises:
            ContextError: the prompt is too long.
            BusyError: every place is taken and the queue is full.
        """
        room = self._model.room_after(len(request.prompt_ids))
        request = replace(request, max_tokens=min(request.max_tokens, room))
        generation = Generation(self._model, request, on_event)
        with self._changed:
            wanted = [one for one in (*self._running, *self._waiting) if not one.cancelled]
            if self._closed or len(wanted) >= self._places + self._queue:
                raise BusyError(max(0, len(wanted) - self._places))
            self._waiting.append(generation)
            self._changed.notify()
        return generation

    def run(self) -> None:
        """Steps the model in this thread until ``close``.

        Best the thread that loaded the model: torch decodes up to 1.7 times slower in another.
        """
        while self._gather():
            self._step()

    def close(self) -> None:
        """Makes ``run`` return after its step; unfinished answers end as cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _gather(self) -> bool:
        """Waits for work and chooses who takes part in the next step; False when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._running or self._waiting)
            everyone = [*self._running, *self._waiting]
            left = everyone if self._closed else [one for one in everyone if one.cancelled]
            self._running = [one for one in self._running if one not in left]
            self._waiting = deque(one for one in self._waiting if one not in left)
            # One prompt a step, so that nobody's stream waits for more than one of them.
            if self._waiting and len(self._running) < self._places:
                self._running.append(self._waiting.popleft())
        for generation in left:
            generation.finish("cancelled")
        return not self._closed

    def _step(self) -> None:
        running = self._running
        if not running:
            return
        try:
            logits = self._model.step([generation.span for generation in running])
            for generation, row in zip(running, logits, strict=True):
                _advance(generation, row)
        except Exception:
            # Whatever a forward pass fails of (memory, mostly), the next request may work.
            logger.exception("The model failed in a step of %d requests", len(running))
            for generation in running:
                if not generation.done:
                    generation.fail("The model failed while it answered.")
        with self._changed:
            self._running = [generation for generation in running if not generation.done]


def _advance(generation: Generation, logits: Tensor) -> None:
    try:
        generation.advance(logits)
    except GenerationError as error:
        generation.fail(str(error))
