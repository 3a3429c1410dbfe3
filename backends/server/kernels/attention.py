"""Attention over cached keys and values of many sequences at once.

A sequence's cache is one piece of memory: for each layer and head all keys, then all values, in
float16. Values lie position by position. Keys lie in panels of 16 positions, for each number of a
head one vector, so that 16 scores are formed at a time. The kernels are written for one size of
heads. Knows nothing of sequences: each row says where its cache is and how much of it it sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from backends.server.kernels.emit import (
    F16,
    F32,
    I32,
    I64,
    LANES,
    POINTER,
    Value,
    Variable,
    vector,
)
from backends.server.kernels.functions import exp
from backends.server.kernels.kernel import Call, Kernel
from backends.server.kernels.rounding import ARGUMENTS, GROUP, Rounded

BLOCK = 4
"""Rows of one sequence that are taken together, as they see almost the same."""

TILE = 64
"""Positions whose scores are formed together: a cache has room for a multiple of it."""

_BYTES = 2  # of a float16
_VECTORS = 4  # of a row's result that are formed at a time
_NUMBERS = vector(F32)

_HEADS = {
    "mixed": POINTER,
    "width": I64,
    "query": I64,
    "query_step": I64,
    "caches": POINTER,
    "capacities": POINTER,
    "layer": I64,
    "cache_heads": I64,
    "sharing": I64,
}
"""Rows of queries, keys and values, ``width`` floats each. Head h's query begins at ``query + h *
query_step``; ``sharing`` of them share a key and value."""


@dataclass(frozen=True)
class HeadShape:
    """The size of an attention head.

    Attributes:
        size: numbers in it.
        sections: parts that are rotated each by a position of its own.
    """

    size: int
    sections: int = 1

    @property
    def half(self) -> int:
        """Numbers in the first half of a section: each is rotated with one of the second."""
        return self.size // self.sections // 2

    @property
    def fits(self) -> bool:
        """Whether kernels can be written for it."""
        return self.size % GROUP == 0 and self.half % min(LANES, self.half) == 0

    @property
    def cos_sin_width(self) -> int:
        """Floats of a position in the table of angles."""
        return 2 * self.half


def attention_kernels(shape: HeadShape) -> Iterator[Kernel]:
    """The kernels of this module for a size of heads."""
    yield Kernel("rotate", _ROTATE, lambda call: _rotate(call, shape))
    yield Kernel("attend", _ATTEND, lambda call: _attend(call, shape))


# "angles" holds for each position the cosines, then the sines; "positions" for each section a row
# of "stride" positions. A chunk is a row's queries, key and value of one cached head.
_ROTATE = {
    **_HEADS,
    "key": I64,
    "key_step": I64,
    "value": I64,
    "value_step": I64,
    "angles": POINTER,
    "positions": POINTER,
    "stride": I64,
    "slots": POINTER,
}


def _rotate(call: Call, shape: HeadShape) -> None:
    """Turns queries in place; puts turned keys, and values, into the caches."""
    function, given = call.function, call.given
    row, head = call.chunk // given["cache_heads"], call.chunk % given["cache_heads"]
    line = given["mixed"].at(row * given["width"] * 4)
    keys, values = _cached(call, row, head, shape)
    slot = given["slots"].load(I32, row).to(I64)
    with function.loop(0, given["sharing"]) as number:
        place = given["query"] + (head * given["sharing"] + number) * given["query_step"]
        query = line.at(place * 4)
        for first, turned in _turned(call, query, row, shape):
            query.store(turned, first)
    key = line.at((given["key"] + head * given["key_step"]) * 4)
    # The panel of 16 positions, and this position's lane in it.
    panel = keys.at((slot // LANES * (shape.size * LANES) + slot % LANES) * _BYTES)
    for first, turned in _turned(call, key, row, shape):
        narrow = turned.to(F16)
        for lane in range(turned.type.count):
            panel.store(narrow.lane(lane), (first + lane) * LANES)
    value = line.at((given["value"] + head * given["value_step"]) * 4)
    for first in range(0, shape.size, LANES):
        values.store(value.load(_NUMBERS, first).to(F16), slot * shape.size + first)


def _turned(call: Call, head: Value, row: Value, shape: HeadShape) -> list[tuple[int, Value]]:
    """A head's rotated numbers: where each vector begins, and the vector."""
    given = call.given
    lanes = min(LANES, shape.half)
    kind = vector(F32, lanes)
    turned = []
    for section in range(shape.sections):
        place = given["positions"].load(I32, row + given["stride"] * section).to(I64)
        angles = given["angles"].at(place * (4 * shape.cos_sin_width))
        start = section * 2 * shape.half
        for offset in range(0, shape.half, lanes):
            cos, sin = (angles.load(kind, offset + part) for part in (0, shape.half))
            places = (start + offset, start + offset + shape.half)
            one, other = (head.load(kind, first) for first in places)
            turned.append((places[0], one * cos - other * sin))
            turned.append((places[1], other * cos + one * sin))
    return turned


def _cached(call: Call, row: Value, head: Value, shape: HeadShape) -> tuple[Value, Value]:
    """Where a row's keys and values of one head lie."""
    given = call.given
    size = given["capacities"].load(I64, row) * (shape.size * _BYTES)
    number = given["layer"] * given["cache_heads"] + head
    keys = given["caches"].load(POINTER, row).at(number * size * 2)
    return keys, keys.at(size)


# A block is up to four rows of one sequence: "block_rows" says which is the first, "block_sizes"
# how many. "seen" says for each row how many positions it sees. Each thread has "room" bytes of
# "scores". A chunk is a block's head.
_ATTEND = {
    **_HEADS,
    "heads": I64,
    "block_rows": POINTER,
    "block_sizes": POINTER,
    "seen": POINTER,
    "scores": POINTER,
    "room": I64,
    **ARGUMENTS,
}


def _attend(call: Call, shape: HeadShape) -> None:
    """Softmax of scaled products of queries and keys, and the mean of values that it gives."""
    function, given = call.function, call.given
    block, head = call.chunk // given["heads"], call.chunk % given["heads"]
    first = given["block_rows"].load(I32, block).to(I64)
    size = given["block_sizes"].load(I32, block)
    for count in (BLOCK, 1):
        with function.when(size.equals(count)):
            _Attention(call, shape, first, head, count).write()


class _Attention:
    """One head of a block of rows.

    Args:
        call: the kernel under construction.
        shape: of the head.
        first: the first row.
        head: which head.
        count: how many rows.
    """

    def __init__(self, call: Call, shape: HeadShape, first: Value, head: Value, count: int) -> None:
        given = call.given
        self._call = call
        self._function = call.function
        self._shape = shape
        self._head = head
        self._rows = [first + number for number in range(count)]
        self._keys, self._values = _cached(call, first, head // given["sharing"], shape)
        self._seen = [given["seen"].load(I32, row).to(I64) for row in self._rows]
        # Of the same sequence, the last row sees the most.
        self._most = self._seen[-1]
        scores = given["scores"].at(call.thread * given["room"])
        each = (self._most + (TILE - 1)) // TILE * (TILE * 4)
        self._scores = [scores.at(each * number) for number in range(count)]

    def write(self) -> None:
        """Writes the code."""
        peaks = self._write_scores()
        shares = [
            self._write_shares(scores, peak)
            for scores, peak in zip(self._scores, peaks, strict=True)
        ]
        for number in range(self._shape.size // GROUP):
            if number * GROUP % (_VECTORS * LANES) == 0:
                width = min(_VECTORS * LANES, self._shape.size - number * GROUP)
                self._write_means(number, width, shares)

    def _write_scores(self) -> list[Value]:
        """Stores the scores of all positions; gives each row's largest."""
        function, given = self._function, self._call.given
        place = given["query"] + self._head * given["query_step"]
        queries = [given["mixed"].at((row * given["width"] + place) * 4) for row in self._rows]
        lowest = function.constant(_NUMBERS, -math.inf)
        peaks = [function.variable(lowest) for _ in self._rows]
        with function.loop(0, self._most, TILE) as position:
            tile = self._keys.at(position * (self._shape.size * _BYTES))
            for row, query_sums in enumerate(self._tile_products(tile, queries)):
                self._put_scores(row, position, query_sums, peaks[row])
        return [function.largest(peak.value) for peak in peaks]

    def _tile_products(self, tile: Value, queries: Sequence[Value]) -> list[list[Value]]:
        """Products of each query with the keys of a tile: vectors of 16 positions."""
        function, size = self._function, self._shape.size
        zero = function.constant(_NUMBERS, 0.0)
        panels = range(TILE // LANES)
        sums = [[function.variable(zero) for _ in panels] for _ in queries]
        with function.loop(0, size) as number:
            keys = [
                tile.load(vector(F16), number * LANES + panel * size * LANES).to(F32)
                for panel in panels
            ]
            for query, totals in zip(queries, sums, strict=True):
                factor = query.load(F32, number).splat()
                for key, total in zip(keys, totals, strict=True):
                    total.set(key.times(factor, total.value))
        return [[total.value for total in totals] for totals in sums]

    def _put_scores(
        self, row: int, position: Value, products: Sequence[Value], peak: Variable
    ) -> None:
        function = self._function
        for panel, product in enumerate(products):
            first = position + panel * LANES
            numbers = function.constant(vector(I64), range(LANES)) + first
            score = function.choose(
                numbers < self._seen[row], product * self._shape.size**-0.5, -math.inf
            )
            self._scores[row].store(score, first)
            peak.set(function.maximum(peak.value, score))

    def _write_shares(self, scores: Value, peak: Value) -> Value:
        """Makes scores their exponentials; gives 1 / their sum."""
        function = self._function
        total = function.variable(function.constant(_NUMBERS, 0.0))
        with function.loop(0, self._most, LANES) as position:
            share = exp(function, scores.load(_NUMBERS, position) - peak)
            scores.store(share, position)
            total.set(total.value + share)
        return 1.0 / function.sum(total.value)

    def _write_means(self, group: int, width: int, shares: Sequence[Value]) -> None:
        """Weighs some columns of the values, and rounds what comes of it."""
        function, size = self._function, self._shape.size
        starts = range(group * GROUP, group * GROUP + width, LANES)
        zero = function.constant(_NUMBERS, 0.0)
        sums = [[function.variable(zero) for _ in starts] for _ in self._rows]
        # Not a position further: what lies there was never written.
        with function.loop(0, self._most) as position:
            values = [
                self._values.load(vector(F16), position * size + start).to(F32) for start in starts
            ]
            for scores, totals in zip(self._scores, sums, strict=True):
                share = scores.load(F32, position).splat()
                for value, total in zip(values, totals, strict=True):
                    total.set(value.times(share, total.value))
        place = self._head * (size // GROUP) + group
        for row, share, totals in zip(self._rows, shares, sums, strict=True):
            rounded = Rounded.of(self._call.given).row(row)
            means = [total.value * share for total in totals]
            for start in range(0, len(means), GROUP // LANES):
                pair = means[start : start + GROUP // LANES]
                rounded.put(function, place + start // len(pair), pair)
