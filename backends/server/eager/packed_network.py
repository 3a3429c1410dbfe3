"""Packs a quantised network for torch's kernels, once, and maps what was packed.

What a matrix stores is the business of its kind, see ``linear``; what lies in the file and when it
is made anew, that of ``checkpoints.packing``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from backends.server.checkpoints.packing import Entry, Part, packed_tensors
from backends.server.checkpoints.quantising import PlainTensor, Quantised, QuantisedMatrix
from backends.server.checkpoints.weights import Progress
from backends.server.eager.linear import StoredMatrix

_NUMPY = {
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    # Which numpy doesn't know: its bits.
    torch.bfloat16: np.uint16,
}


def packed_state(
    folder: Path,
    name: str,
    network: nn.Module,
    tensors: Callable[[], Iterable[Quantised]],
    progress: Progress,
) -> dict[str, Tensor]:
    """The state of a network, mapped from its packed file, which is made if it isn't there.

    Args:
        folder: the checkpoint.
        name: the packed file's, without suffix.
        network: what the state is for; it may be on "meta".
        tensors: what the file is made of, if it has to be.
        progress: is told of the stage "converting".

    Raises:
        CheckpointError: the file can't be written, or the tensors don't fit the network.
    """
    types = {name: tensor.dtype for name, tensor in network.state_dict().items()}

    def plan() -> Sequence[Part]:
        return _plan(network, tensors())

    arrays = packed_tensors(folder, name, plan, progress, layout=_layout(network))
    return {name: _mapped(array, types[name]) for name, array in arrays.items()}


def _layout(network: nn.Module) -> Sequence[Entry]:
    """What is in the file, which the network says without any tensors."""
    return [
        Entry(name, _NUMPY[target.dtype], tuple(target.shape))
        for name, target in network.state_dict().items()
    ]


def _plan(network: nn.Module, tensors: Iterable[Quantised]) -> Sequence[Part]:
    """The parts of the file, each made from one of the tensors."""
    by_name = {tensor.name: tensor for tensor in tensors}
    parts = []
    for name, target in network.state_dict().items():
        path = name.rpartition(".")[0]
        source = by_name.get(name) or by_name[path]
        make = partial(_make, network.get_submodule(path), source, name, target.dtype)
        parts.append(Part(name, _NUMPY[target.dtype], tuple(target.shape), make))
    return parts


def _make(module: nn.Module, source: Quantised, name: str, dtype: torch.dtype) -> NDArray[Any]:
    if isinstance(source, PlainTensor):
        tensor = source.values().to(dtype)
    else:
        tensor = _stored(module, source, name.rpartition(".")[2])
    bits = tensor.view(torch.uint16) if dtype == torch.bfloat16 else tensor
    array: NDArray[Any] = bits.contiguous().numpy()
    return array


def _stored(module: nn.Module, source: QuantisedMatrix, kind: str) -> Tensor:
    assert isinstance(module, StoredMatrix)
    return module.stored_form(source, kind)


def _mapped(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
    with warnings.catch_warnings():
        # Of arrays that can't be written to: nothing writes to weights.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array).view(dtype)
