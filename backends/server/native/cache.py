"""Keys and values of one sequence, in the kernels' layout.

One piece of memory: for each layer and head the keys, in panels of 16 positions, then the values.
It has room for a multiple of 64 positions. Room that was never used takes no memory, since the
system gives that out in pages as it is written; so there may be plenty. Computes nothing.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Self

import numpy as np
from numpy.typing import NDArray

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
        self._rows = layers * shape.cache_heads * 2
        self._room = 0
        self._written = 0  # positions that have been; what follows them takes no memory
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
        """The pages that were ever written."""
        numbers = _rounded_up(self._written, LANES) * self._shape.head.size
        return self._rows * _rounded_up(numbers * self._memory.itemsize, mmap.PAGESIZE)

    def reserve(self, positions: int) -> None:
        """Makes sure that there is room for so many positions, which will be written.

        Raises:
            MemoryError: there is none.
        """
        if positions > self._room:
            self._move(positions)
        self._written = max(self._written, positions)

    def prefix(self, length: int) -> Self:
        """A cache of its own with a copy of the first ``length`` tokens."""
        other = type(self)(self._shape, self._layers)
        other.reserve(length)
        other.token_ids = self.token_ids[:length]
        other._take(self._parts(), length)
        return other

    def _move(self, positions: int) -> None:
        """Into memory with room for so many positions and more, within the context."""
        plenty = min(max(2 * positions, _FIRST_ROOM), self._shape.context)
        before = self._parts()
        room = _rounded_up(max(positions, plenty), TILE)
        self._memory = _allocated(self._rows * room * self._shape.head.size)
        self._room, self._written = room, self.length
        self._take(before, self.length)

    def _take(self, parts: NDArray[np.float16], length: int) -> None:
        """Copies another memory's first positions."""
        numbers = _rounded_up(length, LANES) * self._shape.head.size
        self._parts()[:, :numbers] = parts[:, :numbers]

    def _parts(self) -> NDArray[np.float16]:
        """Keys and values of each layer and head, a row each."""
        return self._memory.reshape(self._rows, self._room * self._shape.head.size)


def _allocated(count: int) -> NDArray[np.float16]:
    """Memory in small pages.

    Of a huge page all is taken as soon as anything in it is written, and the rows have room between
    them: 20 tokens of Qwen1.5-0.5B would take 24 MB instead of 3. Attention over 4,000 tokens takes
    a tenth longer for it, over 1,000 no longer (2026-11, 2 threads).
    """
    try:
        memory = mmap.mmap(-1, count * 2, access=mmap.ACCESS_COPY)
    except (OSError, OverflowError) as error:
        raise MemoryError("There is no room for more keys and values.") from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel that has none
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, np.float16)


def _rounded_up(number: int, step: int) -> int:
    return -(-number // step) * step
