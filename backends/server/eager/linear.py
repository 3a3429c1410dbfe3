"""Matrix products with weights that are stored in different ways, behind one face.

A linear layer is a matrix with a bias; the embedding is a matrix whose rows are looked up, and
which as the head is multiplied with: so one copy serves both. ``Storage`` names the kinds that a
network is made of.

- Plain: 32 or 16 bits, computed as stored. The only kinds that can be trained.
- Exact (``Half``, ``Int8``, ``Int4``, ``GroupedInt4``): computed in float32. Weights are
  dequantised as they are used, some rows at a time, so they never take more memory than stored.
- Fast (``FastInt8``, ``FastInt4``, ``FastGroupedInt4``): activations are rounded to bfloat16, and
  torch's CPU kernels multiply them with the stored numbers. A row's scale comes to the product, in
  float32; those of groups of columns are the kernel's business.

All take and give (T, width); what they give is float32. The names of the tensors are those that
ChatGLM publishes: ``weight``, ``weight_scale``, ``bias``. Knows no network and no files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.server.checkpoints.int4 import (
    Int4Layout,
    kernel_layout,
    published_bytes,
    published_values,
)
from backends.server.checkpoints.precision import BFLOAT16, FLOAT32, INT4_GROUP
from backends.server.checkpoints.quantising import QuantisedMatrix

DTYPES = {FLOAT32: torch.float32, BFLOAT16: torch.bfloat16}
"""Of the plain precisions."""

# Rows dequantised at a time hold so many weights: few enough to stay in the CPU's cache.
_CHUNK = 2**22
# Up to so many tokens a kernel on the stored numbers is faster than making them bfloat16 first
# (2 cores, AVX-512: even at 32 to 48 tokens).
_FEW = 32


class Table(Protocol):
    """An embedding that is its own head."""

    weight: Tensor

    def rows(self, numbers: Tensor) -> Tensor:
        """Rows by number, (T,) to (T, width)."""

    def product(self, hidden: Tensor) -> Tensor:
        """The product with every row, (T, width) to (T, rows)."""


class PlainLinear(nn.Linear):
    """A layer computed in the type that it is stored in."""

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, inputs) to (T, outputs)."""
        return super().forward(hidden.to(self.weight.dtype)).float()


class PlainTable(nn.Embedding):
    """A table computed in the type that it is stored in."""

    def rows(self, numbers: Tensor) -> Tensor:
        """See ``Table``."""
        return super().forward(numbers).float()

    def product(self, hidden: Tensor) -> Tensor:
        """See ``Table``."""
        return functional.linear(hidden.to(self.weight.dtype), self.weight).float()


class StoredMatrix(nn.Module):
    """A matrix whose stored form is not the one that is computed with; linear layer and table.

    Args:
        inputs: its columns.
        outputs: its rows.
        bias: whether it has one.
    """

    weight: Tensor
    bias: Tensor | None

    stored_type = torch.int8
    stored_share = 1  # weights in one stored element

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        stored = torch.empty(outputs, inputs // self.stored_share, dtype=self.stored_type)
        self.register_buffer("weight", stored)
        self.register_buffer("bias", torch.empty(outputs) if bias else None)

    @classmethod
    def table(cls, rows: int, width: int) -> Self:
        """One without bias, with the arguments of an embedding."""
        return cls(width, rows, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """(T, inputs) to (T, outputs)."""
        product = self.product(hidden)
        return product if self.bias is None else product.add_(self.bias)

    def product(self, hidden: Tensor) -> Tensor:
        """See ``Table``."""
        hidden = hidden.float()
        chunks = (self.rows(torch.arange(*chunk)) for chunk in self._chunks())
        return torch.cat([functional.linear(hidden, rows) for rows in chunks], dim=-1)

    def rows(self, numbers: Tensor) -> Tensor:
        """See ``Table``; exact."""
        raise NotImplementedError

    def stored_form(self, matrix: QuantisedMatrix, name: str) -> Tensor:
        """What this matrix stores of a quantised one: its ``weight`` or its ``weight_scale``."""
        return self._stored(matrix.numbers()) if name == "weight" else self._scale(matrix.scales())

    def _stored(self, numbers: Tensor) -> Tensor:
        """Whole numbers (outputs, inputs) as they are stored."""
        return numbers

    def _scale(self, scales: Tensor) -> Tensor:
        """Scales as they are stored."""
        return scales

    def _chunks(self) -> Iterator[tuple[int, int]]:
        step = max(1, _CHUNK // self.inputs)
        for start in range(0, self.outputs, step):
            yield start, min(start + step, self.outputs)


class Half(StoredMatrix):
    """Stored in float16."""

    stored_type = torch.float16

    def rows(self, numbers: Tensor) -> Tensor:
        """See ``Table``; exact."""
        return self.weight[numbers].float()


class Int8(StoredMatrix):
    """Stored as whole numbers, each row with a scale: a weight is its number times the scale."""

    weight_scale: Tensor

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.register_buffer("weight_scale", torch.empty(outputs))

    def rows(self, numbers: Tensor) -> Tensor:
        """See ``Table``; exact."""
        return self._numbers_of(numbers) * self.weight_scale[numbers, None]

    def _numbers_of(self, rows: Tensor) -> Tensor:
        """The numbers in single rows."""
        return self.weight[rows]


class Int4(Int8):
    """The same with two numbers in a byte, as ChatGLM publishes them."""

    stored_share = 2

    def _stored(self, numbers: Tensor) -> Tensor:
        return published_bytes(numbers)

    def _numbers_of(self, rows: Tensor) -> Tensor:
        return published_values(self.weight[rows])


class GroupedInt4(Int4):
    """The same where each group of columns in a row has a scale of its own."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        scales = torch.empty(outputs, inputs // INT4_GROUP, dtype=torch.float16)
        self.register_buffer("weight_scale", scales)

    def rows(self, numbers: Tensor) -> Tensor:
        """See ``Table``; exact."""
        return _scaled_groups(self._numbers_of(numbers), self.weight_scale[numbers].float())


def _scaled_groups(numbers: Tensor, scales: Tensor) -> Tensor:
    """Whole numbers (N, K) times the scales of their groups (N, groups)."""
    groups = numbers.view(*scales.shape, -1)
    return (groups * scales.unsqueeze(-1)).flatten(1)


class _Fast(Int8):
    """Multiplies bfloat16 activations with the stored numbers."""

    def product(self, hidden: Tensor) -> Tensor:
        """See ``Table``."""
        rounded = hidden.to(torch.bfloat16)
        few = len(hidden) <= _FEW and self._takes_few()
        product = self._multiply(rounded) if few else self._multiply_by_chunks(rounded)
        return self._scaled(product.float())

    def _scaled(self, product: Tensor) -> Tensor:
        """The product with the numbers as that with the weights."""
        return product.mul_(self.weight_scale)

    def _numbers(self, start: int, stop: int) -> Tensor:
        """The numbers in neighbouring rows."""
        return self.weight[start:stop]

    def _takes_few(self) -> bool:
        """Whether the kernel can multiply this shape."""
        raise NotImplementedError

    def _multiply(self, hidden: Tensor) -> Tensor:
        """The kernel on the stored numbers, for few tokens."""
        raise NotImplementedError

    def _multiply_by_chunks(self, hidden: Tensor) -> Tensor:
        product = hidden.new_empty(len(hidden), self.outputs)
        for start, stop in self._chunks():
            numbers = self._numbers(start, stop).to(torch.bfloat16)
            product[:, start:stop] = functional.linear(hidden, numbers)
        return product


class FastInt8(_Fast):
    """Whole numbers as published."""

    def _takes_few(self) -> bool:
        # With other widths torch 2.13 reads behind the end of the matrix.
        return self.inputs % 32 == 0

    def _multiply(self, hidden: Tensor) -> Tensor:
        ones = _ones(self.outputs)
        return cast(Tensor, torch.ops.aten._weight_int8pack_mm(hidden, self.weight, ones))


class FastInt4(_Fast):
    """Four-bit numbers in the layout of torch's kernel."""

    stored_type = torch.uint8
    stored_share = 2

    def __init__(self, layout: Int4Layout, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias)
        self.layout = layout

    def _stored(self, numbers: Tensor) -> Tensor:
        return self.layout.pack(published_bytes(numbers))

    def _numbers_of(self, rows: Tensor) -> Tensor:
        return self.layout.rows(self.weight, rows)

    def _numbers(self, start: int, stop: int) -> Tensor:
        return self.layout.values(self.weight, start, stop)

    def _chunks(self) -> Iterator[tuple[int, int]]:
        return self.layout.chunks(self.outputs, self.inputs)

    def _takes_few(self) -> bool:
        return True

    def _multiply(self, hidden: Tensor) -> Tensor:
        # The kernel's own scales are by groups of columns: all 1, with zeros at 0.
        group = next(size for size in (256, 128, 64, 32) if self.inputs % size == 0)
        ones = _group_ones(self.inputs // group, self.outputs)
        product = torch.ops.aten._weight_int4pack_mm_for_cpu(hidden, self.weight, group, ones)
        return cast(Tensor, product)


class FastGroupedInt4(FastInt4):
    """The same with the scales of groups of columns, rounded to bfloat16 as the kernel wants."""

    def __init__(self, layout: Int4Layout, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(layout, inputs, outputs, bias)
        # Behind each scale stands its zero.
        scales = torch.empty(inputs // INT4_GROUP, outputs, 2, dtype=torch.bfloat16)
        self.register_buffer("weight_scale", scales)

    def rows(self, numbers: Tensor) -> Tensor:
        """See ``Table``; exact but for the rounded scales."""
        return _scaled_groups(self._numbers_of(numbers), self._scales_of(numbers).float())

    def _scale(self, scales: Tensor) -> Tensor:
        rounded = scales.T.to(torch.bfloat16)
        return torch.stack((rounded, torch.zeros_like(rounded)), dim=-1)

    def _scales_of(self, rows: slice | Tensor) -> Tensor:
        return self.weight_scale[:, rows, 0].T

    def _scaled(self, product: Tensor) -> Tensor:
        return product

    def _numbers(self, start: int, stop: int) -> Tensor:
        """The weights in neighbouring rows."""
        numbers = super()._numbers(start, stop).to(torch.bfloat16)
        return _scaled_groups(numbers, self._scales_of(slice(start, stop)))

    def _multiply(self, hidden: Tensor) -> Tensor:
        product = torch.ops.aten._weight_int4pack_mm_for_cpu(
            hidden, self.weight, INT4_GROUP, self.weight_scale
        )
        return cast(Tensor, product)


@cache
def _ones(outputs: int) -> Tensor:
    return torch.ones(outputs, dtype=torch.bfloat16)


@cache
def _group_ones(groups: int, outputs: int) -> Tensor:
    scales = torch.ones(groups, outputs, dtype=torch.bfloat16)
    return torch.stack((scales, torch.zeros_like(scales)), dim=-1)


class MakeLinear(Protocol):
    """Makes a linear layer."""

    def __call__(self, inputs: int, outputs: int, bias: bool = True) -> nn.Module:
        """One of this shape."""


@dataclass(frozen=True)
class Storage:
    """How a network stores its matrices, and in what it computes between them.

    Attributes:
        linear: makes a layer.
        table: makes the embedding, or the head, of its rows and width.
        attention: the type of keys and values, and of the products of attention.
    """

    linear: MakeLinear
    table: Callable[[int, int], Table]
    attention: torch.dtype


def plain(dtype: torch.dtype) -> Storage:
    """Unquantised, in float32 or bfloat16."""
    return Storage(partial(PlainLinear, dtype=dtype), partial(PlainTable, dtype=dtype), dtype)


PLAIN = plain(torch.float32)


def exact(bits: int, table_bits: int) -> Storage:
    """As ChatGLM publishes it in 8 or 4 bits, the table perhaps in 16; computed in float32."""
    kinds: dict[int, type[StoredMatrix]] = {16: Half, 8: Int8, 4: Int4}
    return Storage(kinds[bits], kinds[table_bits].table, torch.float32)


def fast(bits: int, table_bits: int, *, grouped: bool = False) -> Storage:
    """For torch's kernels.

    A 16-bit table becomes bfloat16, in which the head takes half of float16's time. In 8 bits it
    would take half of that again, but doubles the error of the whole network (2026-11, the golden
    set of ChatGLM: 8 % instead of 4 % of the logits' spread).

    Args:
        bits: of the layers.
        table_bits: of the table.
        grouped: whether numbers of four bits have a scale a group, not a row.
    """

    def table(rows: int, width: int) -> Table:
        if table_bits == 16:
            return PlainTable(rows, width, dtype=torch.bfloat16)
        return _fast_matrix(table_bits, grouped, width, rows, bias=False)

    return Storage(partial(_fast_matrix, bits, grouped), table, torch.bfloat16)


def _fast_matrix(
    bits: int, grouped: bool, inputs: int, outputs: int, bias: bool = True
) -> StoredMatrix:
    if bits == 8:
        return FastInt8(inputs, outputs, bias)
    layout = kernel_layout()
    if layout is None or not layout.fits(outputs, inputs):
        return (GroupedInt4 if grouped else Int4)(inputs, outputs, bias)
    return (FastGroupedInt4 if grouped else FastInt4)(layout, inputs, outputs, bias)
