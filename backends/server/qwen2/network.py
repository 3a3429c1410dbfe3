"""The Qwen2 network: one forward pass over a flat batch, for serving and for training.

Computes logits and keeps keys and values; chooses no tokens and knows no text. How its matrices
are stored and multiplied is ``eager.linear``'s business; what lies between them is computed in
float32. Parameters carry the published names, so checkpoints load as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.server.batch import FlatBatch, Span, common_prefix
from backends.server.eager.attention import Attention, causal
from backends.server.eager.layered import LayeredNetwork, Parts, rotate
from backends.server.eager.linear import PLAIN, Storage
from backends.server.qwen2.config import Qwen2Config

_INITIAL_STD = 0.02


@dataclass(frozen=True)
class _Layout:
    """What one forward pass needs, computed once for all layers.

    Attributes:
        cos: cosines of the rotary angles, (T, 1, head_dim / 2).
        sin: the sines.
        attention: by the window that a layer has.
    """

    cos: Tensor
    sin: Tensor
    attention: Mapping[int | None, Attention]


class Qwen2Network(LayeredNetwork[Qwen2Config]):
    """The decoder with its head."""

    chunkable = True

    def __init__(self, config: Qwen2Config, storage: Storage = PLAIN) -> None:
        super().__init__(config, storage)
        self.model = _Decoder(config, storage)
        if not config.tie_word_embeddings:
            self.lm_head = storage.table(config.vocab_size, config.hidden_size)
        self._attention_dtype = storage.attention
        self._frequencies = torch.tensor(config.rotary.frequencies(config.head_dim), device="cpu")
        self.apply(_initialise)

    @property
    def parts(self) -> Parts:
        """See ``LayeredNetwork``."""
        table = self.model.embed_tokens
        head = table if self.config.tie_word_embeddings else self.lm_head
        return Parts(table, self.model.layers, self.model.norm, head)

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""
        return self.config.max_position_embeddings

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        """How many of a stored sequence's first tokens serve a prompt: all that are the same."""
        return common_prefix(stored, prompt)

    def layout(self, batch: FlatBatch) -> _Layout:
        """See ``LayeredNetwork``."""
        layers = range(self.config.num_hidden_layers)
        windows = {self.config.window(layer) for layer in layers}
        positions = torch.cat([_positions(span) for span in batch.spans])
        angles = positions.unsqueeze(1) * self._frequencies
        scale = self.config.rotary.scale
        return _Layout(
            cos=(angles.cos() * scale).unsqueeze(1),
            sin=(angles.sin() * scale).unsqueeze(1),
            attention={
                window: Attention.of(
                    batch, [causal(span, window) for span in batch.spans], self._attention_dtype
                )
                for window in windows
            },
        )


class _Decoder(nn.Module):
    def __init__(self, config: Qwen2Config, storage: Storage) -> None:
        super().__init__()
        self.embed_tokens = storage.table(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            _Block(config, storage, index) for index in range(config.num_hidden_layers)
        )
        self.norm = _norm(config)


class _Block(nn.Module):
    def __init__(self, config: Qwen2Config, storage: Storage, index: int) -> None:
        super().__init__()
        self.input_layernorm = _norm(config)
        self.self_attn = _SelfAttention(config, storage, index)
        self.post_attention_layernorm = _norm(config)
        self.mlp = _MLP(config, storage)

    def forward(self, hidden: Tensor, layout: _Layout) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), layout)
        return cast(Tensor, hidden + self.mlp(self.post_attention_layernorm(hidden)))


class _SelfAttention(nn.Module):
    def __init__(self, config: Qwen2Config, storage: Storage, index: int) -> None:
        super().__init__()
        self.index = index
        self.window = config.window(index)
        self.head_dim = config.head_dim
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = storage.linear(config.hidden_size, queries)
        self.k_proj = storage.linear(config.hidden_size, keys)
        self.v_proj = storage.linear(config.hidden_size, keys)
        self.o_proj = storage.linear(queries, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, layout: _Layout) -> Tensor:
        query, key, value = (
            made(hidden).view(len(hidden), -1, self.head_dim)
            for made in (self.q_proj, self.k_proj, self.v_proj)
        )
        turned = *(rotate(heads, layout.cos, layout.sin) for heads in (query, key)), value
        mixed = layout.attention[self.window].mix(self.index, *turned)
        return cast(Tensor, self.o_proj(mixed))


class _MLP(nn.Module):
    def __init__(self, config: Qwen2Config, storage: Storage) -> None:
        super().__init__()
        self.gate_proj = storage.linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = storage.linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = storage.linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden)
        return cast(Tensor, self.down_proj(inner))


def _norm(config: Qwen2Config) -> nn.RMSNorm:
    return nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


def _positions(span: Span) -> Tensor:
    """Every token's place in its sequence, (n,)."""
    if span.positions is not None:
        return torch.from_numpy(span.positions)
    return torch.arange(span.past, span.past + len(span.token_ids))


def _initialise(module: nn.Module) -> None:
    """Random start, as transformers begins."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
