"""Runs single kernels over arrays."""

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from backends.server.kernels import (
    GROUP,
    INT4,
    INT4_GROUPED,
    INT8,
    Argument,
    HeadShape,
    Kernels,
    Level,
    Program,
)


@cache
def compiled_for(level: Level, heads: HeadShape) -> Kernels:
    """The kernels of a level, compiled once."""
    return Kernels(level, heads, (INT8, INT4, INT4_GROUPED))


def run(
    kernels: Kernels, name: str, arguments: Mapping[str, Argument], chunks: int, threads: int = 1
) -> None:
    """Runs one kernel's step."""
    kernels.threads(threads).run(Program([kernels.step(name, arguments, chunks)]))


class RoundedRows:
    """Room for rounded activations, (rows, columns)."""

    def __init__(self, rows: int, columns: int) -> None:
        self.numbers = np.zeros((rows, columns), np.int8)
        self.scales = np.zeros((rows, columns // GROUP), np.float32)
        self.sums = np.zeros((rows, columns // GROUP), np.int32)

    @classmethod
    def random(cls, rows: int, columns: int, random: np.random.Generator) -> "RoundedRows":
        made = cls(rows, columns)
        made.numbers[:] = random.integers(-127, 128, (rows, columns))
        made.scales[:] = random.random(made.scales.shape)
        made.sums[:] = -made.numbers.reshape(rows, -1, GROUP).sum(axis=2, dtype=np.int32)
        return made

    @property
    def arguments(self) -> dict[str, Argument]:
        groups = self.scales.shape[1]
        return {
            "numbers": self.numbers,
            "scales": self.scales,
            "sums": self.sums,
            "groups": groups,
        }

    @property
    def values(self) -> NDArray[np.float64]:
        """What they stand for."""
        wide: NDArray[np.float64] = np.repeat(self.scales.astype(np.float64), GROUP, axis=1)
        return wide * self.numbers
