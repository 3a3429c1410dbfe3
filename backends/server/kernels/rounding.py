"""Activations as matrix products take them: rounded to a byte, 32 neighbours sharing a scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llvmlite import ir

from backends.server.kernels.emit import F32, I8, I32, I64, LANES, POINTER, Function, Value, vector
from backends.server.kernels.functions import nearest

GROUP = 32
"""Neighbouring columns that share a scale."""

ARGUMENTS: Mapping[str, ir.Type] = {
    "numbers": POINTER,
    "scales": POINTER,
    "sums": POINTER,
    "groups": I64,
}
"""What a kernel needs to know of them: three arrays, and how many groups a row has."""

_PEAK = 127


@dataclass(frozen=True)
class Rounded:
    """Rounded activations in memory, row by row.

    Attributes:
        numbers: whole numbers from -127 to 127, a byte each.
        scales: for each group, the float that one of its numbers is multiplied with.
        sums: for each group, minus the sum of its numbers, 32 bits.
        groups: how many a row has.
    """

    numbers: Value
    scales: Value
    sums: Value
    groups: Value

    @classmethod
    def of(cls, given: Mapping[str, Value]) -> Rounded:
        """Those that a kernel was given."""
        return cls(*(given[name] for name in ARGUMENTS))

    def row(self, number: Value) -> Rounded:
        """The part that is one row, and those behind it."""
        first = number * self.groups
        return Rounded(
            self.numbers.at(first * GROUP),
            self.scales.at(first * 4),
            self.sums.at(first * 4),
            self.groups,
        )

    def put(self, function: Function, group: Value, values: Sequence[Value]) -> None:
        """Rounds 32 floats, two vectors, and stores them as a group of the first row."""
        peak = function.largest(function.maximum(*(function.magnitude(part) for part in values)))
        # A group of zeros has nothing to divide by.
        inverse = function.choose(peak > 0.0, _PEAK / peak, function.constant(F32, 0.0))
        total = function.constant(vector(I32), 0)
        for number, part in enumerate(values):
            whole = nearest(function, part * inverse)
            total = total + whole
            self.numbers.store(whole.to(I8), group * GROUP + number * LANES)
        self.scales.store(peak * (1 / _PEAK), group)
        self.sums.store(function.constant(I32, 0) - function.sum(total), group)
