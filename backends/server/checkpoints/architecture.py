"""Reads a config.json into transformers' own object, without all that could fetch or run code.

Knows no weights. What the settings mean is transformers' business.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from backends.server.checkpoints.weights import read_json
from backends.server.errors import CheckpointError

# Python files of the checkpoint, kernels fetched by name, other shapes of output.
_LEFT_OUT = frozenset(
    {
        "auto_map",
        "custom_pipelines",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "experts_implementation",
        "_experts_implementation",
        "_experts_implementation_internal",
        "fusion_config",
        "distributed_config",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "use_return_dict",
    }
)
# What transformers raises for files that it can't make sense of.
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    ImportError,
    RecursionError,
    ZeroDivisionError,
    RuntimeError,
    StrictDataclassError,
)

Config = TypeVar("Config", bound=PreTrainedConfig)


def read_architecture(folder: Path, kind: type[Config]) -> Config:
    """The folder's config.json as an object of this kind.

    Raises:
        CheckpointError: it is missing, or no config of this kind.
    """
    read_json(folder / "config.json")
    try:
        raw, _ = PreTrainedConfig.get_config_dict(folder, local_files_only=True)
        config: Config = kind.from_dict(_without_left_out(raw))
    except UNREADABLE as error:
        raise not_usable(folder, kind, error) from error
    return config


def not_usable(folder: Path, kind: type[PreTrainedConfig], error: Exception) -> CheckpointError:
    """What to say of a config.json out of which no network can be made."""
    return CheckpointError(f"{folder / 'config.json'} is no {kind.model_type} config: {error}")


def _without_left_out(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if key not in _LEFT_OUT}
        return {key: _without_left_out(part) for key, part in kept.items()}
    return [_without_left_out(part) for part in value] if isinstance(value, list) else value
