"""The quantised forms that every way of computing starts from, made of a checkpoint's weights.

- int8: numbers from -127 to 127, a row having one scale (float32): a weight is number times scale.
- int4: numbers from -8 to 7, each ``INT4_GROUP`` neighbouring columns of a row having one scale
  (float16). The weight of largest magnitude is -8, so the scale may be negative.

Needed only where a packed file is made. How the numbers lie in bytes, and who multiplies with
them, is the business of those who compute. Knows no files and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from backends.server.checkpoints.precision import INT4_GROUP

# Weights quantised at a time: whole matrices in float32 would take several times their size.
_CHUNK = 2**22


@dataclass(frozen=True, eq=False)
class QuantisedMatrix:
    """A matrix in whole numbers; these are made when they are asked for.

    Attributes:
        name: as published, without ".weight".
        bits: 8 or 4.
        shape: rows (outputs) and columns (inputs).
        numbers: gives int8 of that shape, each number in a byte of its own.
        scales: gives float32 (rows,), or float16 (rows, columns / INT4_GROUP).
    """

    name: str
    bits: int
    shape: tuple[int, int]
    numbers: Callable[[], Tensor]
    scales: Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class PlainTensor:
    """A tensor that is not quantised.

    Attributes:
        name: as published.
        values: gives it, in float32 or, of a table, in float16.
    """

    name: str
    shape: tuple[int, ...]
    values: Callable[[], Tensor]


Quantised = QuantisedMatrix | PlainTensor


def quantised(
    tensors: Iterable[tuple[str, Tensor]], bits: Callable[[str], int | None]
) -> Iterator[Quantised]:
    """A checkpoint's tensors, quantised where that is wanted.

    Args:
        tensors: by their published names.
        bits: says how many a tensor is to have; None: it stays as it is, in float32.
    """
    for name, tensor in tensors:
        wanted = bits(name)
        if wanted is None:
            yield PlainTensor(name, tuple(tensor.shape), tensor.float)
        else:
            yield quantised_matrix(name.removesuffix(".weight"), tensor, wanted)


def quantised_matrix(name: str, weight: Tensor, bits: int) -> QuantisedMatrix:
    """A matrix (rows, columns) of floats in 8 or 4 bits."""
    scales_of, numbers_of = _FORMS[bits]
    scales = partial(_by_chunks, scales_of, weight)
    rows, columns = weight.shape
    return QuantisedMatrix(
        name, bits, (rows, columns), lambda: _by_chunks(numbers_of, weight, scales()), scales
    )


def int8_scales(weight: Tensor) -> Tensor:
    """The scale of each row: (rows, columns) to float32 (rows,)."""
    return weight.abs().amax(dim=1).float() / 127


def int8_numbers(weight: Tensor, scales: Tensor) -> Tensor:
    """The numbers of a matrix with these scales, int8 (rows, columns)."""
    return _divided(weight, scales.unsqueeze(1)).round_().clamp_(-127, 127).to(torch.int8)


def int4_scales(weight: Tensor) -> Tensor:
    """The scale of each group: (rows, columns) to float16 (rows, columns / INT4_GROUP)."""
    groups = _grouped(weight)
    largest = groups.gather(2, groups.abs().argmax(dim=2, keepdim=True)).squeeze(2)
    return (largest.float() / -8).to(torch.float16)


def int4_numbers(weight: Tensor, scales: Tensor) -> Tensor:
    """The numbers of a matrix with these scales, int8 (rows, columns)."""
    divided = _divided(_grouped(weight), scales.unsqueeze(2))
    return divided.round_().clamp_(-8, 7).to(torch.int8).flatten(1)


def _grouped(weight: Tensor) -> Tensor:
    """(rows, columns) to (rows, groups, INT4_GROUP)."""
    return weight.reshape(len(weight), -1, INT4_GROUP)


def _divided(weight: Tensor, scales: Tensor) -> Tensor:
    """Weights over their scales, float32; 0 where there is nothing but zeros."""
    return weight.float() / scales.float().masked_fill(scales == 0, torch.inf)


def _by_chunks(function: Callable[..., Tensor], weight: Tensor, *more: Tensor) -> Tensor:
    """A function of neighbouring rows, taken of some rows at a time."""
    step = max(1, _CHUNK // weight.shape[1])
    chunks = zip(*(torch.split(tensor, step) for tensor in (weight, *more)), strict=True)
    results = (function(*chunk) for chunk in chunks)
    first = next(results)
    # Not one by one and then together: a table would be in memory twice.
    whole = first.new_empty(len(weight), *first.shape[1:])
    whole[: len(first)] = first
    for number, result in enumerate(results, 1):
        whole[number * step :][: len(result)] = result
    return whole


_FORMS = {8: (int8_scales, int8_numbers), 4: (int4_scales, int4_numbers)}
