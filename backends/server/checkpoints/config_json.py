"""A family's config.json: read, its fields checked before anything is laid out by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from backends.server.checkpoints.weights import read_json
from backends.server.errors import CheckpointError

# More than any of these checkpoints has; far more would never end to be laid out.
_MOST = 2_000_000
_MOST_LAYERS = 1000

_LAYERS = ("num_hidden_layers", "num_layers")

Config = TypeVar("Config")


def read_config(folder: Path, parse: Callable[[Mapping[str, Any]], Config]) -> Config:
    """The shape of the checkpoint in a folder, as a family parses it.

    Raises:
        CheckpointError: its config.json is missing, not supported, or says nonsense.
    """
    path = folder / "config.json"
    raw = read_json(path)
    try:
        return parse(raw)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def check(name: str, value: Any, kind: type, least: int = 1) -> None:
    """Makes sure that a field can have this value.

    Args:
        name: the field's.
        value: the file's.
        kind: ``bool``, ``float`` (between 0 and 1) or ``int`` (a count).
        least: of a count.

    Raises:
        CheckpointError: it can't.
    """
    if kind is bool:
        fits = isinstance(value, bool)
    elif kind is float:
        fits = type(value) in (int, float) and 0 < value < 1
    else:
        most = _MOST_LAYERS if name in _LAYERS else _MOST
        fits = is_count(value, least) and value <= most
    if not fits:
        raise CheckpointError(f"{name} can't be {value!r}.")


def is_count(value: Any, least: int = 0) -> bool:
    """Whether a value is a whole number that a size or an id can be."""
    return type(value) is int and least <= value <= _MOST
