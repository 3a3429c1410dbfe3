"""The cosines and sines by which positions turn queries and keys.

A table at one address, as long as the context; made piece by piece as sequences reach further, so a
context of a million tokens takes no memory before anybody needs it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PIECE = 2048


class Angles:
    """The table.

    Args:
        frequencies: radians a position, for each pair of numbers in a section of a head.
        positions: how many there may be.
        scale: what cosines and sines are multiplied with.

    Attributes:
        table: for each position the cosines, then the sines, (positions, 2 * frequencies); what
            ``reach`` was not asked for is arbitrary.
    """

    def __init__(
        self, frequencies: NDArray[np.float32], positions: int, scale: float = 1.0
    ) -> None:
        self.table = np.empty((positions, 2 * len(frequencies)), np.float32)
        self._frequencies = frequencies
        self._scale = np.float32(scale)
        self._known = 0

    def reach(self, position: int) -> None:
        """Makes sure that the table goes so far."""
        while self._known <= position:
            piece = self.table[self._known : self._known + _PIECE]
            index = np.arange(self._known, self._known + len(piece), dtype=np.float32)
            angles = index[:, None] * self._frequencies
            half = len(self._frequencies)
            np.multiply(np.cos(angles), self._scale, out=piece[:, :half])
            np.multiply(np.sin(angles), self._scale, out=piece[:, half:])
            self._known += len(piece)
