"""The shape of a ChatGLM v1 checkpoint, as its config.json gives it.

Holds sizes and special ids only; what they mean is in ``network`` and ``tokenizer``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from backends.server.errors import CheckpointError


@dataclass(frozen=True)
class ChatGLMConfig:
    """Sizes and special ids; the defaults are those of the published slim 6B checkpoint.

    Attributes:
        vocab_size: rows of the embedding; the tokenizer may know fewer ids.
        max_sequence_length: prompt and answer together, in tokens.
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

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_attention_heads or self.head_dim % 4:
            raise CheckpointError(
                "hidden_size must be num_attention_heads times a multiple of four: "
                f"got {self.hidden_size} and {self.num_attention_heads}."
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Reads a config.json.

        Raises:
            CheckpointError: not ChatGLM v1, or a variant that isn't supported.
        """
        if not is_chatglm_v1(raw):
            raise CheckpointError(
                "This is no ChatGLM-6B v1 checkpoint; ChatGLM2 and later are not supported."
            )
        for field, meaning in _UNSUPPORTED.items():
            if raw.get(field):
                raise CheckpointError(f"{meaning} ({field}) can't be loaded yet.")
        if not raw.get("position_encoding_2d", True):
            raise CheckpointError("Only the 2-D position encoding of ChatGLM is supported.")
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in raw.items() if name in known})

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


_UNSUPPORTED = {
    "quantization_bit": "A quantised ChatGLM checkpoint",
    "pre_seq_len": "A ChatGLM checkpoint with a P-tuning prefix",
}


def is_chatglm_v1(raw: Mapping[str, Any]) -> bool:
    """Whether a config.json is of the first generation, which shares its model_type with later."""
    first = {"position_encoding_2d", "inner_hidden_size"} & raw.keys()
    later = {"multi_query_attention", "padded_vocab_size"} & raw.keys()
    return raw.get("model_type") == "chatglm" and bool(first) and not later
