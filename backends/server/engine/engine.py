"""Requests that join and leave a running batch: one thread steps the model for all of them.

A step computes one token for every request that is being answered, and a bounded part of the
prompts of those that join: in the same forward pass where the network takes prompts in chunks, else
in slices of work behind it. So nobody's stream waits long for another's prompt. Text leaves
through each request's ``on_event``, called from the stepping thread. Knows no HTTP and no model
family; ``schedule`` says whose prompt is next, ``prefix_cache`` what need not be computed again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from backends.memory import LEAST_CACHE_BYTES
from backends.server.batch import FlatBatch
from backends.server.engine.prefill import Prefills
from backends.server.engine.prefix_cache import PrefixCache, PrefixStats
from backends.server.engine.request import Generation
from backends.server.engine.schedule import share_out
from backends.server.errors import BusyError, GenerationError
from backends.server.generation import Event, GenerationRequest, Limits
from backends.server.model import ChatModel
from backends.server.sampling import Row

logger = logging.getLogger(__name__)

_LIMITS = Limits()
# The most tokens of prompts beside the steps of others. Qwen1.5-0.5B in int8 on 2 cores, 4 streams
# and a prompt of 1,024 tokens: a step with 64, 128, 256, 512 of them takes 3, 4.5, 9, 20 times as
# long as one without, and the whole prompt 1.4, 1, 1, 1.1 times as long as with 128.
_CHUNK = 128
# So many more where nobody's stream has to wait for it.
_ALONE = 2
_NO_MEMORY = "can't allocate memory"  # torch says so in a RuntimeError


class Engine:
    """Answers many requests with one model.

    Args:
        model: what answers.
        places: how many requests are answered at a time.
        queue: how many more may wait for a place.
        cache_bytes: see ``Limits``.
        chunk: the most tokens of prompts in one step while others are being answered.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        places: int = _LIMITS.places,
        queue: int = _LIMITS.queue,
        cache_bytes: int = LEAST_CACHE_BYTES,
        chunk: int = _CHUNK,
    ) -> None:
        self._model = model
        self._places = places
        self._queue = queue
        self._chunk = chunk
        self._prefixes = PrefixCache(model.network, cache_bytes)
        self._prefills = Prefills(model.network, chunk)
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

    @property
    def prefix_stats(self) -> PrefixStats:
        """What the reuse of prefixes has spared."""
        return self._prefixes.stats

    def submit(self, request: GenerationRequest, on_event: Callable[[Event], None]) -> Generation:
        """Asks for an answer; returns at once. Any thread may call it.

        Args:
            request: what is wanted; ``max_tokens`` is cut to what the context leaves.
            on_event: gets ``Waiting`` while there is no place, then pieces of text, and at the end
                one ``Finished`` or ``Failed``. Called from the thread that steps the model, which
                it must not hold up.

        Raises:
            SequenceError: the prompt has ids that the network doesn't know.
            ContextError: the prompt is too long.
            BusyError: every place is taken and the queue is full.
        """
        self._model.check(request.prompt_ids)
        room = self._model.room_after(len(request.prompt_ids))
        request = replace(request, max_tokens=min(request.max_tokens, room))
        generation = Generation(self._model, request, on_event)
        with self._changed:
            wanted = sum(1 for one in (*self._running, *self._waiting) if not one.cancelled)
            if self._closed or wanted >= self._places + self._queue:
                running = min(wanted, self._places)
                raise BusyError(running, wanted - running)
            self._waiting.append(generation)
            self._changed.notify()
        return generation

    def run(self) -> None:
        """Steps the model in this thread until ``close``.

        Best the thread that loaded the model: torch decodes up to 1.7 times slower in another.
        """
        while self._gather():
            began_s = time.perf_counter()
            self._step_together()
            if not self._model.network.chunkable:
                # As long as the step took, so that streams keep at least half of their speed.
                self._compute_slices(time.perf_counter() - began_s)
            self._let_go_done()
        self._prefills.close()

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
            leaving = everyone if self._closed else [one for one in everyone if one.cancelled]
            staying = [one for one in self._running if one not in leaving]
            waiting = [one for one in self._waiting if one not in leaving]
            free = self._places - len(staying)
            joining, waiting = waiting[:free], waiting[free:]
            self._running, self._waiting = staying + joining, deque(waiting)
        for generation in leaving:
            generation.finish("cancelled")
            self._let_go(generation)
        for generation in joining:
            self._start(generation)
        for before, generation in enumerate(waiting, self._places):
            generation.wait(before)
        return not self._closed

    def _start(self, generation: Generation) -> None:
        others = [one.cache for one in self._running if one.cache is not None and self._whole(one)]
        with self._failing([generation]):
            generation.start(self._prefixes.cache_for(generation.prompt_ids, others))

    def _step_together(self) -> None:
        """One token for each who is being answered, and chunks of prompts where that is possible.

        One token of a prompt, all the rest being known, is as good as one of an answer.
        """
        running = [one for one in self._running if not one.done]
        answering = [one for one in running if one.remaining == 1]
        joining = [one for one in running if one.remaining > 1 and self._model.network.chunkable]
        budget = self._chunk if answering else _ALONE * self._chunk
        counts = share_out([one.remaining for one in joining], budget)
        parts = [(one, 1) for one in answering]
        parts += [(one, count) for one, count in zip(joining, counts, strict=True) if count]
        if not parts:
            return
        with self._failing([one for one, _ in parts]):
            rows = iter(self._model.network.step(_batch(parts)))
            for generation, count in parts:
                if count < generation.remaining:
                    generation.skip(count)
                else:
                    self._advance(generation, next(rows))

    def _compute_slices(self, most_s: float) -> None:
        """Parts of the work for prompts that can't be taken in chunks; one slice at least."""
        began_s = time.perf_counter()
        while prefill := self._prefills.next(
            [one for one in self._running if one.remaining > 1 and not one.over]
        ):
            with self._failing(prefill.generations):
                logits = prefill.advance()
                if logits is not None:
                    for generation, row in zip(prefill.generations, logits, strict=True):
                        self._advance(generation, row)
            if time.perf_counter() - began_s >= most_s:
                return

    def _advance(self, generation: Generation, logits: Row) -> None:
        if not generation.over:
            with self._failing([generation]):
                generation.advance(logits)

    @contextlib.contextmanager
    def _failing(self, generations: Sequence[Generation]) -> Iterator[None]:
        """Lets these fail of what is raised inside, and nobody else."""
        try:
            yield
        except GenerationError as error:
            _fail(generations, str(error))
        except BaseException as error:  # Rust's panics, in tokenizers, are no Exception
            # Whatever a forward pass fails of (memory, mostly), the next request may work.
            logger.exception("The model failed in a step of %d requests", len(generations))
            if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
                self._prefixes.clear()
            _fail(generations, "The model failed while it answered.")

    def _let_go_done(self) -> None:
        done = [one for one in self._running if one.done]
        with self._changed:
            self._running = [one for one in self._running if not one.done]
        for generation in done:
            self._let_go(generation)

    def _let_go(self, generation: Generation) -> None:
        """Keeps what was computed for it; it has ended and given its place away."""
        if generation.cache is not None and self._whole(generation):
            with self._failing(()):  # there may be no memory for it, and its answer is whole
                self._prefixes.keep(generation.cache)
        # Whoever listens may hold the generation, and it holds them: such a circle goes only with
        # Python's next look for some, and a cache of 512 tokens of ChatGLM-6B has 240 MB.
        generation.cache = None
        generation.say_end()

    def _whole(self, generation: Generation) -> bool:
        """Whether its cache holds what it says: not in the middle of a sliced prompt."""
        return self._model.network.chunkable or generation.remaining == 1


def _batch(parts: Sequence[tuple[Generation, int]]) -> FlatBatch:
    """So many tokens of each; of those that end what remains, the logits are wanted."""
    ends = list(accumulate(count for _, count in parts))
    rows = [e - 1 for e, (one, count) in zip(ends, parts, strict=True) if count == one.remaining]
    return FlatBatch(tuple(one.span(count) for one, count in parts), tuple(rows))


def _fail(generations: Sequence[Generation], message: str) -> None:
    for generation in generations:
        if not generation.done:
            generation.fail(message)
