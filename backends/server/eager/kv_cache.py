"""Keys and values of one sequence as torch tensors, for the families with code of their own.

Stores what it is given: whether keys are rotated, and who may see them, is the family's business.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from backends.server.batch import KVCache

_FIRST_CAPACITY = 64


class TorchCache(KVCache):
    """Each layer's keys and values in a buffer that grows by doubling.

    Args:
        layers: how many there are.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers

    @property
    def nbytes(self) -> int:
        """Size of the buffers."""
        return sum(buffer.nbytes for buffer in (*self._keys, *self._values) if buffer is not None)

    @torch.inference_mode()
    def prefix(self, length: int) -> Self:
        """See ``KVCache``; its buffers hold no more than is asked for."""
        copied = type(self)(len(self._keys))
        copied.token_ids = self.token_ids[:length]
        copied._keys = [_copied(buffer, length) for buffer in self._keys]
        copied._values = [_copied(buffer, length) for buffer in self._values]
        return copied

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores a span's keys and values (heads, n, head_dim) and returns all so far."""
        all_keys = self._keys[layer] = _written(self._keys[layer], keys, self.length)
        all_values = self._values[layer] = _written(self._values[layer], values, self.length)
        total = self.length + keys.shape[1]
        return all_keys[:, :total], all_values[:, :total]

    def stored(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values so far, (heads, length, head_dim).

        Raises:
            LookupError: there are none yet.
        """
        keys, values = self._keys[layer], self._values[layer]
        if keys is None or values is None:
            raise LookupError("Nothing is stored yet.")
        return keys[:, : self.length], values[:, : self.length]


def _copied(buffer: Tensor | None, length: int) -> Tensor | None:
    return None if buffer is None else buffer[:, :length].clone()


def _written(buffer: Tensor | None, new: Tensor, start: int) -> Tensor:
    """The buffer with ``new`` at ``start``, in a larger buffer if it doesn't fit."""
    heads, count, width = new.shape
    stop = start + count
    if buffer is None or buffer.shape[1] < stop:
        larger = new.new_empty(heads, max(_FIRST_CAPACITY, 2 * stop), width)
        if buffer is not None:
            larger[:, :start] = buffer[:, :start]
        buffer = larger
    buffer[:, start:stop] = new
    return buffer
