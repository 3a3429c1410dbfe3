"""The packed file of a native network: made once of a checkpoint's quantised tensors, then mapped.

Knows which tensors the file holds and how a decoder is put together of them. When a file is made
anew, and where it lies, is ``checkpoints.packing``'s business. Imports no torch unless a file has
to be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backends.server.checkpoints.packing import Part, packed_tensors
from backends.server.checkpoints.weights import Progress
from backends.server.kernels import (
    GROUP,
    INT8,
    LANES,
    Weights,
    pack,
    pack_scales,
    panel_bytes,
    panel_count,
)
from backends.server.native.angles import Angles
from backends.server.native.decoder import Decoder, Layer, Matrix, Norm, Shape

if TYPE_CHECKING:
    from backends.server.checkpoints.quantising import Quantised, QuantisedMatrix

Tensors = Mapping[str, "Quantised"]


@dataclass(frozen=True)
class LayerNames:
    """The published names of a layer's parts, without ".weight"; several are one upon the other."""

    attention_norm: str
    mixed: tuple[str, ...]
    dense: str
    inner_norm: str
    up: tuple[str, ...]
    down: str


@dataclass(frozen=True)
class Names:
    """The published names of a network's parts.

    Attributes:
        table: the embedding.
        layer: those of the layer with a number.
        final_norm: before the head.
        head: None where it is the table.
    """

    table: str
    layer: Callable[[int], LayerNames]
    final_norm: str
    head: str | None


@dataclass(frozen=True)
class _MatrixPlan:
    """A matrix in the file: its name there, and what it is made of."""

    name: str
    form: Weights
    rows: int
    columns: int
    sources: tuple[str, ...]

    def parts(self, tensors: Tensors) -> Iterator[Part]:
        panels = panel_count(self.rows)
        weights = panels, panel_bytes(self.columns, self.form)
        yield Part(f"{self.name}.weight", np.uint8, weights, partial(self._weights, tensors))
        name, make = f"{self.name}.scale", partial(self._scales, tensors)
        if self.form.grouped:
            yield Part(name, np.float16, (panels, self.columns // GROUP, LANES), make)
        else:
            yield Part(name, np.float32, (panels * LANES,), make)
        bias = partial(self._bias, tensors)
        yield Part(f"{self.name}.bias", np.float32, (panels * LANES,), bias)

    def mapped(self, arrays: Mapping[str, NDArray[Any]]) -> Matrix:
        weights, scales, bias = (
            arrays[f"{self.name}.{kind}"] for kind in ("weight", "scale", "bias")
        )
        return Matrix(self.form, self.rows, self.columns, weights, scales, bias)

    def _weights(self, tensors: Tensors) -> NDArray[np.uint8]:
        numbers = [source.numbers().numpy() for source in self._matrices(tensors)]
        return pack(_joined(numbers), self.form)

    def _scales(self, tensors: Tensors) -> NDArray[Any]:
        scales = [source.scales().float().numpy() for source in self._matrices(tensors)]
        return pack_scales(_joined(scales), self.form)

    def _bias(self, tensors: Tensors) -> NDArray[np.float32]:
        padded = np.zeros(panel_count(self.rows) * LANES, np.float32)
        start = 0
        for source in self._matrices(tensors):
            found = tensors.get(f"{source.name}.bias")
            if found is not None:
                padded[start : start + source.shape[0]] = _plain(found)
            start += source.shape[0]
        return padded

    def _matrices(self, tensors: Tensors) -> list[QuantisedMatrix]:
        return [_quantised(tensors, name) for name in self.sources]


@dataclass(frozen=True)
class _NormPlan:
    """A normalisation in the file."""

    name: str
    width: int
    source: str

    def parts(self, tensors: Tensors) -> Iterator[Part]:
        for kind in ("weight", "bias"):
            make = partial(self._values, tensors, kind)
            yield Part(f"{self.name}.{kind}", np.float32, (self.width,), make)

    def mapped(self, arrays: Mapping[str, NDArray[Any]]) -> Norm:
        return Norm(arrays[f"{self.name}.weight"], arrays[f"{self.name}.bias"])

    def _values(self, tensors: Tensors, kind: str) -> NDArray[np.float32]:
        found = tensors.get(f"{self.source}.{kind}")
        return np.zeros(self.width, np.float32) if found is None else _plain(found)


@dataclass(frozen=True)
class _LayerPlan:
    """A layer in the file, its parts by their names in ``Layer``."""

    norms: Mapping[str, _NormPlan]
    matrices: Mapping[str, _MatrixPlan]

    def mapped(self, arrays: Mapping[str, NDArray[Any]]) -> Layer:
        norms = {role: plan.mapped(arrays) for role, plan in self.norms.items()}
        matrices = {role: plan.mapped(arrays) for role, plan in self.matrices.items()}
        return Layer(
            norms["attention_norm"],
            matrices["mixed"],
            matrices["dense"],
            norms["inner_norm"],
            matrices["up"],
            matrices["down"],
        )


class PackedDecoder:
    """Says what is in the file of a network, makes it and reads it.

    Args:
        shape: the network's.
        layers: how many it has.
        form: of the layers' matrices; the embedding and the head have eight bits.
        names: the published ones.
    """

    def __init__(self, shape: Shape, layers: int, form: Weights, names: Names) -> None:
        self._shape = shape
        self._form = form
        vocabulary = shape.vocab_size, shape.hidden
        self._table = _MatrixPlan("table", INT8, *vocabulary, (names.table,))
        self._head = names.head and _MatrixPlan("head", INT8, *vocabulary, (names.head,))
        self._final_norm = _NormPlan("final_norm", shape.hidden, names.final_norm)
        self._layers = [self._layer(number, names.layer(number)) for number in range(layers)]

    def load(
        self,
        folder: Path,
        name: str,
        tensors: Callable[[], Iterable[Quantised]],
        angles: Angles,
        progress: Progress,
    ) -> Decoder:
        """The network, mapped.

        Args:
            folder: the checkpoint.
            name: the file's, without suffix.
            tensors: what the file is made of, if it has to be.
            angles: see ``Decoder``.
            progress: is told of the stage "converting".

        Raises:
            CheckpointError: the file can't be written, or what it is made of is unusable.
        """

        def plan() -> Sequence[Part]:
            return self._parts({tensor.name: tensor for tensor in tensors()})

        # Parts know what they are before there is anything to make them of.
        layout = self._parts({})
        arrays = packed_tensors(folder, name, plan, progress, layout=layout, huge_pages=True)
        table = self._table.mapped(arrays)
        return Decoder(
            self._shape,
            table,
            tuple(layer.mapped(arrays) for layer in self._layers),
            self._final_norm.mapped(arrays),
            self._head.mapped(arrays) if self._head else table,
            angles,
        )

    def _parts(self, tensors: Tensors) -> list[Part]:
        """What is in the file; each part is made of the tensors when it is written."""
        return [part for one in self._plans() for part in one.parts(tensors)]

    def _plans(self) -> Iterator[_MatrixPlan | _NormPlan]:
        yield self._table
        for layer in self._layers:
            yield from layer.norms.values()
            yield from layer.matrices.values()
        yield self._final_norm
        if self._head:
            yield self._head

    def _layer(self, number: int, names: LayerNames) -> _LayerPlan:
        shape, prefix = self._shape, f"layers.{number}"
        head_width = shape.heads * shape.head.size
        mixed = head_width + 2 * shape.cache_heads * shape.head.size
        sizes = {
            "mixed": (mixed, shape.hidden, names.mixed),
            "dense": (shape.hidden, head_width, (names.dense,)),
            "up": (shape.inner * len(names.up), shape.hidden, names.up),
            "down": (shape.hidden, shape.inner, (names.down,)),
        }
        norms = {"attention_norm": names.attention_norm, "inner_norm": names.inner_norm}
        return _LayerPlan(
            {
                role: _NormPlan(f"{prefix}.{role}", shape.hidden, source)
                for role, source in norms.items()
            },
            {
                role: _MatrixPlan(f"{prefix}.{role}", self._form, rows, columns, sources)
                for role, (rows, columns, sources) in sizes.items()
            },
        )


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """One upon the other; a single one isn't copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _quantised(tensors: Tensors, name: str) -> QuantisedMatrix:
    """A matrix in whole numbers; a table that is published in floats is rounded to eight bits.

    That costs no answer: `python -m benchmarks.precisions` has the figures.
    """
    from backends.server.checkpoints.quantising import QuantisedMatrix, quantised_matrix  # noqa: PLC0415

    found = tensors.get(name)
    if isinstance(found, QuantisedMatrix):
        return found
    plain = tensors[f"{name}.weight"]
    assert not isinstance(plain, QuantisedMatrix)
    return quantised_matrix(name, plain.values(), INT8.bits)


def _plain(tensor: Quantised) -> NDArray[np.float32]:
    from backends.server.checkpoints.quantising import PlainTensor  # noqa: PLC0415

    assert isinstance(tensor, PlainTensor)
    values: NDArray[np.float32] = tensor.values().float().numpy()
    return values
