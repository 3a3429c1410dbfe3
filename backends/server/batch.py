"""The flat batch: tokens of several sequences in one row, each sequence with its own cache.

A forward pass takes a ``FlatBatch``: spans of token ids one after the other, without padding. A
span continues the sequence in its ``KVCache``, or stands alone without one (training, checking).
So a long prompt, a chunk of one, and single decode steps go through the network together.

Knows nothing of any model family: what a cache stores, and which positions and masks follow from
the token ids, is the family's business. Chooses no tokens and schedules nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Result = TypeVar("Result")
Logits = NDArray[np.float32]
"""Shape (rows, vocab)."""


class KVCache(ABC):
    """Keys and values of one sequence so far; families add the arrays.

    ``token_ids`` are the ids whose keys and values are stored: a family derives positions from
    them, and a later request may compare its prompt with them.
    """

    def __init__(self) -> None:
        self.token_ids: list[int] = []

    @property
    def length(self) -> int:
        """Number of tokens stored."""
        return len(self.token_ids)

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Memory that it takes, whether all of it is in use or not."""

    def truncate(self, length: int) -> None:
        """Forgets what follows the first ``length`` tokens; what they took may stay allocated."""
        del self.token_ids[length:]

    @abstractmethod
    def prefix(self, length: int) -> Self:
        """A cache of its own with a copy of the first ``length`` tokens."""


@dataclass(frozen=True)
class Span:
    """Neighbouring tokens of one sequence.

    Attributes:
        token_ids: the new ids, at least one.
        cache: what came before them and where their keys and values go; None: the sequence
            begins here and is not continued.
        positions: position ids that replace the family's own rule, in the family's shape.
    """

    token_ids: tuple[int, ...]
    cache: KVCache | None = None
    positions: NDArray[Any] | None = None

    @property
    def past(self) -> int:
        """How many tokens of the sequence came before this span."""
        return self.cache.length if self.cache else 0

    @property
    def sequence(self) -> list[int]:
        """All ids of the sequence, up to the end of this span."""
        return [*(self.cache.token_ids if self.cache else ()), *self.token_ids]


@dataclass(frozen=True)
class FlatBatch:
    """Spans of several sequences in one row of T tokens.

    Attributes:
        spans: in their order in the row; no two share a cache.
        rows: the positions in the row whose logits are wanted; None: all T.
    """

    spans: tuple[Span, ...]
    rows: tuple[int, ...] | None = None

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]], rows: Sequence[int] | None = None) -> FlatBatch:
        """Whole sequences without caches, as for training."""
        spans = tuple(Span(tuple(sequence)) for sequence in sequences)
        return cls(spans, None if rows is None else tuple(rows))

    @classmethod
    def step(cls, spans: Sequence[Span]) -> FlatBatch:
        """Spans of which only the last token's logits are wanted: one row of logits a span."""
        ends = accumulate(len(span.token_ids) for span in spans)
        return cls(tuple(spans), tuple(end - 1 for end in ends))

    @property
    def lengths(self) -> list[int]:
        """Tokens in each span."""
        return [len(span.token_ids) for span in self.spans]

    @property
    def token_ids(self) -> NDArray[np.int64]:
        """All ids of the row, shape (T,)."""
        return np.array([token for span in self.spans for token in span.token_ids], np.int64)

    def extend_caches(self) -> None:
        """Notes in the caches that the spans' keys and values are stored; ends a forward pass."""
        for span in self.spans:
            if span.cache is not None:
                span.cache.token_ids.extend(span.token_ids)


def common_prefix(stored: Sequence[int], prompt: Sequence[int]) -> int:
    """How many of a stored sequence's first tokens a prompt begins with.

    At most all of the prompt but its last token, which has to go through the network for its
    logits. What each token's keys and values are made of must be the tokens before it alone.
    """
    pairs = zip(stored, prompt[:-1], strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def finish(slices: Generator[None, None, Result]) -> Result:
    """Takes all slices at once and gives what they return."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            result: Result = end.value
            return result
