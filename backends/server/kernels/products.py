"""Matrix products of rounded activations with packed weights.

Weights lie in panels of 16 rows, so that one vector holds a number of each. Four neighbouring
columns of a row share 32 bits, which one instruction multiplies with four activations and adds up.
Both are whole numbers; every 32 columns the sum becomes a float and gets its scale.
Knows nothing of threads and of what a network is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from backends.server.kernels.cpu import Level
from backends.server.kernels.emit import (
    F16,
    F32,
    I8,
    I16,
    I32,
    I64,
    LANES,
    POINTER,
    Function,
    Value,
    Variable,
    vector,
)
from backends.server.kernels.kernel import Call, Kernel
from backends.server.kernels.rounding import ARGUMENTS, GROUP, Rounded

_QUADS = GROUP // 4
_PANEL_BYTES = 4 * LANES  # four columns of a panel
# The lower half of each byte.
_LOW = 0x0F0F0F0F
# Rows of activations that stay in the fastest caches while a chunk's panels pass by.
_TILE = 96
# Far enough for memory to answer, near enough to stay in the cache (2026-11, AVX-512).
_AHEAD = 3072

Dot = Callable[[Function, Value, Value, Value], Value]
"""Adds to 16 whole numbers the products of 16 x 4 weights, 0 to 255, with 4 activations each."""


@dataclass(frozen=True)
class Weights:
    """A form of packed weights.

    Attributes:
        name: the form's.
        bits: of a weight.
        grouped: whether each 32 columns of a row have a scale, in float16, not each row one.
    """

    name: str
    bits: int
    grouped: bool

    @property
    def zero_shift(self) -> int:
        """Weights are stored with ``2 ** zero_shift`` added, so that none is negative."""
        return self.bits - 1

    @property
    def group_bytes(self) -> int:
        """What 32 columns of a panel take."""
        return GROUP * LANES * self.bits // 8


INT8 = Weights("int8", 8, grouped=False)
INT4 = Weights("int4", 4, grouped=False)
INT4_GROUPED = Weights("int4g", 4, grouped=True)


def dot_of(level: Level, bits: int) -> Dot:
    """The level's way to multiply whole numbers."""
    if level.name == "avx512-vnni":
        return _dot_vnni
    if level.name == "avx-vnni":
        return _in_halves("llvm.x86.avx512.vpdpbusd.256")
    return _dot_avx2_narrow if bits == 4 else _dot_avx2_wide


def _dot_vnni(function: Function, sums: Value, weights: Value, activations: Value) -> Value:
    kind = vector(I8, _PANEL_BYTES)
    name = "llvm.x86.avx512.vpdpbusd.512"
    return function.call(name, sums.type, sums, weights.bits_as(kind), activations.bits_as(kind))


def _in_halves(name: str) -> Dot:
    def dot(function: Function, sums: Value, weights: Value, activations: Value) -> Value:
        half = vector(I8, _PANEL_BYTES // 2)
        results = []
        for number in range(2):
            part = [_half(value, number) for value in (sums, weights, activations)]
            given = part[0], part[1].bits_as(half), part[2].bits_as(half)
            results.append(function.call(name, part[0].type, *given))
        return results[0].beside(results[1])

    return dot


def _half(value: Value, number: int) -> Value:
    """Half of 16 numbers of 32 bits."""
    middle = LANES // 2
    return value.lanes(*range(number * middle, (number + 1) * middle))


def _dot_avx2_narrow(function: Function, sums: Value, weights: Value, activations: Value) -> Value:
    """Weights up to 15: two products fit into 16 bits."""
    return _each_half(function, sums, weights, activations, (0xFFFFFFFF,))


def _dot_avx2_wide(function: Function, sums: Value, weights: Value, activations: Value) -> Value:
    """Weights up to 255: even and odd columns apart, since two products don't fit into 16 bits."""
    return _each_half(function, sums, weights, activations, (0x00FF00FF, 0xFF00FF00))


def _each_half(
    function: Function, sums: Value, weights: Value, activations: Value, masks: Sequence[int]
) -> Value:
    half, words = vector(I8, _PANEL_BYTES // 2), vector(I16, LANES)
    ones = function.constant(words, 1)
    results = []
    for number in range(2):
        total, packed, given = (_half(value, number) for value in (sums, weights, activations))
        for mask in masks:
            kept = (packed & mask).bits_as(half)
            pairs = function.call("llvm.x86.avx2.pmadd.ub.sw", words, kept, given.bits_as(half))
            total = total + function.call("llvm.x86.avx2.pmadd.wd", total.type, pairs, ones)
        results.append(total)
    return results[0].beside(results[1])


_ARGUMENTS = {
    "weights": POINTER,
    "weight_scales": POINTER,
    "bias": POINTER,
    "panels": I64,
    "in_chunk": I64,
    **ARGUMENTS,
    "out": POINTER,
    "width": I64,
    "rows": POINTER,
    "adds": I64,
}


def product_kernel(level: Level, form: Weights) -> Kernel:
    """The kernel for one form of weights.

    A chunk is some panels of the weights, for all rows of the activations; "rows" is the address
    of their number, "width" the floats in a row of "out". Where "adds" isn't 0, the product is
    added to what stands there.
    """
    write = partial(_write, level=level, form=form)
    return Kernel(f"product_{form.name}", _ARGUMENTS, write)


def _write(call: Call, level: Level, form: Weights) -> None:
    function, given = call.function, call.given
    rounded = Rounded.of(given)
    panel_bytes = rounded.groups * form.group_bytes
    scale_bytes = rounded.groups * (LANES * 2) if form.grouped else function.whole(LANES * 4)
    first = call.chunk * given["in_chunk"]
    last = function.minimum(first + given["in_chunk"], given["panels"])
    rows = given["rows"].load(I64)
    with function.loop(0, rows, _TILE) as tile, function.loop(first, last) as panel:
        product = _Product(
            function,
            form,
            dot_of(level, form.bits),
            weights=given["weights"].at(panel * panel_bytes),
            scales=given["weight_scales"].at(panel * scale_bytes),
            bias=given["bias"].load(vector(F32), panel * LANES),
            rounded=rounded,
            out=given["out"].at(panel * (LANES * 4)),
            width=given["width"],
            adds=given["adds"] > 0,
        )
        done, stop = tile, function.minimum(tile + _TILE, rows)
        for count in level.rows:
            full = done + (stop - done) // count * count
            with function.loop(done, full, count) as row:
                product.write(row, count)
            done = full


@dataclass(frozen=True)
class _Product:
    """One panel's product with some rows."""

    function: Function
    form: Weights
    dot: Dot
    weights: Value
    scales: Value
    bias: Value
    rounded: Rounded
    out: Value
    width: Value
    adds: Value

    def write(self, first: Value, count: int) -> None:
        """Writes the code for ``count`` rows."""
        function = self.function
        rows = [self.rounded.row(first + number) for number in range(count)]
        zero = function.constant(vector(F32), 0.0)
        totals = [function.variable(zero) for _ in rows]
        with function.loop(0, self.rounded.groups) as group:
            packed = self.weights.at(group * self.form.group_bytes)
            for line in range(0, self.form.group_bytes, _PANEL_BYTES):
                packed.prefetch(_AHEAD + line)
            sums = self._group(packed, rows, group)
            scale = (
                self.scales.load(vector(F16), group * LANES).to(F32) if self.form.grouped else None
            )
            for row, total, summed in zip(rows, totals, sums, strict=True):
                factor = row.scales.load(F32, group).splat()
                factor = factor * scale if scale is not None else factor
                total.set(summed.to(F32).times(factor, total.value))
        for number, total in enumerate(totals):
            self._put(first + number, total.value)

    def _group(self, packed: Value, rows: Sequence[Rounded], group: Value) -> list[Value]:
        """The whole-number sums of 32 columns, for each row."""
        # What was added to the weights comes off first: minus the activations' sum, so many times.
        sums = [
            self.function.variable(row.sums.load(I32, group).splat() << self.form.zero_shift)
            for row in rows
        ]
        lines = self.form.group_bytes // _PANEL_BYTES
        if len(rows) == 1:
            # A single row leaves registers and time: no loop.
            for number in range(lines):
                self._line(packed, rows, group, self.function.whole(number), sums)
        else:
            with self.function.loop(0, lines) as line:
                self._line(packed, rows, group, line, sums)
        return [total.value for total in sums]

    def _line(
        self,
        packed: Value,
        rows: Sequence[Rounded],
        group: Value,
        line: Value,
        sums: Sequence[Variable],
    ) -> None:
        """Adds the products of 64 bytes of weights."""
        both = packed.load(vector(I32), line * LANES)
        quads = [both] if self.form.bits == 8 else [both & _LOW, (both >> 4) & _LOW]
        for number, weights in enumerate(quads):
            place = group * _QUADS + line * len(quads) + number
            for row, total in zip(rows, sums, strict=True):
                four = row.numbers.load(I32, place).splat()
                total.set(self.dot(self.function, total.value, weights, four))

    def _put(self, row: Value, total: Value) -> None:
        place = self.out.at(row * self.width * 4)
        value = total if self.form.grouped else total * self.scales.load(vector(F32))
        value = value + self.bias
        before = self.function.choose(self.adds, place.load(vector(F32)), 0.0)
        place.store(value + before)
