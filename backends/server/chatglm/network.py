"""The ChatGLM v1 network: one forward pass over a flat batch, for serving and for training.

Computes logits and keeps keys and values; chooses no tokens and knows no text. How its matrices
are stored and multiplied is ``eager.linear``'s business; what lies between them is computed in
float32. Parameters carry the published names, so checkpoints load as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from backends.server.batch import FlatBatch, Span
from backends.server.chatglm import places
from backends.server.chatglm.config import RESIDUAL_SCALE, ChatGLMConfig
from backends.server.eager.attention import Attention, causal
from backends.server.eager.layered import LayeredNetwork, Parts, rotate
from backends.server.eager.linear import PLAIN, Storage


@dataclass(frozen=True)
class _Layout:
    """What one forward pass needs, computed once for all layers.

    Attributes:
        cos: cosines of the rotary angles, (T, 1, 2, head_dim / 4): first and second half of a head.
        sin: the sines.
        attention: who sees whom.
    """

    cos: Tensor
    sin: Tensor
    attention: Attention


class ChatGLMNetwork(LayeredNetwork[ChatGLMConfig]):
    """The decoder with its tied head."""

    # A prompt's context is seen in both directions, so it goes through at once.
    chunkable = False

    def __init__(self, config: ChatGLMConfig, storage: Storage = PLAIN) -> None:
        super().__init__(config, storage)
        self.transformer = _Transformer(config, storage)
        self._attention_dtype = storage.attention
        self._frequencies = torch.tensor(places.frequencies(config), device="cpu")
        self.apply(_initialise)

    @classmethod
    def from_tensors(
        cls,
        config: ChatGLMConfig,
        tensors: Iterable[tuple[str, Tensor]],
        storage: Storage = PLAIN,
    ) -> Self:
        """See ``LayeredNetwork``; takes a checkpoint's tensors as they are."""
        return super().from_tensors(config, _without_head(tensors), storage)

    @property
    def parts(self) -> Parts:
        """See ``LayeredNetwork``."""
        inner = self.transformer
        table = inner.word_embeddings
        return Parts(table, inner.layers, inner.final_layernorm, head=table)

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""
        return self.config.max_sequence_length

    def reusable(self, stored: Sequence[int], prompt: Sequence[int]) -> int:
        """How many of a stored sequence's first tokens serve a prompt; see ``places``."""
        return places.reusable(stored, prompt, self.config)

    def layout(self, batch: FlatBatch) -> _Layout:
        """See ``LayeredNetwork``.

        Raises:
            SequenceError: a sequence has no <sop>, or neither [gMASK] nor [MASK].
        """
        contexts = [places.context_length(span.sequence, self.config) for span in batch.spans]
        pairs = list(zip(batch.spans, contexts, strict=True))
        turns = torch.cat([_positions(*pair, self.config) for pair in pairs], dim=1)
        angles = turns.T.unsqueeze(-1) * self._frequencies
        masks = [_mask(*pair) for pair in pairs]
        return _Layout(
            cos=angles.cos().unsqueeze(1),
            sin=angles.sin().unsqueeze(1),
            attention=Attention.of(batch, masks, self._attention_dtype),
        )


class _Transformer(nn.Module):
    def __init__(self, config: ChatGLMConfig, storage: Storage) -> None:
        super().__init__()
        self.word_embeddings = storage.table(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            _Block(config, storage, index) for index in range(config.num_layers)
        )
        self.final_layernorm = _layernorm(config)


class _Block(nn.Module):
    def __init__(self, config: ChatGLMConfig, storage: Storage, index: int) -> None:
        super().__init__()
        self.input_layernorm = _layernorm(config)
        self.attention = _Attention(config, storage, index)
        self.post_attention_layernorm = _layernorm(config)
        self.mlp = _MLP(config, storage)

    def forward(self, hidden: Tensor, layout: _Layout) -> Tensor:
        # The residual is the normalised input, not the input.
        normed = self.input_layernorm(hidden)
        hidden = normed * RESIDUAL_SCALE + self.attention(normed, layout)
        normed = self.post_attention_layernorm(hidden)
        return cast(Tensor, normed * RESIDUAL_SCALE + self.mlp(normed))


class _Attention(nn.Module):
    def __init__(self, config: ChatGLMConfig, storage: Storage, index: int) -> None:
        super().__init__()
        self.index = index
        self.heads = config.num_attention_heads
        self.query_key_value = storage.linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = storage.linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor, layout: _Layout) -> Tensor:
        # Query, key and value are thirds of each head, not of the whole row.
        mixed = self.query_key_value(hidden).view(len(hidden), self.heads, -1)
        query, key, value = mixed.chunk(3, dim=-1)
        turned = _rotate(query, layout), _rotate(key, layout), value
        return cast(Tensor, self.dense(layout.attention.mix(self.index, *turned)))


class _MLP(nn.Module):
    def __init__(self, config: ChatGLMConfig, storage: Storage) -> None:
        super().__init__()
        self.dense_h_to_4h = storage.linear(config.hidden_size, config.inner_hidden_size)
        self.dense_4h_to_h = storage.linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        inner = functional.gelu(self.dense_h_to_4h(hidden), approximate="tanh")
        return cast(Tensor, self.dense_4h_to_h(inner))


def _layernorm(config: ChatGLMConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.hidden_size, eps=config.layernorm_epsilon)


def _initialise(module: nn.Module) -> None:
    """Random start: keeps the scale of rows, and gives logits of about unit size."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)


def _rotate(heads: Tensor, layout: _Layout) -> Tensor:
    """Turns the first half of each head by the position, the second by the block position.

    Args:
        heads: (T, heads, head_dim).
        layout: holds the angles.
    """
    halves = heads.reshape(*heads.shape[:-1], 2, -1)
    return rotate(halves, layout.cos, layout.sin).flatten(-2)


def _without_head(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors under the names of the network, which has no head of its own.

    The embedding's name and the head's stand for one shared matrix; where a file holds two, the
    head's is the one that the original ends up with.
    """
    of_head = set()
    for name, tensor in tensors:
        own_name = name.replace("lm_head.", "transformer.word_embeddings.")
        if own_name != name:
            of_head.add(own_name)
        if name not in of_head and not name.endswith("rotary_emb.inv_freq"):
            yield own_name, tensor


def _positions(span: Span, context: int, config: ChatGLMConfig) -> Tensor:
    """Position and block position of a span's tokens, (2, n)."""
    given = span.positions is not None
    return torch.from_numpy(span.positions if given else places.positions(span, context, config))


def _mask(span: Span, context: int) -> Tensor:
    """Which keys a span's tokens see, (n, past + n): up to themselves, and the whole context."""
    key = torch.arange(span.past + len(span.token_ids))
    return causal(span) | (key < context)
