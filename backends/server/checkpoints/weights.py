"""Reads a checkpoint folder: JSON files, and tensors from safetensors or PyTorch files.

Never executes anything from the folder: ``.bin`` files are read with ``weights_only`` alone, and
files that would need more are refused. Imports torch when tensors are read, not before. Knows no
model family and no network.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from backends.server.errors import CheckpointError
from backends.weight_files import choose_weights, indexed_names

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[str, float], None]
"""Called with the stage's name and how much of it is done, 0 to 1."""

_SHORT = ("BF16", "F16")
# What unpickling a damaged file ends in, whatever it happens upon.
_UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def no_progress(_stage: str, _done: float) -> None:
    """For callers who don't ask how far loading is."""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CheckpointError: the file is missing, unreadable or no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} has no {path.name}: no model to load.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object.")
    return value


def read_optional_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file, or an empty one where there is no file."""
    return read_json(path) if path.exists() else {}


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, as ``backends.weight_files`` chooses them.

    Raises:
        CheckpointError: there are none, or the index names one that is missing.
    """
    try:
        chosen = choose_weights([path.name for path in folder.iterdir() if path.is_file()])
    except OSError as error:
        raise CheckpointError(f"{folder} can't be read: {error}") from error
    if chosen is None:
        raise CheckpointError(
            f"{folder} has no weights: model.safetensors or pytorch_model.bin (or shards with "
            "their index) is missing."
        )
    if chosen.index:
        return _indexed_files(folder / chosen.index)
    return [folder / name for name in chosen.files]


def _indexed_files(index: Path) -> list[Path]:
    files = [index.parent / name for name in indexed_names(read_json(index))]
    missing = [path.name for path in files if not path.exists()]
    if missing or not files:
        named = ", ".join(missing) or "any file"
        raise CheckpointError(f"{index.parent} lacks {named}, which {index.name} asks for.")
    return files


def read_tensors(folder: Path, progress: Progress = no_progress) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the checkpoint by name, one at a time, memory-mapped where possible.

    Raises:
        CheckpointError: a file is missing, damaged, or needs code to be executed.
    """
    files = weight_files(folder)
    total = sum(path.stat().st_size for path in files) or 1
    done = 0
    for path in files:
        for name, tensor in read_file(path):
            yield name, tensor
            done += tensor.numel() * tensor.element_size()
            progress("weights", min(done / total, 1.0))


def count_short(folder: Path) -> int:
    """How many of the checkpoint's weights are stored in 16 bits, without reading them.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    return sum(_count_short(path) for path in weight_files(folder))


def _count_short(path: Path) -> int:
    if path.suffix != ".safetensors":
        return sum(tensor.numel() for _, tensor in read_file(path) if tensor.itemsize == 2)
    with _opened(path, "np") as file:
        stored = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118 - no dict
        return sum(math.prod(one.get_shape()) for one in stored if one.get_dtype() in _SHORT)


def read_file(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of one file, safetensors or PyTorch's, memory-mapped.

    Raises:
        CheckpointError: it is damaged, holds no named tensors, or needs code to be executed.
    """
    return _safetensors(path) if path.suffix == ".safetensors" else _pytorch_file(path)


def _safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    with _opened(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - safe_open can't be iterated
            yield name, file.get_tensor(name)


@contextmanager
def _opened(path: Path, framework: str) -> Iterator[Any]:
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged, it can't be read as safetensors: {error}"
        ) from error


def _pytorch_file(path: Path) -> Iterator[tuple[str, Tensor]]:
    import torch  # noqa: PLC0415 - whoever only reads settings shall not wait for it

    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path} can't be read safely: it is damaged, too old, or holds more than tensors "
            "and would have to execute code. Use a safetensors checkpoint."
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds no named tensors.")
    for name, value in state.items():
        if isinstance(name, str) and isinstance(value, torch.Tensor):
            yield name, value
