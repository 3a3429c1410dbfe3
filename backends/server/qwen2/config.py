"""The shape of a Qwen1.5, Qwen2 or Qwen2.5 checkpoint, as its config.json gives it.

Holds sizes and settings only, and computes nothing; imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from backends.checkpoint import UnusableFolder, read_adapter
from backends.server.checkpoints import config_json
from backends.server.checkpoints.precision import INT4_GROUP
from backends.server.errors import CheckpointError
from backends.server.qwen2.rotary import Rotary

_FULL, _SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Qwen2Config:
    """Sizes and settings; the defaults are those that transformers has for this architecture.

    Attributes:
        vocab_size: rows of the embedding; the tokenizer may know fewer ids.
        max_position_embeddings: prompt and answer together, in tokens.
        num_key_value_heads: a divisor of ``num_attention_heads``.
        head_width: of one head; 0: what the heads share of ``hidden_size``.
        windows: for each layer how many tokens one sees, itself included; None: all before it.
        rotary: the angles of positions.
    """

    vocab_size: int = 151936
    hidden_size: int = 4096
    intermediate_size: int = 22016
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    head_width: int = 0
    max_position_embeddings: int = 32768
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = False
    windows: tuple[int | None, ...] = ()
    rotary: Rotary = field(default_factory=Rotary)

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise CheckpointError(
                "num_attention_heads must be a multiple of num_key_value_heads: got "
                f"{self.num_attention_heads} and {self.num_key_value_heads}."
            )
        if self.head_dim % 2 or not (self.head_width or self._shared_evenly):
            raise CheckpointError(
                "hidden_size must be num_attention_heads times an even number: got "
                f"{self.hidden_size} and {self.num_attention_heads}."
            )

    @property
    def _shared_evenly(self) -> bool:
        return self.hidden_size % self.num_attention_heads == 0

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.head_width or self.hidden_size // self.num_attention_heads

    @property
    def fits_groups(self) -> bool:
        """Whether the columns of every matrix fall into the groups of four-bit weights."""
        widths = (
            self.hidden_size,
            self.intermediate_size,
            self.num_attention_heads * self.head_dim,
        )
        return all(width % INT4_GROUP == 0 for width in widths)

    def window(self, layer: int) -> int | None:
        """How many tokens one sees in a layer, itself included; None: all before it."""
        return self.windows[layer] if self.windows else None

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Reads a config.json; null means the default.

        Raises:
            CheckpointError: a variant that isn't supported, or nonsense.
        """
        known = {one.name for one in fields(cls)} - {"windows", "rotary", "head_width"}
        given = {name: raw[name] for name in known if raw.get(name) is not None}
        if raw.get("head_dim") is not None:
            given["head_width"] = raw["head_dim"]
        given.setdefault("num_key_value_heads", given.get("num_attention_heads", 32))
        for name, value in given.items():
            config_json.check(name, value, type(getattr(cls, name)))
        if raw.get("hidden_act", "silu") != "silu":
            raise CheckpointError(f"An activation of {raw['hidden_act']!r} can't be computed.")
        shape = cls(**given)
        return cls(
            **given,
            windows=_windows(raw, shape.num_hidden_layers),
            rotary=Rotary.from_dict(raw, shape.max_position_embeddings),
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as a config.json, in the published names."""
        written = {name: value for name, value in asdict(self).items() if name in _WRITTEN}
        window = next((size for size in self.windows if size is not None), None)
        return {
            "architectures": ["Qwen2ForCausalLM"],
            "model_type": "qwen2",
            "torch_dtype": "float16",
            "hidden_act": "silu",
            **written,
            "head_dim": self.head_dim,
            "layer_types": [
                _SLIDING if self.window(layer) else _FULL for layer in range(self.num_hidden_layers)
            ],
            "use_sliding_window": window is not None,
            "sliding_window": window,
            "rope_parameters": self.rotary.to_dict(),
        }


_WRITTEN = frozenset(
    {
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "rms_norm_eps",
        "tie_word_embeddings",
    }
)


def read_config(folder: Path) -> Qwen2Config:
    """The shape of the checkpoint in a folder.

    Raises:
        CheckpointError: its config.json is missing, not supported, or says nonsense.
    """
    return config_json.read_config(folder, Qwen2Config.from_dict)


def effective_config(folder: Path, adapter: Path | None = None) -> Qwen2Config:
    """The config of the weights that are computed with: with an adapter, a tied head is untied."""
    config = read_config(folder)
    return config if adapter is None else replace(config, tie_word_embeddings=False)


def packed_name(precision: str, adapter: Path | None) -> str:
    """What tells packed files of one checkpoint apart: whatever gives other tensors is in it.

    Raises:
        CheckpointError: the adapter's folder holds none.
    """
    if adapter is None:
        return precision
    try:
        return f"{precision}-{read_adapter(adapter)}"
    except UnusableFolder as error:
        raise CheckpointError(str(error)) from error


def _windows(raw: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    """Each layer's window; none at all, as in all published ones, is an empty tuple."""
    size = raw.get("sliding_window", 4096) if raw.get("use_sliding_window") else None
    if size is None:
        return ()
    config_json.check("sliding_window", size, int)
    kinds = raw.get("layer_types")
    if kinds is None:
        first = raw.get("max_window_layers", 28)
        config_json.check("max_window_layers", first, int, least=0)
        kinds = [_SLIDING if layer >= first else _FULL for layer in range(layers)]
    if not isinstance(kinds, list) or len(kinds) != layers or set(kinds) - {_SLIDING, _FULL}:
        raise CheckpointError(f"layer_types can't be {kinds!r}.")
    return tuple(size if kind == _SLIDING else None for kind in kinds)
