"""What is done to each row of activations alone: looking it up, normalising it, gating it.

Each kernel's chunks are rows, or parts of rows; what a matrix product takes next, it rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backends.server.kernels.emit import F32, I8, I32, I64, LANES, POINTER, Function, Value, vector
from backends.server.kernels.functions import gelu, silu
from backends.server.kernels.kernel import Call, Kernel
from backends.server.kernels.rounding import ARGUMENTS, GROUP, Rounded

_NUMBERS = vector(F32)
_HALVES = range(0, GROUP, LANES)


def row_kernels() -> Iterator[Kernel]:
    """All kernels of this module."""
    yield Kernel("look_up", _LOOK_UP, _look_up)
    yield Kernel("rms_norm", _NORM, _rms_norm)
    yield Kernel("layer_norm", _NORM, _layer_norm)
    yield Kernel("silu_gate", _GATE, lambda call: _gate(call, _silu_gate))
    yield Kernel("gelu", _GATE, lambda call: _gate(call, _plain_gelu))


# A row of an eight-bit table, by its number; "weights" and "scales" as for products.
_LOOK_UP = {
    "ids": POINTER,
    "weights": POINTER,
    "row_scales": POINTER,
    "columns": I64,
    "out": POINTER,
}


def _look_up(call: Call) -> None:
    function, given = call.function, call.given
    number = given["ids"].load(I32, call.chunk).to(I64)
    columns = given["columns"]
    line = given["weights"].at(number // LANES * columns * LANES + number % LANES * 4)
    scale = given["row_scales"].load(F32, number).splat(4)
    out = given["out"].at(call.chunk * columns * 4)
    with function.loop(0, columns, 4) as column:
        raised = line.load(vector(I8, 4), column * LANES).to(I32) & 0xFF
        out.store((raised - 128).to(F32) * scale, column)


# "source" holds rows of floats; "index" says which of them is the one that a chunk takes.
_NORM = {
    "source": POINTER,
    "index": POINTER,
    "width": I64,
    "weight": POINTER,
    "bias": POINTER,
    "epsilon": F32,
    "keep": F32,
    **ARGUMENTS,
}


def _rms_norm(call: Call) -> None:
    """Divides by the root of the mean square; the source stays."""
    function, given = call.function, call.given
    row = _source_row(call)
    inverse = _inverse_root(call, _sum(call, row, lambda x: x * x))

    def scaled(column: Value) -> Value:
        return row.load(_NUMBERS, column) * inverse * given["weight"].load(_NUMBERS, column)

    _round_row(function, Rounded.of(given).row(call.chunk), scaled)


def _layer_norm(call: Call) -> None:
    """Takes the mean off and divides by the deviation; the source becomes that times ``keep``."""
    function, given = call.function, call.given
    row = _source_row(call)
    mean = _sum(call, row, lambda x: x) / given["width"].to(F32)
    inverse = _inverse_root(call, _sum(call, row, lambda x: (x - mean) * (x - mean)))

    def scaled(column: Value) -> Value:
        alike = (row.load(_NUMBERS, column) - mean) * inverse
        bias = given["bias"].load(_NUMBERS, column)
        normal = alike.times(given["weight"].load(_NUMBERS, column), bias)
        row.store(normal * given["keep"], column)
        return normal

    _round_row(function, Rounded.of(given).row(call.chunk), scaled)


def _source_row(call: Call) -> Value:
    number = call.given["index"].load(I32, call.chunk).to(I64)
    return call.given["source"].at(number * call.given["width"] * 4)


def _sum(call: Call, row: Value, of: Callable[[Value], Value]) -> Value:
    """The sum of a function of a row's numbers."""
    function = call.function
    total = function.variable(function.constant(_NUMBERS, 0.0))
    with function.loop(0, call.given["width"], LANES) as column:
        total.set(total.value + of(row.load(_NUMBERS, column)))
    return function.sum(total.value)


def _inverse_root(call: Call, squares: Value) -> Value:
    mean = squares / call.given["width"].to(F32)
    return 1.0 / call.function.root(mean + call.given["epsilon"])


def _round_row(function: Function, rounded: Rounded, number: Callable[[Value], Value]) -> None:
    with function.loop(0, rounded.groups) as group:
        values = [number(group * GROUP + half) for half in _HALVES]
        rounded.put(function, group, values)


# "source" holds rows of "width" floats; a chunk is some groups of 32 of the result.
_GATE = {
    "source": POINTER,
    "width": I64,
    "in_chunk": I64,
    "row_chunks": I64,
    **ARGUMENTS,
}


def _gate(call: Call, value: Callable[[Call, Value, Value], Value]) -> None:
    function, given = call.function, call.given
    number, part = call.chunk // given["row_chunks"], call.chunk % given["row_chunks"]
    row = given["source"].at(number * given["width"] * 4)
    rounded = Rounded.of(given).row(number)
    first = part * given["in_chunk"]
    with function.loop(first, function.minimum(first + given["in_chunk"], rounded.groups)) as group:
        values = [value(call, row, group * GROUP + half) for half in _HALVES]
        rounded.put(function, group, values)


def _silu_gate(call: Call, row: Value, column: Value) -> Value:
    """The gates come first in a row, what they let through behind them."""
    behind = call.given["groups"] * GROUP
    let_through = row.load(_NUMBERS, column + behind)
    return silu(call.function, row.load(_NUMBERS, column)) * let_through


def _plain_gelu(call: Call, row: Value, column: Value) -> Value:
    return gelu(call.function, row.load(_NUMBERS, column))
