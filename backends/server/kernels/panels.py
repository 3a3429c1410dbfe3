"""Lays out weights as the kernels read them, and reads them back.

A panel is 16 neighbouring rows of a matrix. In it, for each four columns, stand four numbers of
each row; with four bits a number, eight columns share those 64 bytes, the first four in the lower
halves. Rows that a matrix lacks to a full panel are zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backends.server.kernels.emit import LANES
from backends.server.kernels.products import Weights
from backends.server.kernels.rounding import GROUP

_PANELS = 256  # packed at a time


def panel_count(rows: int) -> int:
    """How many panels a matrix of so many rows has."""
    return -(-rows // LANES)


def panel_bytes(columns: int, form: Weights) -> int:
    """Size of a panel."""
    return columns // GROUP * form.group_bytes


def fits(columns: int) -> bool:
    """Whether matrices with so many columns can be packed."""
    return columns % GROUP == 0


def pack(numbers: NDArray[np.int8], form: Weights) -> NDArray[np.uint8]:
    """Packs whole numbers, (rows, columns), of the form's range; gives panels one after another."""
    rows, columns = numbers.shape
    packed = np.empty((panel_count(rows), panel_bytes(columns, form)), np.uint8)
    # Some panels at a time: a whole table would take its size several times.
    for first in range(0, len(packed), _PANELS):
        chunk = packed[first : first + _PANELS]
        chunk[:] = _packed(numbers[first * LANES : (first + _PANELS) * LANES], len(chunk), form)
    return packed


def _packed(numbers: NDArray[np.int8], panels: int, form: Weights) -> NDArray[np.uint8]:
    raised = np.full((panels * LANES, numbers.shape[1]), 2**form.zero_shift, np.uint8)
    # Whole numbers wrap round: what is negative becomes what it is with the number added.
    np.add(numbers.view(np.uint8), np.uint8(2**form.zero_shift), out=raised[: len(numbers)])
    # Four columns are 32 bits, which travel together.
    quads = raised.view(np.uint32).reshape(panels, LANES, -1).transpose(0, 2, 1)
    if form.bits == 4:
        quads = quads[:, ::2] | quads[:, 1::2] << np.uint32(4)
    return np.ascontiguousarray(quads).view(np.uint8).reshape(panels, -1)


def unpack(packed: NDArray[np.uint8], rows: int, form: Weights) -> NDArray[np.int8]:
    """The whole numbers again, (rows, columns)."""
    panels = len(packed)
    lines = packed.reshape(panels, -1, LANES, 4)
    if form.bits == 4:
        lines = np.stack((lines & 15, lines >> 4), axis=2).reshape(panels, -1, LANES, 4)
    raised = lines.transpose(0, 2, 1, 3).reshape(panels * LANES, -1)[:rows]
    numbers: NDArray[np.int8] = (raised.astype(np.int16) - 2**form.zero_shift).astype(np.int8)
    return numbers


def pack_scales(scales: NDArray[np.floating], form: Weights) -> NDArray[np.generic]:
    """Packs scales: (rows,) one a row to float32, (rows, columns / 32) to float16 in panels."""
    panels = panel_count(len(scales))
    padded = np.zeros((panels * LANES, *scales.shape[1:]), scales.dtype)
    padded[: len(scales)] = scales
    if not form.grouped:
        return padded.astype(np.float32)
    by_panel = padded.reshape(panels, LANES, -1).transpose(0, 2, 1)
    return np.ascontiguousarray(by_panel).astype(np.float16)
