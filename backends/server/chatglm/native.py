"""ChatGLM as a native decoder: what its layers are made of, and where its tokens stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backends.server import kernels
from backends.server.batch import Span
from backends.server.chatglm import places
from backends.server.chatglm.config import RESIDUAL_SCALE, ChatGLMConfig
from backends.server.checkpoints.weights import Progress
from backends.server.native import (
    Angles,
    HeadPlaces,
    LayerNames,
    Names,
    NativeNetwork,
    PackedDecoder,
    Shape,
)

if TYPE_CHECKING:
    from backends.server.checkpoints.quantising import Quantised

_SECTIONS = 2  # of a head, each turned by one of the two positions


def fits(config: ChatGLMConfig) -> bool:
    """Whether the kernels can compute a network of this shape."""
    head = kernels.HeadShape(config.head_dim, _SECTIONS)
    return head.fits and all(
        kernels.fits(width) for width in (config.hidden_size, config.inner_hidden_size)
    )


def load_network(
    folder: Path, config: ChatGLMConfig, progress: Progress, compute: kernels.Compute
) -> NativeNetwork:
    """The network of a quantised checkpoint, mapped from its packed file.

    Raises:
        CheckpointError: something is missing, damaged or not supported.
    """

    def tensors() -> Iterator[Quantised]:
        from backends.server.chatglm.checkpoint import quantised_tensors  # noqa: PLC0415 - torch

        return quantised_tensors(folder)

    form = kernels.INT8 if config.quantization_bit == kernels.INT8.bits else kernels.INT4
    packed = PackedDecoder(_shape(config), config.num_layers, form, _NAMES)
    decoder = packed.load(folder, f"native-{form.name}", tensors, _angles(config), progress)
    progress("weights", 1.0)
    return NativeNetwork(decoder, _Rules(config), compute)


@dataclass(frozen=True)
class _Rules:
    """See ``places``."""

    config: ChatGLMConfig

    chunkable = False

    def positions(self, span: Span) -> NDArray[np.int64]:
        """See ``native.network.Rules``."""
        context = places.context_length(span.sequence, self.config)
        return places.positions(span, context, self.config)

    def seen(self, span: Span) -> NDArray[np.int64]:
        """See ``native.network.Rules``."""
        return places.seen(span, places.context_length(span.sequence, self.config))

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        """See ``native.network.Rules``."""
        return places.reusable(stored, prompt, self.config)


def _shape(config: ChatGLMConfig) -> Shape:
    size = config.head_dim
    return Shape(
        hidden=config.hidden_size,
        inner=config.inner_hidden_size,
        heads=config.num_attention_heads,
        cache_heads=config.num_attention_heads,
        head=kernels.HeadShape(size, _SECTIONS),
        # Query, key and value are thirds of each head, not of the whole row.
        places=HeadPlaces(0, size, 2 * size, query_step=3 * size, key_step=3 * size),
        norm="layer_norm",
        epsilon=config.layernorm_epsilon,
        residual=RESIDUAL_SCALE,
        activation="gelu",
        vocab_size=config.vocab_size,
        context=config.max_sequence_length,
    )


def _layer_names(number: int) -> LayerNames:
    layer = f"transformer.layers.{number}"
    return LayerNames(
        f"{layer}.input_layernorm",
        (f"{layer}.attention.query_key_value",),
        f"{layer}.attention.dense",
        f"{layer}.post_attention_layernorm",
        (f"{layer}.mlp.dense_h_to_4h",),
        f"{layer}.mlp.dense_4h_to_h",
    )


_NAMES = Names(
    "transformer.word_embeddings", _layer_names, "transformer.final_layernorm", head=None
)


def _angles(config: ChatGLMConfig) -> Angles:
    # Both positions are at most the context's length.
    return Angles(places.frequencies(config), config.max_sequence_length + 1)
