"""Gives a family's torch module the face that the engine steps: numpy in, numpy out.

The module itself computes with gradients where it is trained; what all such modules do alike with a
batch is here too. Schedules nothing, stores nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from backends.server.batch import FlatBatch, KVCache, Logits


class FamilyNetwork(Protocol):
    """One family's network as a torch module; see ``model.Network`` for what isn't said here."""

    @property
    def vocab_size(self) -> int:
        """Number of logits a row."""

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""

    @property
    def chunkable(self) -> bool:
        """Whether a prompt may go through in pieces."""

    def new_cache(self) -> KVCache:
        """An empty cache for one sequence."""

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        """How many of a stored sequence's first tokens serve a prompt."""

    def __call__(self, batch: FlatBatch) -> Tensor:
        """Logits of the wanted rows, (rows, vocab), float32, with gradients where they are on."""

    def slices(self, batch: FlatBatch) -> Generator[None, None, Tensor]:
        """The same in slices."""


class TorchNetwork:
    """A torch module as a ``Network``: without gradients, its logits as numpy arrays.

    Attributes:
        module: the family's module.
    """

    def __init__(self, module: FamilyNetwork) -> None:
        self.module = module

    @property
    def vocab_size(self) -> int:
        """See ``Network``, as for the rest."""
        return self.module.vocab_size

    @property
    def context(self) -> int:
        """As above."""
        return self.module.context

    @property
    def chunkable(self) -> bool:
        """As above."""
        return self.module.chunkable

    def new_cache(self) -> KVCache:
        """As above."""
        return self.module.new_cache()

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        """As above."""
        return self.module.reusable(stored, prompt)

    @torch.inference_mode()
    def step(self, batch: FlatBatch) -> Logits:
        """As above."""
        return cast(Logits, self.module(batch).numpy())

    # Around a generator it is in force within each slice only, not while others run in between.
    @torch.inference_mode()
    def slices(self, batch: FlatBatch) -> Generator[None, None, Logits]:
        """As above."""
        logits = yield from self.module.slices(batch)
        return cast(Logits, logits.numpy())


def use_threads(threads: int | None) -> None:
    """Lets torch compute with so many; None: with as many as it has chosen."""
    if threads is not None:
        torch.set_num_threads(threads)


def select(batch: FlatBatch, hidden: Tensor) -> Tensor:
    """The wanted rows of ``hidden`` (T, width), shape (rows, width)."""
    return hidden if batch.rows is None else hidden[torch.tensor(batch.rows, dtype=torch.long)]
