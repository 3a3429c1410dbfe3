"""Keys and values of one sequence, in the kernels' layout.

One piece of memory: for each layer and head the keys, in panels of 16 positions, then the values.
It has room for a multiple of 64 positions, and doubles when it is full; room that was never used
takes no memory, since the system gives that out as it is written. Computes nothing.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from backends.server.batch import KVCache
from backends.server.kernels import LANES, TILE
from backends.server.native.decoder import Shape

_FIRST_ROOM = 256


class NativeCache(KVCache):
    """One sequence's cache.

    Args:
        shape: the network's.
        layers: how many it has.
    """

    def __init__(self, shape: Shape, layers: int) -> None:
        super().__init__()
        self._shape = shape
        self._layers = layers
        self._room = 0
        self._memory = np.empty(0, np.float16)

    @property
    def room(self) -> int:
        """For how many positions there is memory."""
        return self._room

    @property
    def address(self) -> int:
        """Where the memory begins; changes when the room does."""
        return self._memory.ctypes.data

    @property
    def nbytes(self) -> int:
        """The memory that is in use."""
        each = self._layers * self._shape.cache_heads * 2 * self._shape.head.size
        return _rounded_up(self.length, TILE) * each * self._memory.itemsize

    def reserve(self, positions: int) -> None:
        """Makes sure that there is room for so many positions."""
        if positions > self._room:
            self._move_to(_rounded_up(max(positions, 2 * self._room, _FIRST_ROOM), TILE))

    def truncate(self, length: int) -> None:
        """Forgets what follows the first ``length`` tokens."""
        del self.token_ids[length:]

    def prefix(self, length: int) -> Self:
        """A cache of its own with a copy of the first ``length`` tokens."""
        other = type(self)(self._shape, self._layers)
        other.token_ids = self.token_ids[:length]
        other.reserve(length)
        other._copy(self, length)
        return other

    def _move_to(self, room: int) -> None:
        old = self.prefix(0)
        old._memory, old._room = self._memory, self._room
        size = self._layers * self._shape.cache_heads * 2 * room * self._shape.head.size
        self._memory, self._room = np.empty(size, np.float16), room
        self._copy(old, self.length)

    def _copy(self, other: Self, length: int) -> None:
        """Takes over another's first positions."""
        numbers = _rounded_up(min(length, other.room), LANES) * self._shape.head.size
        if numbers:
            self._parts()[:, :numbers] = other._parts()[:, :numbers]

    def _parts(self) -> np.ndarray[tuple[int, int], np.dtype[np.float16]]:
        """Keys and values of each layer and head, a row each."""
        return self._memory.reshape(-1, self._room * self._shape.head.size)


def _rounded_up(number: int, step: int) -> int:
    return -(-number // step) * step
