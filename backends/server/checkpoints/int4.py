"""How four-bit weights lie in bytes: as ChatGLM publishes them, and as torch's CPU kernel wants.

Only moves bits, which loses nothing; multiplies nothing. N is a matrix's number of rows (outputs),
K of its columns (inputs); both forms have N * K / 2 bytes.

Published: byte j of a row holds column 2j in its high four bits and column 2j + 1 in its low ones,
both as signed numbers. For the kernel: rows are taken together in blocks. A block holds one column
of all its rows after the other; each byte holds two rows, as numbers 8 larger than they are. Which
two, and how large a block is, depends on the CPU: see ``Int4Layout``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

# What turns a signed four-bit number into one that is 8 larger, for both halves of a byte.
_FLIP_SIGNS = 0x88
_LARGEST_CHUNK = 2**22


def published_values(published: Tensor) -> Tensor:
    """The numbers in published bytes: int8 (N, K / 2) to int8 (N, K), -8 to 7."""
    signed = published.view(torch.int8)
    return torch.stack((signed >> 4, (signed << 4) >> 4), dim=-1).flatten(-2)


def published_bytes(values: Tensor) -> Tensor:
    """The same numbers as published: int8 (N, K), -8 to 7, to int8 (N, K / 2)."""
    return (values[..., ::2] << 4) | (values[..., 1::2] & 0x0F)


@dataclass(frozen=True)
class Int4Layout:
    """One of the kernel's layouts.

    Attributes:
        name: by which packed files are told apart.
        block: rows in a block. What remains of the rows is a smaller block.
        halves: whether byte j of a column holds rows j and block / 2 + j; else rows 2j and 2j + 1,
            as in the smaller block at the end always.
    """

    name: str
    block: int
    halves: bool

    @staticmethod
    def fits(rows: int, columns: int) -> bool:
        """Whether the kernel takes a matrix of that shape."""
        return rows % 16 == 0 and columns % 32 == 0

    def pack(self, published: Tensor) -> Tensor:
        """Published bytes (N, K / 2) as the kernel wants them, uint8 (N, K / 2)."""
        packed = torch.empty(published.shape, dtype=torch.uint8)
        for start, stop in self.chunks(*_shape(published)):
            packed[start:stop] = self._pack_chunk(published[start:stop], start, len(published))
        return packed

    def values(self, packed: Tensor, start: int, stop: int) -> Tensor:
        """The numbers in rows ``start`` to ``stop``, one of ``chunks``: int8 (stop - start, K)."""
        columns = 2 * packed.shape[1]
        block, halves = self._block_at(start, len(packed))
        half = block // 2
        pairs = packed[start:stop].reshape(-1, columns, half).transpose(1, 2).contiguous()
        shape = (2, half) if halves else (half, 2)
        both = torch.empty(len(pairs), *shape, columns, dtype=torch.uint8)
        low, high = both.unbind(1 if halves else 2)
        torch.bitwise_and(pairs, 15, out=low)
        torch.bitwise_right_shift(pairs, 4, out=high)
        return both.view(torch.int8).sub_(8).view(-1, columns)

    def rows(self, packed: Tensor, numbers: Tensor) -> Tensor:
        """The numbers in single rows: int8 (rows, K)."""
        columns = 2 * packed.shape[1]
        whole = len(packed) // self.block * self.block
        in_tail = numbers >= whole
        block = torch.where(in_tail, len(packed) - whole, self.block)
        start = torch.where(in_tail, whole, numbers - numbers % self.block)
        halves = ~in_tail & self.halves
        half, place = block // 2, numbers - start
        byte = torch.where(halves, place % half, place // 2)
        upper = torch.where(halves, place // half, place % 2)
        steps = torch.arange(columns)
        where = (start * packed.shape[1] + byte)[:, None] + half[:, None] * steps
        pairs = packed.flatten()[where]
        lifted = torch.where(upper[:, None] == 1, pairs >> 4, pairs & 15)
        return lifted.view(torch.int8) - 8

    def chunks(self, rows: int, columns: int) -> Iterator[tuple[int, int]]:
        """Ranges of rows that together are all: whole blocks, of moderate size, or the last one."""
        whole = rows // self.block * self.block
        step = max(self.block, _LARGEST_CHUNK // columns // self.block * self.block)
        yield from ((start, min(start + step, whole)) for start in range(0, whole, step))
        if whole < rows:
            yield whole, rows

    def _pack_chunk(self, published: Tensor, start: int, all_rows: int) -> Tensor:
        block, halves = self._block_at(start, all_rows)
        lifted = published.view(torch.uint8) ^ _FLIP_SIGNS
        blocks = lifted.view(-1, block, published.shape[1])
        # The rows of the low four bits, and those of the high ones.
        low, high = blocks.chunk(2, dim=1) if halves else (blocks[:, ::2], blocks[:, 1::2])
        even = (low >> 4) | (high & 0xF0)
        odd = (low & 0x0F) | (high << 4)
        columns = torch.stack((even, odd), dim=-1).flatten(2)
        return columns.transpose(1, 2).reshape(published.shape)

    def _block_at(self, start: int, all_rows: int) -> tuple[int, bool]:
        """Size and form of the block that begins at a row."""
        left = all_rows - start
        return (self.block, self.halves) if left >= self.block else (left, False)


LAYOUTS = (
    Int4Layout("avx512", 64, halves=True),
    Int4Layout("avx2", 32, halves=True),
    Int4Layout("default", 32, halves=False),
)


@cache
def kernel_layout() -> Int4Layout | None:
    """The layout that torch's kernel reads on this CPU; None: one that isn't known here.

    Found by letting torch pack a small matrix, since nothing else promises to tell.
    """
    # Whatever device new tensors are made on at present, and without touching its random numbers.
    with torch.device("cpu"):
        seeded = torch.Generator().manual_seed(0)
        published = torch.randint(-128, 128, (176, 16), dtype=torch.int8, generator=seeded)
        numbers = published_values(published).to(torch.int32) + 8
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
        found = (layout for layout in LAYOUTS if torch.equal(layout.pack(published), packed))
        return next(found, None)


def _shape(published: Tensor) -> tuple[int, int]:
    return len(published), 2 * published.shape[1]
