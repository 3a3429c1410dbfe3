"""The memory and the program of a forward pass over a flat batch.

The program is made once; what changes from pass to pass (how many rows, where their caches are,
what they see) stands in arrays that it reads. Knows no family: spans come with their positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backends.server.kernels import (
    BLOCK,
    GROUP,
    TILE,
    Argument,
    Kernels,
    Program,
    Step,
)
from backends.server.native.cache import NativeCache
from backends.server.native.decoder import Decoder, Matrix, Norm

# Chunks of a product that a thread takes at a time: small enough that all end at the same time,
# large enough that taking them costs nothing. In bytes of weights.
_LARGEST_CHUNK = 128 * 1024
_CHUNKS_PER_THREAD = 8
# Groups of 32 numbers in a chunk of the inner layer.
_GATE_CHUNK = 32


@dataclass(frozen=True, eq=False)
class Stretch:
    """Tokens of one sequence that go through together.

    Attributes:
        token_ids: (n,) the tokens.
        cache: of the sequence; has room for them already.
        positions: (sections, n) by which they are rotated.
        seen: (n,) how many positions of the sequence each of them sees.
        wanted: which of them get logits.
    """

    token_ids: NDArray[np.int64]
    cache: NativeCache
    positions: NDArray[np.int64]
    seen: NDArray[np.int64]
    wanted: Sequence[int]


class _RoundedRows:
    """Rows of rounded activations.

    Args:
        rows: how many there may be.
        columns: their width.
    """

    def __init__(self, rows: int, columns: int) -> None:
        groups = columns // GROUP
        self.arguments: dict[str, Argument] = {
            "numbers": np.empty((rows, columns), np.int8),
            "scales": np.empty((rows, groups), np.float32),
            "sums": np.empty((rows, groups), np.int32),
            "groups": groups,
        }


class Workspace:
    """Memory and program for at most so many rows at a time.

    Args:
        decoder: the network.
        kernels: written for its heads and its forms of weights.
        rows: the most tokens in a pass.
        threads: how many will run it.
    """

    def __init__(self, decoder: Decoder, kernels: Kernels, rows: int, threads: int) -> None:
        shape = decoder.shape
        self.rows = rows
        self._decoder = decoder
        self._kernels = kernels
        self._threads = threads
        self._ids = np.empty(rows, np.int32)
        self._positions = np.empty((shape.head.sections, rows), np.int32)
        self._caches = np.empty(rows, np.uint64)
        self._rooms = np.empty(rows, np.int64)
        self._slots = np.empty(rows, np.int32)
        self._seen = np.empty(rows, np.int32)
        self._block_rows = np.empty(rows, np.int32)
        self._block_sizes = np.empty(rows, np.int32)
        self._every_row = np.arange(rows, dtype=np.int32)
        self._wanted_rows = np.empty(rows, np.int32)
        # How much work there is: what a program's steps read as their chunks.
        self._row_count, self._head_rows, self._blocks, self._gates, self._wanted = (
            np.zeros(1, np.int64) for _ in range(5)
        )
        self._hidden = np.empty((rows, shape.hidden), np.float32)
        self._mixed = np.empty((rows, decoder.layers[0].mixed.width), np.float32)
        self._inner = np.empty((rows, decoder.layers[0].up.width), np.float32)
        self._rounded = _RoundedRows(rows, shape.hidden)
        self._rounded_heads = _RoundedRows(rows, shape.heads * shape.head.size)
        self._rounded_inner = _RoundedRows(rows, shape.inner)
        room = -(-shape.context // TILE) * TILE * BLOCK
        self._scores = np.empty((threads, room), np.float32)
        self._gate_chunks = -(-(shape.inner // GROUP) // _GATE_CHUNK)
        steps = self._steps()
        self.program = Program(steps)
        self._head_step = len(steps) - 1

    def fill(self, parts: Sequence[Stretch]) -> NDArray[np.float32]:
        """Gets ready for a pass; gives the array for the logits, (wanted, vocab)."""
        count, blocks, wanted = 0, 0, 0
        for part in parts:
            number = len(part.token_ids)
            rows = slice(count, count + number)
            past = part.cache.length
            self._ids[rows] = part.token_ids
            self._positions[:, rows] = part.positions
            self._decoder.angles.reach(int(part.positions.max()))
            self._caches[rows] = part.cache.address
            self._rooms[rows] = part.cache.room
            self._slots[rows] = np.arange(past, past + number)
            self._seen[rows] = part.seen
            blocks = self._add_blocks(blocks, count, number)
            chosen = len(part.wanted)
            self._wanted_rows[wanted : wanted + chosen] = np.add(part.wanted, count)
            wanted += chosen
            count += number
        shape = self._decoder.shape
        self._row_count[0] = count
        self._head_rows[0] = count * shape.cache_heads
        self._blocks[0] = blocks * shape.heads
        self._gates[0] = count * self._gate_chunks
        self._wanted[0] = wanted
        logits = np.empty((wanted, self._decoder.head.width), np.float32)
        out = self._kernels.argument(_product_name(self._decoder.head), "out")
        self.program.point(self._head_step, out, logits)
        return logits

    def _add_blocks(self, blocks: int, first: int, number: int) -> int:
        """Cuts a part's rows into blocks of four and single ones; gives how many there are now."""
        full = number // BLOCK
        end = blocks + full + number % BLOCK
        self._block_rows[blocks : blocks + full] = first + BLOCK * np.arange(full)
        self._block_sizes[blocks : blocks + full] = BLOCK
        self._block_rows[blocks + full : end] = np.arange(first + full * BLOCK, first + number)
        self._block_sizes[blocks + full : end] = 1
        return end

    def _steps(self) -> list[Step]:
        decoder, shape = self._decoder, self._decoder.shape
        rounded, heads, inner = self._rounded, self._rounded_heads, self._rounded_inner
        steps = [self._look_up()]
        for number, layer in enumerate(decoder.layers):
            steps += [
                self._norm(layer.attention_norm, self._every_row, self._row_count),
                self._product(layer.mixed, rounded, self._mixed, self._row_count),
                *self._attention(number),
                self._product(layer.dense, heads, self._hidden, self._row_count, adds=True),
                self._norm(layer.inner_norm, self._every_row, self._row_count),
                self._product(layer.up, rounded, self._inner, self._row_count),
                self._gate(shape.activation),
                self._product(layer.down, inner, self._hidden, self._row_count, adds=True),
            ]
        # The array for the logits is another in every pass.
        nowhere = np.empty((1, decoder.head.width), np.float32)
        return [
            *steps,
            self._norm(decoder.final_norm, self._wanted_rows, self._wanted),
            self._product(decoder.head, rounded, nowhere, self._wanted),
        ]

    def _look_up(self) -> Step:
        table = self._decoder.table
        arguments: dict[str, Argument] = {
            "ids": self._ids,
            "weights": table.weights,
            "row_scales": table.scales,
            "columns": table.columns,
            "out": self._hidden,
        }
        return self._kernels.step("look_up", arguments, self._row_count)

    def _norm(self, norm: Norm, index: NDArray[np.int32], count: NDArray[np.int64]) -> Step:
        shape = self._decoder.shape
        arguments: dict[str, Argument] = {
            "source": self._hidden,
            "index": index,
            "width": shape.hidden,
            "weight": norm.weight,
            "bias": norm.bias,
            "epsilon": shape.epsilon,
            "keep": shape.residual or 1.0,
            **self._rounded.arguments,
        }
        return self._kernels.step(shape.norm, arguments, count)

    def _product(
        self,
        matrix: Matrix,
        source: _RoundedRows,
        out: NDArray[np.float32],
        rows: NDArray[np.int64],
        *,
        adds: bool = False,
    ) -> Step:
        in_chunk = self._panels_in_chunk(matrix)
        arguments: dict[str, Argument] = {
            "weights": matrix.weights,
            "weight_scales": matrix.scales,
            "bias": matrix.bias,
            "panels": matrix.panels,
            "in_chunk": in_chunk,
            **source.arguments,
            "out": out,
            "width": matrix.width,
            "rows": rows,
            "adds": int(adds),
        }
        chunks = -(-matrix.panels // in_chunk)
        return self._kernels.step(_product_name(matrix), arguments, chunks)

    def _panels_in_chunk(self, matrix: Matrix) -> int:
        even = matrix.panels // (_CHUNKS_PER_THREAD * self._threads)
        return max(1, min(even, _LARGEST_CHUNK * matrix.panels // matrix.weights.nbytes))

    def _attention(self, layer: int) -> tuple[Step, Step]:
        shape, places = self._decoder.shape, self._decoder.shape.places
        common: dict[str, Argument] = {
            "mixed": self._mixed,
            "width": self._mixed.shape[1],
            "query": places.query,
            "query_step": places.query_step,
            "caches": self._caches,
            "capacities": self._rooms,
            "layer": layer,
            "cache_heads": shape.cache_heads,
            "sharing": shape.heads // shape.cache_heads,
        }
        rotate: dict[str, Argument] = {
            "key": places.key,
            "key_step": places.key_step,
            "value": places.value,
            "value_step": places.key_step,
            "angles": self._decoder.angles.table,
            "positions": self._positions,
            "stride": self.rows,
            "slots": self._slots,
        }
        attend: dict[str, Argument] = {
            "heads": shape.heads,
            "block_rows": self._block_rows,
            "block_sizes": self._block_sizes,
            "seen": self._seen,
            "scores": self._scores,
            "room": self._scores[0].nbytes,
            **self._rounded_heads.arguments,
        }
        return (
            self._kernels.step("rotate", {**common, **rotate}, self._head_rows),
            self._kernels.step("attend", {**common, **attend}, self._blocks),
        )

    def _gate(self, activation: str) -> Step:
        arguments: dict[str, Argument] = {
            "source": self._inner,
            "width": self._inner.shape[1],
            "in_chunk": _GATE_CHUNK,
            "row_chunks": self._gate_chunks,
            **self._rounded_inner.arguments,
        }
        return self._kernels.step(activation, arguments, self._gates)


def _product_name(matrix: Matrix) -> str:
    return f"product_{matrix.form.name}"
