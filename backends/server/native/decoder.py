"""What a native network is made of: its shape and its packed weights.

Both families are the same decoder with other parts. Computes nothing and reads no files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from backends.server.kernels import LANES, HeadShape, Weights, panel_count
from backends.server.native.angles import Angles


@dataclass(frozen=True, eq=False)
class Matrix:
    """A packed matrix, perhaps with a bias.

    Attributes:
        form: how it is packed.
        rows: outputs.
        columns: inputs.
        weights: panels, (panels, bytes).
        scales: as packed for the form.
        bias: (16 * panels,) float32, zeros where there is none.
    """

    form: Weights
    rows: int
    columns: int
    weights: NDArray[np.uint8]
    scales: NDArray[Any]
    bias: NDArray[np.float32]

    @property
    def panels(self) -> int:
        """Groups of 16 rows."""
        return panel_count(self.rows)

    @property
    def width(self) -> int:
        """Floats in a row of its product."""
        return LANES * self.panels


@dataclass(frozen=True, eq=False)
class Norm:
    """Weights of a normalisation, (hidden,) float32; the bias is zeros where there is none."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer's weights.

    Attributes:
        attention_norm: before attention.
        mixed: makes queries, keys and values.
        dense: after attention.
        inner_norm: before the inner layer.
        up: into the inner layer; where it is gated, the gates first.
        down: out of it.
    """

    attention_norm: Norm
    mixed: Matrix
    dense: Matrix
    inner_norm: Norm
    up: Matrix
    down: Matrix

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """All of its matrices."""
        return self.mixed, self.dense, self.up, self.down


@dataclass(frozen=True)
class HeadPlaces:
    """Where a row of mixed queries, keys and values holds what.

    Attributes:
        query: the first query's first number.
        key: the first key's.
        value: the first value's.
        query_step: from one head's to the next.
        key_step: the same for keys and values.
    """

    query: int
    key: int
    value: int
    query_step: int
    key_step: int


@dataclass(frozen=True)
class Shape:
    """The numbers that describe a decoder.

    Attributes:
        hidden: width of a row between the layers.
        inner: width of the inner layer.
        heads: number of queries.
        cache_heads: number of keys and values.
        head: the size of one.
        places: where they stand in a mixed row.
        norm: which normalisation.
        epsilon: added to its mean square.
        residual: what a layer's normalised input is multiplied with before it is added to its
            output; None: the input is added as it came.
        activation: of the inner layer.
        vocab_size: rows of the head.
        context: how many tokens a sequence may have.
    """

    hidden: int
    inner: int
    heads: int
    cache_heads: int
    head: HeadShape
    places: HeadPlaces
    norm: Literal["rms_norm", "layer_norm"]
    epsilon: float
    residual: float | None
    activation: Literal["silu_gate", "gelu"]
    vocab_size: int
    context: int


@dataclass(frozen=True, eq=False)
class Decoder:
    """A whole network.

    Attributes:
        shape: its numbers.
        table: the embedding, in eight bits.
        layers: in their order.
        final_norm: before the head.
        head: makes logits; often the table.
        angles: by which positions turn queries and keys.
    """

    shape: Shape
    table: Matrix
    layers: tuple[Layer, ...]
    final_norm: Norm
    head: Matrix
    angles: Angles

    @property
    def forms(self) -> frozenset[Weights]:
        """How its matrices are packed."""
        matrices = [matrix for layer in self.layers for matrix in layer.matrices]
        return frozenset(matrix.form for matrix in (*matrices, self.table, self.head))
