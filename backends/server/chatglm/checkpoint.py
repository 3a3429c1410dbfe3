"""Makes a network of a ChatGLM checkpoint folder, in one of the precisions that it allows.

An unquantised checkpoint is loaded into float32 or bfloat16. A quantised one stays as it is: for
float32 its own bytes are mapped and computed with exactly; for int8 and int4 they are written once
in the form of torch's kernels (see ``packing``), which is mapped from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from backends.server.chatglm.config import ChatGLMConfig
from backends.server.chatglm.network import ChatGLMNetwork
from backends.server.errors import CheckpointError
from backends.server.int4 import kernel_layout
from backends.server.linear import Storage, StoredMatrix, exact, fast, plain
from backends.server.packing import Part, packed_tensors
from backends.server.precision import DTYPES, FLOAT32, unquantised_precisions
from backends.server.weights import Progress, no_progress, read_json, read_tensors


def possible_precisions(folder: Path) -> tuple[str, ...]:
    """In what the checkpoint can be computed, its own choice first.

    Raises:
        CheckpointError: something is missing, damaged or not supported.
    """
    bits = _read_config(folder).quantization_bit
    return (f"int{bits}", FLOAT32) if bits else unquantised_precisions(folder)


def load_network(
    folder: Path, precision: str, progress: Progress = no_progress, adapter: Path | None = None
) -> ChatGLMNetwork:
    """The network of a checkpoint folder.

    Args:
        folder: holds config.json and the weights.
        precision: one of ``possible_precisions``.
        progress: is told of the stages "weights" and "converting".
        adapter: there is none for this family.

    Raises:
        CheckpointError: something is missing, damaged or not supported.
    """
    if adapter is not None:
        raise CheckpointError(f"ChatGLM takes no adapter: {adapter} can't be merged into it.")
    config = _read_config(folder)
    bits = config.quantization_bit
    table_bits = bits if config.quantization_embeddings else 16
    if not bits:
        storage = plain(DTYPES[precision])
    elif precision == FLOAT32:
        storage = exact(bits, table_bits)
    else:
        return _load_packed(folder, config, fast(bits, table_bits), progress)
    return ChatGLMNetwork.from_tensors(config, read_tensors(folder, progress), storage)


def _load_packed(
    folder: Path, config: ChatGLMConfig, storage: Storage, progress: Progress
) -> ChatGLMNetwork:
    plan = partial(_plan, folder, config, storage)
    tensors = packed_tensors(folder, _packed_name(config), plan, progress)
    progress("weights", 1.0)
    return ChatGLMNetwork.from_tensors(config, tensors.items(), storage)


def _packed_name(config: ChatGLMConfig) -> str:
    if config.quantization_bit == 8:
        return "int8"
    layout = kernel_layout()
    return f"int4-{layout.name if layout else 'published'}"


def _plan(folder: Path, config: ChatGLMConfig, storage: Storage) -> Sequence[Part]:
    """The tensors of the fast network, each made from the exact one, which is only mapped."""
    source = load_network(folder, FLOAT32)
    target = ChatGLMNetwork.on_meta(config, storage)
    return [
        Part(name, tensor.dtype, tuple(tensor.shape), partial(_make, source, target, name))
        for name, tensor in target.state_dict().items()
    ]


def _make(source: nn.Module, target: nn.Module, name: str) -> Tensor:
    path, _, kind = name.rpartition(".")
    old, new = source.get_submodule(path), target.get_submodule(path)
    if isinstance(old, StoredMatrix) and isinstance(new, StoredMatrix):
        return new.made_from(old, kind)
    return cast(Tensor, getattr(old, kind)).to(cast(Tensor, getattr(new, kind)).dtype)


def _read_config(folder: Path) -> ChatGLMConfig:
    path = folder / "config.json"
    raw = read_json(path)
    try:
        return ChatGLMConfig.from_dict(raw)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
