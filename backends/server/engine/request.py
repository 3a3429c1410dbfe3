"""One request on its way: its prompt goes through the network, then its answer, token by token.

Says what has to be computed next and takes what was computed; computes and schedules nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

from backends.server.batch import KVCache, Span
from backends.server.engine.answer import AnswerWriter
from backends.server.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    TextPiece,
    Waiting,
)
from backends.server.model import ChatModel
from backends.server.sampling import Row, Sampler


class Generation:
    """One request's answer in the making; made by ``Engine.submit``.

    Attributes:
        cache: keys and values of what went through the network; None before it has a place, and
            after its end.
    """

    def __init__(
        self, model: ChatModel, request: GenerationRequest, on_event: Callable[[Event], None]
    ) -> None:
        self._request = request
        self._on_event = on_event
        self._stop_ids = model.stop_ids
        self._writer = AnswerWriter(model.tokenizer, request.stops)
        self._sampler = Sampler(request.sampling, model.vocabulary, request.prompt_ids)
        self._pending = request.prompt_ids
        self._cancelled = threading.Event()
        self._before: int | None = None
        self._end: Finished | Failed | None = None
        self.cache: KVCache | None = None

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The whole prompt."""
        return self._request.prompt_ids

    @property
    def remaining(self) -> int:
        """How many tokens must go through the network before the next one can be chosen."""
        return len(self._pending)

    @property
    def token_count(self) -> int:
        """Length of the answer so far."""
        return self._writer.token_count

    @property
    def done(self) -> bool:
        """Whether it has ended; that is said by ``say_end``."""
        return self._end is not None

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._cancelled.is_set()

    @property
    def over(self) -> bool:
        """Whether nothing need be computed for it any more."""
        return self.done or self.cancelled

    def cancel(self) -> None:
        """Ends it before the next step; may be called from any thread, and more than once."""
        self._cancelled.set()

    def wait(self, before: int) -> None:
        """Says how many requests are before it, if that has changed."""
        if before != self._before:
            self._before = before
            self._on_event(Waiting(before))

    def start(self, cache: KVCache) -> None:
        """Gives it a place, and a cache that may hold the prompt's beginning."""
        self.cache = cache
        self._pending = self.prompt_ids[cache.length :]

    def span(self, count: int) -> Span:
        """The first ``count`` of the remaining tokens."""
        return Span(self._pending[:count], self.cache)

    def skip(self, count: int) -> None:
        """Notes that so many went through the network and more remain."""
        self._pending = self._pending[count:]

    def advance(self, logits: Row) -> None:
        """Chooses the next token after all that remained and takes it.

        Raises:
            GenerationError: the logits are no numbers.
        """
        token = self._sampler.sample(logits)
        self._pending = (token,)  # the cache holds all before it, also where it is the last
        if token in self._stop_ids:
            self.finish("stop")
            return
        self._say(self._writer.add(token))
        if self._writer.stopped:
            self.finish("stop")
        elif self.token_count >= self._request.max_tokens:
            self.finish("length")

    def finish(self, reason: Literal["stop", "length", "cancelled"]) -> None:
        """Ends it and says the rest of the text."""
        if reason != "cancelled":
            self._say(self._writer.finish())
        if self._writer.stopped:
            reason = "stop"
        self._end = Finished(reason, len(self.prompt_ids), self.token_count)

    def fail(self, message: str) -> None:
        """Ends it without an answer."""
        self.cache = None
        self._end = Failed(message)

    def say_end(self) -> None:
        """Says why it ended, once its place is free: whoever hears it may ask again at once."""
        if self._end is not None:
            self._on_event(self._end)

    def _say(self, text: str) -> None:
        if text:
            self._on_event(TextPiece(text))
