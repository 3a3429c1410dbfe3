"""A network that runs as native code: the flat batch in, logits out.

Cuts batches into passes that its memory holds. How the tokens of a sequence are placed, and what
they see, is the family's rule. Schedules nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backends.server.batch import FlatBatch, KVCache, Span, finish
from backends.server.errors import SequenceError
from backends.server.kernels import Compute, Kernels, Threads
from backends.server.native.cache import NativeCache
from backends.server.native.decoder import Decoder
from backends.server.native.workspace import Stretch, Workspace

logger = logging.getLogger(__name__)

Logits = NDArray[np.float32]

# The most tokens in a pass of a network whose prompts may be cut: beyond, nothing gets faster.
_ROWS = 512
# Rows times steps of the program in a slice: a third of a second with 6 billion weights.
_SLICE = 8192
# Workspaces that are kept while nobody uses them: up to 330 MB each with 6 billion weights.
_SPARE = 2


class Rules(Protocol):
    """How a family places the tokens of a sequence."""

    @property
    def chunkable(self) -> bool:
        """Whether each token sees only those before it."""

    def positions(self, span: Span) -> NDArray[np.int64]:
        """By what each token of a span is rotated, (sections, n)."""

    def seen(self, span: Span) -> NDArray[np.int64]:
        """How many positions of the sequence each token sees, (n,); never fewer than before."""

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        """How many of a stored sequence's tokens serve a prompt."""


class NativeNetwork:
    """A decoder in native code.

    Args:
        decoder: its weights.
        rules: its family's.
        compute: with what it computes.
    """

    def __init__(self, decoder: Decoder, rules: Rules, compute: Compute) -> None:
        logger.info("Computing with %s, %d threads", compute.level.name, compute.threads)
        self.decoder = decoder
        self.compute = compute
        self._rules = rules
        # Compiling takes LLVM a third of a second, in which Python can do something else.
        pool = ThreadPoolExecutor(1, "compiling")
        self._compiling = pool.submit(Kernels, compute.level, decoder.shape.head, decoder.forms)
        pool.shutdown(wait=False)
        self._rows = _ROWS if rules.chunkable else decoder.shape.context
        self._free: list[Workspace] = []

    @property
    def vocab_size(self) -> int:
        """Number of logits a row."""
        return self.decoder.shape.vocab_size

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""
        return self.decoder.shape.context

    @property
    def chunkable(self) -> bool:
        """Whether a prompt may go through in pieces."""
        return self._rules.chunkable

    def new_cache(self) -> NativeCache:
        """An empty cache for one sequence."""
        return NativeCache(self.decoder.shape, len(self.decoder.layers))

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        """How many of a stored sequence's first tokens serve a prompt."""
        return self._rules.reusable(stored, prompt)

    def step(self, batch: FlatBatch) -> Logits:
        """Logits of the wanted rows, (rows, vocab); caches grow by their spans."""
        return finish(self._passes(batch, sliced=False))

    def slices(self, batch: FlatBatch) -> Generator[None, None, Logits]:
        """The same in slices of bounded work, between which other batches may be stepped."""
        return self._passes(batch, sliced=True)

    def _passes(self, batch: FlatBatch, *, sliced: bool) -> Generator[None, None, Logits]:
        results = []
        for parts in self._cut(batch):
            with self._workspace() as workspace:
                logits = workspace.fill(parts)
                steps = len(workspace.program)
                rows = sum(len(part.token_ids) for part in parts)
                size = max(1, _SLICE // rows) if sliced else steps
                for start in range(0, steps, size):
                    self._threads.run(workspace.program, start, start + size)
                    if start + size < steps:
                        yield
            for part in parts:
                part.cache.token_ids.extend(part.token_ids.tolist())
            results.append(logits[:, : self.vocab_size])
        return _ordered(batch, results[0] if len(results) == 1 else np.concatenate(results))

    @cached_property
    def _threads(self) -> Threads:
        return self._compiling.result().threads(self.compute.threads)

    @contextlib.contextmanager
    def _workspace(self) -> Iterator[Workspace]:
        """Memory that nobody uses at present."""
        workspace = (
            self._free.pop()
            if self._free
            else Workspace(self.decoder, self._compiling.result(), self._rows, self._threads.count)
        )
        try:
            yield workspace
        finally:
            if len(self._free) < _SPARE:
                self._free.append(workspace)

    def _cut(self, batch: FlatBatch) -> Iterator[list[Stretch]]:
        """Passes of at most so many rows as there is memory for."""
        wanted = None if batch.rows is None else sorted(set(batch.rows))
        pending: list[Stretch] = []
        free, first = self._rows, 0
        for span in batch.spans:
            cache = _cache_of(span) or self.new_cache()
            count = len(span.token_ids)
            if span.past + count > self.context:
                raise SequenceError(f"A sequence has at most {self.context} tokens.")
            positions, seen = self._placed(span)
            cache.reserve(span.past + count)
            start = 0
            while start < count:
                if free == 0 or (not self.chunkable and count > free):
                    yield pending
                    pending, free = [], self._rows
                end = min(count, start + free)
                rows = range(first + start, first + end)
                chosen = rows if wanted is None else [row for row in wanted if row in rows]
                pending.append(
                    Stretch(
                        np.array(span.token_ids[start:end]),
                        cache,
                        positions[:, start:end],
                        seen[start:end],
                        [row - first - start for row in chosen],
                    )
                )
                free -= end - start
                start = end
            first += count
        if pending:
            yield pending

    def _placed(self, span: Span) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        given = span.positions
        positions = self._rules.positions(span) if given is None else np.atleast_2d(given)
        return positions, self._rules.seen(span)


def _ordered(batch: FlatBatch, logits: Logits) -> Logits:
    """Rows in the order in which they are wanted; they come in that of the batch."""
    ascending = sorted(set(batch.rows or ()))
    if batch.rows is None or list(batch.rows) == ascending:
        return logits
    places = {row: place for place, row in enumerate(ascending)}
    return logits[[places[row] for row in batch.rows]]


def _cache_of(span: Span) -> NativeCache | None:
    cache: KVCache | None = span.cache
    assert cache is None or isinstance(cache, NativeCache)
    return cache
