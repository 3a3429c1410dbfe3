"""A kernel: a native function that does one chunk of one kind of work, and a step that uses it.

Knows no kernel in particular and runs none.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from backends.server.kernels.emit import I64, POINTER, Function, Value

PARAMETERS = (POINTER, I64, I64)
"""What every kernel is called with: its arguments, 64 bits each; the chunk; the thread."""

Argument = NDArray[Any] | int | float
"""An array stands for its address."""


@dataclass(frozen=True)
class Call:
    """A kernel's body under construction.

    Attributes:
        function: gets the code.
        given: the arguments by their names.
        chunk: which part of the work this call does.
        thread: which thread does it.
    """

    function: Function
    given: Mapping[str, Value]
    chunk: Value
    thread: Value


@dataclass(frozen=True)
class Kernel:
    """One kind of work.

    Attributes:
        name: the native function's.
        arguments: their types by name, in their order.
        write: writes the body.
    """

    name: str
    arguments: Mapping[str, ir.Type]
    write: Callable[[Call], None]

    def write_into(self, module: ir.Module) -> None:
        """Writes the native function."""
        function = Function(module, self.name, PARAMETERS)
        table, chunk, thread = function.parameters
        given = {
            name: table.load(kind, index * (8 // _SIZES.get(kind, 8)))
            for index, (name, kind) in enumerate(self.arguments.items())
        }
        self.write(Call(function, given, chunk, thread))
        function.finish()


@dataclass(frozen=True, eq=False)
class Step:
    """A kernel's work on certain arrays.

    Attributes:
        kernel: its number among those that were compiled together.
        arguments: in the kernel's order.
        chunks: how many there are: an array of one number, which may change between runs.
    """

    kernel: int
    arguments: tuple[Argument, ...]
    chunks: NDArray[np.int64]


def as_64_bits(value: Argument) -> int:
    """How an argument is handed over."""
    if isinstance(value, np.ndarray):
        return value.ctypes.data
    if isinstance(value, float):
        return int.from_bytes(struct.pack("<f", value), "little")
    return value


# A float stands in the lower half of its 64 bits.
_SIZES = {ir.FloatType(): 4}
