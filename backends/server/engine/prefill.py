"""Prompts on their way through a network that can't take them in chunks, slice by slice.

A slice is a bounded part of the whole work, so the answers of others can go on between two of them.
Decides which prompts go together and whose slice is next; answers nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import accumulate
from typing import Protocol

from backends.server.batch import FlatBatch, Logits
from backends.server.engine.request import Generation
from backends.server.engine.schedule import Turns

# Each holds memory for all its rows: with 6 billion weights and 2,048 tokens, a third of a GB.
_AT_ONCE = 2
# A longer one would only keep others from overtaking.
_TIMES_SHORTER = 2


class Sliced(Protocol):
    """What is asked of a network here."""

    def slices(self, batch: FlatBatch) -> Generator[None, None, Logits]:
        """See ``Network``."""


class Prefill:
    """Prompts that go through the network together.

    Args:
        network: computes them.
        generations: whose prompts.
    """

    def __init__(self, network: Sliced, generations: Sequence[Generation]) -> None:
        self.generations = generations
        self.size = sum(generation.remaining for generation in generations)
        spans = [generation.span(generation.remaining) for generation in generations]
        self._slices = network.slices(FlatBatch.step(spans))
        self._finished = False

    @property
    def wanted(self) -> bool:
        """Whether there is more to compute, and someone who waits for it."""
        return not self._finished and any(not one.over for one in self.generations)

    def advance(self) -> Logits | None:
        """Computes a slice; after the last one, the logits after each prompt, else None."""
        try:
            next(self._slices)
        except StopIteration as end:
            self._finished = True
            logits: Logits = end.value
            return logits
        return None

    def close(self) -> None:
        """Ends it; half way, its caches hold nothing usable."""
        self._slices.close()


class Prefills:
    """The prompts that are on their way: two at most, or groups of short ones that go together.

    Whoever came first is always one of them; beside it, one that is much shorter may overtake it.

    Args:
        network: computes them.
        together: prompts with so many tokens in all go together, since each reads all weights.
    """

    def __init__(self, network: Sliced, together: int) -> None:
        self._network = network
        self._together = together
        self._turns = Turns()
        self._open: list[Prefill] = []

    def next(self, joining: Sequence[Generation]) -> Prefill | None:
        """The one whose slice is to be computed now.

        Args:
            joining: everyone with a prompt to compute, in the order in which they came.
        """
        for prefill in self._open:
            if not prefill.wanted:
                prefill.close()
        self._open = [prefill for prefill in self._open if prefill.wanted]
        while len(self._open) < _AT_ONCE and (group := self._next_to_begin(joining)):
            self._open.append(Prefill(self._network, group))
        if not self._open:
            return None
        return self._open[self._turns.choose([prefill.size for prefill in self._open])]

    def close(self) -> None:
        """Ends all of them."""
        for prefill in self._open:
            prefill.close()
        self._open.clear()

    def _next_to_begin(self, joining: Sequence[Generation]) -> Sequence[Generation]:
        """Who begins beside those that are on their way; nobody, if all others had better wait."""
        new = [one for one in joining if not any(one in p.generations for p in self._open)]
        if not new:
            return []
        shortest = self._shortest(new)
        if new[0] is joining[0]:
            return shortest if new[0] in shortest else new[:1]
        longest = min(prefill.size for prefill in self._open) // _TIMES_SHORTER
        return shortest if sum(one.remaining for one in shortest) <= longest else []

    def _shortest(self, new: Sequence[Generation]) -> Sequence[Generation]:
        """The shortest, or so many of them as go together."""
        shortest_first = sorted(new, key=lambda generation: generation.remaining)
        sizes = accumulate(generation.remaining for generation in shortest_first)
        few = sum(1 for size in sizes if size <= self._together)
        return shortest_first[: max(1, few)]
