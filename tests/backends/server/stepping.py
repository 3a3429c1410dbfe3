"""Engines that run in a thread of the test, and a network that is watched and fails on command."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from tokenizers import decoders

from backends.server import ChatModel
from backends.server.batch import FlatBatch, KVCache, Logits
from backends.server.engine import Engine
from backends.server.generation import (
    Event,
    Finished,
    GenerationRequest,
    SamplingSettings,
    TextPiece,
    Waiting,
)


@contextlib.contextmanager
def running(engine: Engine) -> Iterator[Engine]:
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        yield engine
    finally:
        engine.close()
        thread.join(10)
        assert not thread.is_alive()


class WatchedNetwork:
    """The model's real network; writes down what it computes, and fails on command.

    Attributes:
        batches: the lengths of the spans of each batch that was stepped or begun in slices.
        steps: how many were stepped.
        slice_steps: for each slice that was computed, how many steps came before.
        closed: how often a computation in slices was given up half way.
        trouble: what happens to logits, as it does with no real network.
        trouble_in_slices: the same for those that are computed in slices.
        before: called before every step and slice, in the stepping thread.
        step_pause_s: how much longer a step takes.
        slice_pause_s: how much longer a slice takes.
    """

    def __init__(self, model: ChatModel) -> None:
        self._network = model.network
        self.batches: list[list[int]] = []
        self.steps = 0
        self.slice_steps: list[int] = []
        self.closed = 0
        self.trouble: Callable[[Logits], Logits] | None = None
        self.trouble_in_slices: Callable[[Logits], Logits] | None = None
        self.step_pause_s = 0.0
        self.slice_pause_s = 0.0
        self.before: Callable[[], None] = lambda: None

    @property
    def vocab_size(self) -> int:
        return self._network.vocab_size

    @property
    def context(self) -> int:
        return self._network.context

    @property
    def chunkable(self) -> bool:
        return self._network.chunkable

    @property
    def tokens(self) -> int:
        """How many tokens went through so far."""
        return sum(map(sum, self.batches))

    def new_cache(self) -> KVCache:
        return self._network.new_cache()

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        return self._network.reusable(stored, prompt)

    def step(self, batch: FlatBatch) -> Logits:
        self.before()
        time.sleep(self.step_pause_s)
        self.batches.append(batch.lengths)
        self.steps += 1
        logits = self._network.step(batch)
        return self.trouble(logits) if self.trouble else logits

    def slices(self, batch: FlatBatch) -> Generator[None, None, Logits]:
        self.batches.append(batch.lengths)
        slices = self._network.slices(batch)
        try:
            while True:
                self.before()
                time.sleep(self.slice_pause_s)
                self.slice_steps.append(self.steps)
                next(slices)
                yield
        except StopIteration as end:
            logits: Logits = end.value
            return self.trouble_in_slices(logits) if self.trouble_in_slices else logits
        except GeneratorExit:
            self.closed += 1
            slices.close()
            # As by a network that notes the tokens first: nothing here is usable.
            for span in batch.spans:
                if span.cache is not None:
                    span.cache.token_ids.extend(span.token_ids)
            raise


def out_of_memory(_logits: Logits) -> Logits:
    raise MemoryError


def panic(_logits: Logits) -> Logits:
    """As Rust's libraries do: with what is no Exception."""
    decoders.Strip(content="a", left=1, right=1).decode(["a"])
    raise AssertionError("It should have panicked.")


def no_numbers(logits: Logits) -> Logits:
    return np.full_like(logits, np.nan)


@dataclass
class Listener:
    """Collects the events of one request."""

    events: list[Event] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if not isinstance(event, TextPiece | Waiting):
            self.ended.set()

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextPiece))

    def finish(self) -> Finished:
        assert self.ended.wait(30)
        end = self.events[-1]
        assert isinstance(end, Finished)
        return end


def request_for(
    model: ChatModel, question: str, seed: int = 1, max_tokens: int = 24, temperature: float = 1.5
) -> GenerationRequest:
    prompt = model.tokenizer.encode_chat([{"role": "user", "content": question}])
    sampling = SamplingSettings(temperature=temperature, seed=seed)
    return GenerationRequest(tuple(prompt), max_tokens, sampling)


def ask(engine: Engine, request: GenerationRequest) -> Listener:
    listener = Listener()
    engine.submit(request, listener)
    return listener
