"""Makes a torch network of a Qwen2 checkpoint folder, in one of the possible precisions.

For float32 and bfloat16 the checkpoint's own tensors are computed with, mapped where they are
stored in that type. For int8 and int4 they are quantised and written once in the form of torch's
kernels (see ``checkpoints.packing``), which is mapped from then on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from backends.server.checkpoints.int4 import kernel_layout
from backends.server.checkpoints.precision import INT4, INT8
from backends.server.checkpoints.quantising import Quantised, quantised
from backends.server.checkpoints.weights import Progress, no_progress, read_tensors
from backends.server.eager.linear import DTYPES, fast, plain
from backends.server.eager.network import TorchNetwork, use_threads
from backends.server.eager.packed_network import packed_state
from backends.server.errors import CheckpointError
from backends.server.qwen2.config import Qwen2Config, effective_config, packed_name, read_config
from backends.server.qwen2.network import Qwen2Network

_HEAD = "lm_head.weight"
_TABLE = "model.embed_tokens.weight"
# Of the embedding and the head, in int4 too. Harmless: with 8 bits instead of 16 the logits of
# tiny-qwen are off by 1.3 instead of 1.1 % of their spread in int8, by 10.7 instead of 10.6 % in
# int4, and 626 instead of 627, 625 instead of 622 of 944 held-back questions are right (2026-11).
_TABLE_BITS = 8


def load_network(
    folder: Path,
    precision: str,
    progress: Progress,
    adapter: Path | None,
    threads: int | None,
) -> TorchNetwork:
    """See the package's."""
    use_threads(threads)
    if precision in (INT8, INT4):
        return TorchNetwork(_load_packed(folder, precision, progress, adapter))
    dtype = DTYPES[precision]
    state = _read(folder, adapter, dtype, progress)
    config = effective_config(folder, adapter)
    return TorchNetwork(Qwen2Network.from_tensors(config, state.items(), plain(dtype)))


def quantised_tensors(
    folder: Path, precision: str, adapter: Path | None = None
) -> Iterator[Quantised]:
    """Every tensor of a checkpoint in the quantised form of a precision, made one at a time.

    Matrices of the layers are in its bits; the embedding, and the head where it isn't the
    embedding's, have 8; norms and biases are plain, in float32.

    Args:
        folder: holds config.json and the weights.
        precision: "int8" or "int4".
        adapter: a LoRA adapter's folder, which is merged first.

    Raises:
        CheckpointError: something is missing, damaged or doesn't fit the config.
    """
    tensors = _read(folder, adapter)
    layer_bits = 8 if precision == INT8 else 4

    def bits(name: str) -> int | None:
        if name in (_TABLE, _HEAD):
            return _TABLE_BITS
        return layer_bits if tensors[name].ndim == 2 else None

    return quantised(tensors.items(), bits)


def _load_packed(
    folder: Path, precision: str, progress: Progress, adapter: Path | None
) -> Qwen2Network:
    config = effective_config(folder, adapter)
    storage = fast(8 if precision == INT8 else 4, _TABLE_BITS, grouped=True)
    layout = kernel_layout()
    form = f"int4-{layout.name if layout else 'published'}" if precision == INT4 else INT8
    state = packed_state(
        folder,
        packed_name(form, adapter),
        Qwen2Network.on_meta(config, storage),
        partial(quantised_tensors, folder, precision, adapter),
        progress,
    )
    progress("weights", 1.0)
    return Qwen2Network.from_tensors(config, state.items(), storage)


def _read(
    folder: Path,
    adapter: Path | None,
    dtype: torch.dtype | None = None,
    progress: Progress = no_progress,
) -> dict[str, Tensor]:
    """The weights by name, whole and fitting ``effective_config``.

    Args:
        folder: the checkpoint.
        adapter: merged into them.
        dtype: in which they are wanted and merged; None: as they are stored.
        progress: is told of the stage "weights".

    Raises:
        CheckpointError: something is missing, damaged or doesn't fit the config.
    """
    config = read_config(folder)
    tensors = {
        name: tensor.to(dtype)
        for name, tensor in read_tensors(folder, progress)
        # Which older checkpoints hold, though it is computed.
        if not name.endswith("rotary_emb.inv_freq")
    }
    if config.tie_word_embeddings:
        # Some checkpoints hold the head though it is the embedding.
        tensors.pop(_HEAD, None)
    _check(folder, tensors, config)
    if adapter is None:
        return tensors
    # Only adapters need transformers' own network, which takes seconds to import.
    from backends.server.qwen2.merging import merged_tensors  # noqa: PLC0415

    return merged_tensors(folder, tensors, adapter)


def _check(folder: Path, tensors: Mapping[str, Tensor], config: Qwen2Config) -> None:
    """Makes sure that the weights are those of the config.

    Raises:
        CheckpointError: some are missing, unknown or of another shape.
    """
    wanted = {name: one.shape for name, one in Qwen2Network.on_meta(config).state_dict().items()}
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise CheckpointError(f"{folder} lacks weights: {', '.join(missing[:5])}.")
    odd = [
        f"{name} {tuple(tensor.shape)}"
        for name, tensor in tensors.items()
        if tensor.shape != wanted.get(name)
    ]
    if odd:
        raise CheckpointError(
            f"The weights in {folder} don't fit the config: {', '.join(odd[:5])}."
        )
