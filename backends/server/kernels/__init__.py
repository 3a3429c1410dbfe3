"""Low-bit arithmetic for one CPU: kernels written when the process starts, run as whole programs.

See README.md in this folder. The face is here; whoever uses the package needs nothing else of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from backends.cores import usable_cores
from backends.server.kernels.attention import BLOCK, TILE, HeadShape, attention_kernels
from backends.server.kernels.cpu import (
    SETTING,
    Level,
    UnknownLevel,
    chosen_level,
    possible_levels,
)
from backends.server.kernels.emit import LANES
from backends.server.kernels.kernel import Argument, Step
from backends.server.kernels.machine import MachineCode
from backends.server.kernels.panels import fits, pack, pack_scales, panel_bytes, panel_count, unpack
from backends.server.kernels.products import (
    INT4,
    INT4_GROUPED,
    INT8,
    Weights,
    product_kernel,
)
from backends.server.kernels.program import Program, Threads, write_runner
from backends.server.kernels.rounding import GROUP
from backends.server.kernels.rows import row_kernels

__all__ = [
    "BLOCK",
    "GROUP",
    "INT4",
    "INT4_GROUPED",
    "INT8",
    "LANES",
    "SETTING",
    "TILE",
    "Argument",
    "Compute",
    "HeadShape",
    "Kernels",
    "Level",
    "Program",
    "Step",
    "Threads",
    "UnknownLevel",
    "Weights",
    "chosen_level",
    "fits",
    "pack",
    "pack_scales",
    "panel_bytes",
    "panel_count",
    "possible_levels",
    "unpack",
]


@dataclass(frozen=True)
class Compute:
    """With what a network computes.

    Attributes:
        level: the kernels' instructions.
        threads: how many.
    """

    level: Level
    threads: int

    @classmethod
    def chosen(cls, threads: int | None) -> Self | None:
        """The best that is possible; None where torch has to compute.

        Args:
            threads: how many; None: all cores that this process may use.

        Raises:
            UnknownLevel: the setting names something else.
        """
        level = chosen_level()
        return None if level is None else cls(level, threads or usable_cores())


class Kernels:
    """All kernels, compiled for one CPU and one size of attention heads.

    Args:
        level: for which CPUs.
        heads: the size.
        forms: those of the weights.
    """

    def __init__(self, level: Level, heads: HeadShape, forms: Iterable[Weights]) -> None:
        products = [product_kernel(level, form) for form in forms]
        kernels = [*row_kernels(), *products, *attention_kernels(heads)]
        module = ir.Module("kernels")
        for kernel in kernels:
            kernel.write_into(module)
        write_runner(module, [kernel.name for kernel in kernels])
        self.code = MachineCode(module, level)
        self._known = {kernel.name: (number, kernel) for number, kernel in enumerate(kernels)}

    def step(
        self, name: str, arguments: Mapping[str, Argument], chunks: NDArray[np.int64] | int
    ) -> Step:
        """One kernel's work on certain arrays, by the names of its arguments.

        Raises:
            TypeError: these are not the kernel's arguments.
        """
        number, kernel = self._known[name]
        if set(arguments) != set(kernel.arguments):
            wrong = ", ".join(sorted(set(arguments) ^ set(kernel.arguments)))
            raise TypeError(f"{name} wants other arguments: {wrong}.")
        counted = np.array([chunks], np.int64) if isinstance(chunks, int) else chunks
        return Step(number, tuple(arguments[key] for key in kernel.arguments), counted)

    def argument(self, name: str, key: str) -> int:
        """The place of a kernel's argument, for ``Program.point``."""
        return list(self._known[name][1].arguments).index(key)

    def threads(self, count: int) -> Threads:
        """Threads that run programs of these kernels."""
        return Threads(self.code, count)
