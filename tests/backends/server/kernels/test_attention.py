import math

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.server.kernels import BLOCK, LANES, TILE, Argument, HeadShape, Kernels
from tests.backends.server.kernels.conftest import Compiled
from tests.backends.server.kernels.steps import RoundedRows, run

SHAPES = (
    HeadShape(32),
    HeadShape(32, 2),
    HeadShape(64),
    HeadShape(128, 2),
    HeadShape(96),
    HeadShape(64, 4),
)
LAYERS = 2


class Sequences:
    """Rows of mixed queries, keys and values of some sequences, and their caches.

    Args:
        shape: of the heads.
        heads: queries.
        cache_heads: keys and values.
        lengths: for each sequence how many tokens came before, and how many come now.
        separate: whether queries, keys and values are thirds of a head and not of a row.
    """

    def __init__(
        self,
        shape: HeadShape,
        heads: int,
        cache_heads: int,
        lengths: tuple[tuple[int, int], ...],
        *,
        separate: bool = False,
    ) -> None:
        self.shape, self.heads, self.cache_heads, self.lengths = shape, heads, cache_heads, lengths
        self.separate = separate
        random = np.random.default_rng(0)
        rows = sum(new for _, new in lengths)
        width = (heads + 2 * cache_heads) * shape.size
        self.mixed = random.normal(0, 1, (rows, width)).astype(np.float32)
        self.positions = random.integers(0, 50, (shape.sections, rows)).astype(np.int32)
        turns = random.normal(0, 1, (50, shape.half))
        self.angles = np.concatenate((np.cos(turns), np.sin(turns)), axis=1).astype(np.float32)
        room = TILE * 3
        size = LAYERS * cache_heads * 2 * room * shape.size
        # What was never written may be anything.
        self.caches = [np.full(size, np.nan, np.float16) for _ in lengths]
        self.room = room
        self._random = random

    @property
    def rows(self) -> int:
        return len(self.mixed)

    @property
    def arguments(self) -> dict[str, Argument]:
        size = self.shape.size
        step = 3 * size if self.separate else size
        first_key = size if self.separate else self.heads * size
        self._addresses = np.concatenate(
            [
                np.full(new, cache.ctypes.data, np.uint64)
                for cache, (_, new) in zip(self.caches, self.lengths, strict=True)
            ]
        )
        self._rooms = np.full(self.rows, self.room)
        self._key_places = {
            "key": first_key,
            "key_step": step,
            "value": 2 * size if self.separate else first_key + self.cache_heads * size,
            "value_step": step,
        }
        return {
            "mixed": self.mixed,
            "width": self.mixed.shape[1],
            "query": 0,
            "query_step": step,
            "caches": self._addresses,
            "capacities": self._rooms,
            "layer": 1,
            "cache_heads": self.cache_heads,
            "sharing": self.heads // self.cache_heads,
        }

    def head(self, row: int, kind: int, number: int) -> NDArray[np.float32]:
        """A query (0), key (1) or value (2)."""
        size = self.shape.size
        if self.separate:
            start = (3 * number + kind) * size
        else:
            start = (0, self.heads, self.heads + self.cache_heads)[kind] * size + number * size
        return self.mixed[row, start : start + size]

    def turned(self, row: int, head: NDArray[np.float32]) -> NDArray[np.float32]:
        """A rotated head."""
        result = head.copy()
        for section in range(self.shape.sections):
            cos, sin = np.split(self.angles[self.positions[section, row]], 2)
            start = section * 2 * self.shape.half
            first = slice(start, start + self.shape.half)
            second = slice(start + self.shape.half, start + 2 * self.shape.half)
            result[first] = head[first] * cos - head[second] * sin
            result[second] = head[second] * cos + head[first] * sin
        return result

    def parts(self, sequence: int) -> NDArray[np.float16]:
        """Keys and values, (layers, heads, 2, room * size)."""
        return self.caches[sequence].reshape(LAYERS, self.cache_heads, 2, -1)

    def keys(self, sequence: int, head: int) -> NDArray[np.float16]:
        """Of layer 1, (room, size)."""
        panels = self.parts(sequence)[1, head, 0].reshape(-1, self.shape.size, LANES)
        keys: NDArray[np.float16] = panels.transpose(0, 2, 1).reshape(self.room, self.shape.size)
        return keys

    def values(self, sequence: int, head: int) -> NDArray[np.float16]:
        """Of layer 1, (room, size)."""
        values: NDArray[np.float16] = self.parts(sequence)[1, head, 1]
        return values.reshape(self.room, self.shape.size)

    def fill(self) -> None:
        """Writes keys and values of all tokens, before and now."""
        for sequence, (before, new) in enumerate(self.lengths):
            for head in range(self.cache_heads):
                count = before + new
                keys = np.full((self.room, self.shape.size), np.nan, np.float16)
                keys[:count] = self._random.normal(0, 1, (count, self.shape.size))
                panels = keys.reshape(-1, LANES, self.shape.size).transpose(0, 2, 1)
                self.parts(sequence)[1, head, 0] = panels.reshape(-1)
                self.values(sequence, head)[:count] = self._random.normal(
                    0, 1, (count, self.shape.size)
                )


def _rotate(kernels: Kernels, sequences: Sequences, threads: int = 2) -> None:
    slots = np.concatenate([np.arange(p, p + n) for p, n in sequences.lengths]).astype(np.int32)
    arguments: dict[str, Argument] = {
        **sequences.arguments,
        **sequences._key_places,
        "angles": sequences.angles,
        "positions": sequences.positions,
        "stride": sequences.rows,
        "slots": slots,
    }
    run(kernels, "rotate", arguments, sequences.rows * sequences.cache_heads, threads)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("heads", [(4, 4, True), (4, 4, False), (4, 2, False), (3, 1, False)])
def test_keys_and_values_go_to_their_places_and_queries_are_turned(
    compiled: Compiled, shape: HeadShape, heads: tuple[int, int, bool]
) -> None:
    queries, cached, separate = heads
    sequences = Sequences(shape, queries, cached, ((0, 5), (70, 1), (15, 3)), separate=separate)
    before = sequences.mixed.copy()
    _rotate(compiled(shape), sequences)
    turned = sequences.mixed.copy()
    sequences.mixed[:] = before
    row = 0
    for number, (past, new) in enumerate(sequences.lengths):
        for slot in range(past, past + new):
            for head in range(cached):
                key = sequences.turned(row, sequences.head(row, 1, head))
                np.testing.assert_allclose(
                    sequences.keys(number, head)[slot], key, rtol=1e-3, atol=1e-3
                )
                np.testing.assert_array_equal(
                    sequences.values(number, head)[slot],
                    sequences.head(row, 2, head).astype(np.float16),
                )
            for head in range(queries):
                query = sequences.turned(row, sequences.head(row, 0, head))
                sequences.mixed[:] = turned
                np.testing.assert_allclose(
                    sequences.head(row, 0, head), query, rtol=1e-5, atol=1e-5
                )
                sequences.mixed[:] = before
            row += 1
        written = past + new
        assert np.isnan(sequences.values(number, 0)[written:]).all()
        assert np.isnan(sequences.parts(number)[0]).all()  # the other layer


def _blocks(lengths: tuple[tuple[int, int], ...]) -> tuple[list[int], list[int]]:
    rows, sizes, first = [], [], 0
    for _, new in lengths:
        for start in range(0, new // BLOCK * BLOCK, BLOCK):
            rows.append(first + start)
            sizes.append(BLOCK)
        for start in range(new // BLOCK * BLOCK, new):
            rows.append(first + start)
            sizes.append(1)
        first += new
    return rows, sizes


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
@pytest.mark.parametrize("both_ways", [False, True])
def test_attention_is_the_mean_of_the_values_that_are_seen(
    compiled: Compiled, shape: HeadShape, heads: tuple[int, int], both_ways: bool
) -> None:
    lengths = ((0, 9), (130, 1), (63, 2), (17, 4))
    sequences = Sequences(shape, *heads, lengths)
    sequences.fill()
    seen = np.concatenate(
        [
            np.full(new, past + new) if both_ways else np.arange(past + 1, past + new + 1)
            for past, new in lengths
        ]
    ).astype(np.int32)
    out = RoundedRows(sequences.rows, heads[0] * shape.size)
    rows, sizes = _blocks(lengths)
    scores = np.empty((2, BLOCK * 4 * TILE), np.float32)
    arguments: dict[str, Argument] = {
        **sequences.arguments,
        "heads": heads[0],
        "block_rows": np.array(rows, np.int32),
        "block_sizes": np.array(sizes, np.int32),
        "seen": seen,
        "scores": scores,
        "room": scores[0].nbytes,
        **out.arguments,
    }
    run(compiled(shape), "attend", arguments, len(rows) * heads[0], threads=2)
    expected = _expected(sequences, seen)
    np.testing.assert_allclose(out.values, expected, atol=0.51 / 127 * abs(expected).max())
    fine = abs(out.values - expected).reshape(len(expected), -1, 32)
    assert (fine <= 0.51 * out.scales[..., None] + 1e-6).all()


def _expected(sequences: Sequences, seen: NDArray[np.int32]) -> NDArray[np.float64]:
    sharing = sequences.heads // sequences.cache_heads
    results, row = [], 0
    for number, (_, new) in enumerate(sequences.lengths):
        for _ in range(new):
            heads = []
            for head in range(sequences.heads):
                keys = sequences.keys(number, head // sharing)[: seen[row]].astype(np.float64)
                values = sequences.values(number, head // sharing)[: seen[row]].astype(np.float64)
                scores = keys @ sequences.head(row, 0, head) / math.sqrt(sequences.shape.size)
                shares = np.exp(scores - scores.max())
                heads.append(shares @ values / shares.sum())
            results.append(np.concatenate(heads))
            row += 1
    return np.array(results)


def test_heads_that_vectors_can_not_hold_do_not_fit() -> None:
    assert all(shape.fits for shape in SHAPES)
    assert not HeadShape(48).fits
    assert not HeadShape(96, 2).fits
    assert not HeadShape(160, 2).fits
    assert not HeadShape(20).fits
    assert HeadShape(32, 4).fits
