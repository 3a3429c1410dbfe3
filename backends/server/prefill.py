"""Prompts on their way through a network that can't take them in chunks, slice by slice.

A slice is a bounded part of the whole work, so the answers of others can go on between two of them.
Decides which prompts go together and whose slice is next; answers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from backends.server.batch import FlatBatch
from backends.server.model import Logits, Network
from backends.server.request import Generation
from backends.server.schedule import Turns


class Prefill:
    """Prompts that go through the network together.

    Args:
        network: computes them.
        generations: whose prompts.
    """

    def __init__(self, network: Network, generations: Sequence[Generation]) -> None:
        self.generations = generations
        self.size = sum(generation.remaining for generation in generations)
        spans = [generation.span(generation.remaining) for generation in generations]
        self._slices = network.slices(FlatBatch.step(spans))
        self._finished = False

    @property
    def wanted(self) -> bool:
        """Whether there is more to compute, and someone who waits for it."""
        return not self._finished and any(not one.left for one in self.generations)

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
    """All prompts that are on their way.

    Args:
        network: computes them.
        together: prompts with so many tokens in all go together, since each reads all weights.
    """

    def __init__(self, network: Network, together: int) -> None:
        self._network = network
        self._together = together
        self._turns = Turns()
        self._open: list[Prefill] = []

    def next(self, joining: Sequence[Generation]) -> Prefill | None:
        """The one whose slice is to be computed now.

        Args:
            joining: everyone with a prompt to compute; those who are new begin.
        """
        for prefill in self._open:
            if not prefill.wanted:
                prefill.close()
        self._open = [prefill for prefill in self._open if prefill.wanted]
        self._begin([one for one in joining if not any(one in p.generations for p in self._open)])
        if not self._open:
            return None
        return self._open[self._turns.choose([prefill.size for prefill in self._open])]

    def close(self) -> None:
        """Ends all of them."""
        for prefill in self._open:
            prefill.close()
        self._open.clear()

    def _begin(self, new: Sequence[Generation]) -> None:
        new = sorted(new, key=lambda generation: generation.remaining)
        sizes = accumulate(generation.remaining for generation in new)
        few = sum(1 for size in sizes if size <= self._together)
        groups = [new[:few], *([one] for one in new[few:])]
        self._open += [Prefill(self._network, group) for group in groups if group]
