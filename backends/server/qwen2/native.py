"""Qwen2 as a native decoder: what its layers are made of, and where its tokens stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backends.server import kernels
from backends.server.batch import Span, common_prefix
from backends.server.checkpoints.precision import INT8
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
from backends.server.qwen2.config import Qwen2Config

if TYPE_CHECKING:
    from backends.server.checkpoints.quantising import Quantised


def fits(config: Qwen2Config) -> bool:
    """Whether the kernels can compute a network of this shape."""
    return config.fits_groups and not config.windows and kernels.HeadShape(config.head_dim).fits


def load_network(
    folder: Path,
    config: Qwen2Config,
    precision: str,
    name: str,
    adapter: Path | None,
    progress: Progress,
    compute: kernels.Compute,
) -> NativeNetwork:
    """The network of a checkpoint folder, mapped from its packed file.

    Args:
        folder: the checkpoint.
        config: its shape, as it is with the adapter.
        precision: "int8" or "int4".
        name: the packed file's.
        adapter: is merged into the weights.
        progress: is told of the stages "weights" and "converting".
        compute: with what it computes.

    Raises:
        CheckpointError: something is missing, damaged or doesn't fit the config.
    """

    def tensors() -> Iterator[Quantised]:
        from backends.server.qwen2.checkpoint import quantised_tensors  # noqa: PLC0415 - torch

        return quantised_tensors(folder, precision, adapter)

    form = kernels.INT8 if precision == INT8 else kernels.INT4_GROUPED
    packed = PackedDecoder(_shape(config), config.num_hidden_layers, form, _names(config))
    decoder = packed.load(folder, f"native-{name}", tensors, _angles(config), progress)
    progress("weights", 1.0)
    return NativeNetwork(decoder, _Rules(), compute)


class _Rules:
    """A token stands where it comes, and sees those before it."""

    chunkable = True

    def positions(self, span: Span) -> NDArray[np.int64]:
        """See ``native.network.Rules``."""
        return np.arange(span.past, span.past + len(span.token_ids))[None]

    def seen(self, span: Span) -> NDArray[np.int64]:
        """See ``native.network.Rules``."""
        return np.arange(span.past, span.past + len(span.token_ids)) + 1

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        """See ``native.network.Rules``."""
        return common_prefix(stored, prompt)


def _shape(config: Qwen2Config) -> Shape:
    size = config.head_dim
    queries, keys = config.num_attention_heads * size, config.num_key_value_heads * size
    return Shape(
        hidden=config.hidden_size,
        inner=config.intermediate_size,
        heads=config.num_attention_heads,
        cache_heads=config.num_key_value_heads,
        head=kernels.HeadShape(size),
        places=HeadPlaces(0, queries, queries + keys, query_step=size, key_step=size),
        norm="rms_norm",
        epsilon=config.rms_norm_eps,
        residual=None,
        activation="silu_gate",
        vocab_size=config.vocab_size,
        context=config.max_position_embeddings,
    )


def _names(config: Qwen2Config) -> Names:
    head = None if config.tie_word_embeddings else "lm_head"
    return Names("model.embed_tokens", _layer_names, "model.norm", head)


def _layer_names(number: int) -> LayerNames:
    layer = f"model.layers.{number}"
    attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
    return LayerNames(
        f"{layer}.input_layernorm",
        (f"{attention}.q_proj", f"{attention}.k_proj", f"{attention}.v_proj"),
        f"{attention}.o_proj",
        f"{layer}.post_attention_layernorm",
        (f"{mlp}.gate_proj", f"{mlp}.up_proj"),
        f"{mlp}.down_proj",
    )


def _angles(config: Qwen2Config) -> Angles:
    frequencies = config.rotary.frequencies(config.head_dim)
    return Angles(frequencies, config.max_position_embeddings, config.rotary.scale)
