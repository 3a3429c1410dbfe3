"""The shape of a ChatGLM v1 checkpoint, as its config.json gives it.

Holds sizes and special ids only; what they mean is in ``places`` and ``tokenizer``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from backends.checkpoint import is_chatglm_v1
from backends.server.checkpoints import config_json
from backends.server.errors import CheckpointError

# The original never tells its blocks how many layers there are: each computes sqrt(2 * 28) from
# the default, whatever the checkpoint's depth.
RESIDUAL_SCALE = math.sqrt(2 * 28)


@dataclass(frozen=True)
class ChatGLMConfig:
    """Sizes and special ids; the defaults are those of the published slim 6B checkpoint.

    Attributes:
        vocab_size: rows of the embedding; the tokenizer may know fewer ids.
        max_sequence_length: prompt and answer together, in tokens.
        quantization_bit: bits of a weight in the layers; 0: they are floats.
        quantization_embeddings: whether the embedding has these bits as well.
    """

    hidden_size: int = 4096
    num_layers: int = 28
    num_attention_heads: int = 32
    inner_hidden_size: int = 16384
    vocab_size: int = 130528
    max_sequence_length: int = 2048
    layernorm_epsilon: float = 1e-5
    bos_token_id: int = 130004
    eos_token_id: int = 130005
    mask_token_id: int = 130000
    gmask_token_id: int = 130001
    pad_token_id: int = 3
    quantization_bit: int = 0
    quantization_embeddings: bool = False

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads or self.head_dim % 4:
            raise CheckpointError(
                "hidden_size must be num_attention_heads times a multiple of four: "
                f"got {self.hidden_size} and {self.num_attention_heads}."
            )
        if self.quantization_bit not in (0, 4, 8):
            raise CheckpointError(
                f"Weights of {self.quantization_bit} bits (quantization_bit) can't be loaded; "
                "4 and 8 can."
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def table_bits(self) -> int:
        """Bits of a weight in the embedding of a quantised checkpoint."""
        return self.quantization_bit if self.quantization_embeddings else 16

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Reads a config.json; null means the default.

        Raises:
            CheckpointError: not ChatGLM v1, a variant that isn't supported, or nonsense.
        """
        if not is_chatglm_v1(raw):
            raise CheckpointError(
                "This is no ChatGLM-6B v1 checkpoint; ChatGLM2 and later are not supported."
            )
        for field, meaning in _UNSUPPORTED.items():
            if raw.get(field):
                raise CheckpointError(f"{meaning} ({field}) can't be loaded yet.")
        if raw.get("position_encoding_2d") not in (None, True):
            raise CheckpointError("Only the 2-D position encoding of ChatGLM is supported.")
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in raw.items() if name in known and value is not None}
        for name, value in given.items():
            _check(name, value)
        return cls(**{**_special_ids(given), **given})

    def to_dict(self) -> dict[str, Any]:
        """The same as a config.json, in the published names."""
        return {
            "architectures": ["ChatGLMModel"],
            "model_type": "chatglm",
            "position_encoding_2d": True,
            "torch_dtype": "float16",
            "use_cache": True,
            **asdict(self),
        }


def read_config(folder: Path) -> ChatGLMConfig:
    """The shape of the checkpoint in a folder.

    Raises:
        CheckpointError: its config.json is missing, not supported, or says nonsense.
    """
    return config_json.read_config(folder, ChatGLMConfig.from_dict)


_UNSUPPORTED = {"pre_seq_len": "A ChatGLM checkpoint with a P-tuning prefix"}
_OLDEST_VOCABULARY = 150528
_IMAGE_TOKENS = 20000


def _special_ids(given: Mapping[str, int]) -> dict[str, int]:
    """The special ids by the place of <sop>: the oldest config.json names few of them."""
    offset = _IMAGE_TOKENS if given.get("vocab_size") == _OLDEST_VOCABULARY else 0
    bos = given.get("bos_token_id", ChatGLMConfig.bos_token_id + offset)
    return {
        "bos_token_id": bos,
        "eos_token_id": bos + 1,
        "mask_token_id": bos - 4,
        "gmask_token_id": bos - 3,
    }


def _check(name: str, value: Any) -> None:
    least = 0 if name.endswith("_token_id") or name == "quantization_bit" else 1
    config_json.check(name, value, type(getattr(ChatGLMConfig, name)), least)
