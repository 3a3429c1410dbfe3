"""The ChatGLM v1 network: one forward pass over a flat batch, for serving and for training.

Computes logits and keeps keys and values; chooses no tokens and knows no text. How its matrices
are stored and multiplied is ``linear``'s business; what lies between them is computed in float32.
Parameters carry the published names, so checkpoints load as they are.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save as serialise
from torch import Tensor, nn
from torch.nn import functional

from backends.server.batch import FlatBatch, KVCache, Span
from backends.server.chatglm.config import ChatGLMConfig
from backends.server.errors import CheckpointError, SequenceError
from backends.server.linear import PLAIN, Storage

# The original never tells its blocks how many layers there are: each computes sqrt(2 * 28) from
# the default, whatever the checkpoint's depth.
RESIDUAL_SCALE = math.sqrt(2 * 28)

_FIRST_CAPACITY = 64


class ChatGLMCache(KVCache):
    """Rotated keys and values of one sequence, each layer in a buffer that grows by doubling."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Stores a span's keys and values (heads, n, head_dim) and returns all so far."""
        all_keys = self._keys[layer] = _written(self._keys[layer], keys, self.length)
        all_values = self._values[layer] = _written(self._values[layer], values, self.length)
        total = self.length + keys.shape[1]
        return all_keys[:, :total], all_values[:, :total]

    def stored(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values so far, (heads, length, head_dim).

        Raises:
            LookupError: there are none yet.
        """
        keys, values = self._keys[layer], self._values[layer]
        if keys is None or values is None:
            raise LookupError("Nothing is stored yet.")
        return keys[:, : self.length], values[:, : self.length]


def _written(buffer: Tensor | None, new: Tensor, start: int) -> Tensor:
    """The buffer with ``new`` at ``start``, in a larger buffer if it doesn't fit."""
    heads, count, width = new.shape
    stop = start + count
    if buffer is None or buffer.shape[1] < stop:
        larger = new.new_empty(heads, max(_FIRST_CAPACITY, 2 * stop), width)
        if buffer is not None:
            larger[:, :start] = buffer[:, :start]
        buffer = larger
    buffer[:, start:stop] = new
    return buffer


@dataclass(frozen=True)
class _Layout:
    """What the attention of one forward pass needs, computed once for all layers.

    Attributes:
        spans: the batch's spans.
        lengths: their lengths.
        cos: cosines of the rotary angles, (T, 1, 2, head_dim / 4): first and second half of a head.
        sin: the sines.
        masks: for each span the visible keys (n, past + n), or None where all are.
        padded: for batches without caches.
        dtype: of keys, values and the products with them.
    """

    spans: tuple[Span, ...]
    lengths: list[int]
    cos: Tensor
    sin: Tensor
    masks: list[Tensor | None]
    padded: _Padded | None
    dtype: torch.dtype


@dataclass(frozen=True)
class _Padded:
    """How the row becomes a rectangle of N sequences by L tokens, for one product over all.

    In training that is twice as fast as one product a span (2 cores, 60 spans of 50 tokens).

    Attributes:
        gather: positions in the row, (N * L,); those of padding are arbitrary.
        scatter: positions in the rectangle, (T,).
        mask: the visible keys, (N, 1, L, L).
    """

    gather: Tensor
    scatter: Tensor
    mask: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], masks: Sequence[Tensor]) -> _Padded:
        longest = max(lengths)
        inside = torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)
        scatter = inside.flatten().nonzero().squeeze(1)
        gather = torch.zeros(inside.numel(), dtype=torch.long)
        gather[scatter] = torch.arange(len(scatter))
        # Padding sees everything, so that its rows stay finite; nothing sees padding.
        mask = (~inside).unsqueeze(-1).repeat(1, 1, longest)
        for row, (length, visible) in enumerate(zip(lengths, masks, strict=True)):
            mask[row, :length, :length] = visible
        return cls(gather, scatter, mask.unsqueeze(1))

    def pad(self, row: Tensor) -> Tensor:
        """(T, heads, width) to (N, heads, L, width)."""
        padded = _take(row, self.gather)
        return padded.view(len(self.mask), -1, *row.shape[1:]).transpose(1, 2)

    def unpad(self, padded: Tensor) -> Tensor:
        """(N, heads, L, width) to (T, heads, width)."""
        return _take(padded.transpose(1, 2).flatten(0, 1), self.scatter)


def _take(rows: Tensor, places: Tensor) -> Tensor:
    """Rows by number; as an embedding, since that has the fastest gradient."""
    return functional.embedding(places, rows.flatten(1)).view(-1, *rows.shape[1:])


class ChatGLMNetwork(nn.Module):
    """The decoder with its tied head; starts at random unless loaded.

    Args:
        config: the shape.
        storage: how the matrices are stored; others than plain ones can't be trained.
    """

    def __init__(self, config: ChatGLMConfig, storage: Storage = PLAIN) -> None:
        super().__init__()
        self.config = config
        self.transformer = _Transformer(config, storage)
        self._attention_dtype = storage.attention
        self._inverse_frequencies = _inverse_frequencies(config)
        self.apply(_initialise)

    @classmethod
    def on_meta(cls, config: ChatGLMConfig, storage: Storage = PLAIN) -> ChatGLMNetwork:
        """A network without numbers: says which tensors it needs."""
        with torch.device("meta"):
            return cls(config, storage)

    @classmethod
    def from_tensors(
        cls,
        config: ChatGLMConfig,
        tensors: Iterable[tuple[str, Tensor]],
        storage: Storage = PLAIN,
    ) -> ChatGLMNetwork:
        """A network with a checkpoint's weights, in the types of its storage.

        Raises:
            CheckpointError: tensors are missing, unknown or of the wrong shape.
        """
        network = cls.on_meta(config, storage)
        types = {name: tensor.dtype for name, tensor in network.state_dict().items()}
        state: dict[str, Tensor] = {}
        for name, tensor in tensors:
            own_name = name.replace("lm_head.", "transformer.word_embeddings.")
            # Both names stand for one shared matrix; where a file holds two, the head's is the
            # one that the original ends up with.
            of_head_already = own_name == name and own_name in state
            if not name.endswith("rotary_emb.inv_freq") and not of_head_already:
                state[own_name] = tensor.to(types.get(own_name, tensor.dtype))
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            # torch names every tensor of every layer.
            message = textwrap.shorten(str(error), 600, placeholder=" ...")
            raise CheckpointError(f"The weights don't fit the config: {message}") from error
        return network.eval().requires_grad_(False)

    @property
    def vocab_size(self) -> int:
        """Number of logits a row."""
        return self.config.vocab_size

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""
        return self.config.max_sequence_length

    def new_cache(self) -> ChatGLMCache:
        """An empty cache for one sequence."""
        return ChatGLMCache(self.config.num_layers)

    def forward(self, batch: FlatBatch) -> Tensor:
        """Logits of the batch's wanted rows, (rows, vocab); caches grow by their spans.

        Raises:
            SequenceError: a sequence has no <sop>, or neither [gMASK] nor [MASK].
        """
        layout = self._layout(batch)
        hidden = self.transformer(batch.token_ids, layout)
        for span in batch.spans:
            if span.cache is not None:
                span.cache.token_ids.extend(span.token_ids)
        return self.transformer.word_embeddings.product(batch.select(hidden))

    def save(self, folder: Path) -> None:
        """Writes config.json and model.safetensors (float16, published names)."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: tensor.detach().to(torch.float16).contiguous()
            for name, tensor in self.state_dict().items()
        }
        # Not save_file, whose files nobody but their owner may read.
        (folder / "model.safetensors").write_bytes(serialise(state, {"format": "pt"}))
        text = json.dumps(self.config.to_dict(), indent=2) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")

    def _layout(self, batch: FlatBatch) -> _Layout:
        contexts = [_context_length(span.sequence, self.config) for span in batch.spans]
        positions = torch.cat(
            [
                _positions(span, context, self.config) if span.positions is None else span.positions
                for span, context in zip(batch.spans, contexts, strict=True)
            ],
            dim=1,
        )
        masks = [_mask(s, context) for s, context in zip(batch.spans, contexts, strict=True)]
        cached = any(span.cache is not None for span in batch.spans)
        angles = positions.T.unsqueeze(-1) * self._inverse_frequencies
        return _Layout(
            spans=batch.spans,
            lengths=batch.lengths,
            cos=angles.cos().unsqueeze(1),
            sin=angles.sin().unsqueeze(1),
            masks=[mask if len(mask) > 1 else None for mask in masks],
            padded=None if cached else _Padded.of(batch.lengths, masks),
            dtype=self._attention_dtype,
        )


class _Transformer(nn.Module):
    def __init__(self, config: ChatGLMConfig, storage: Storage) -> None:
        super().__init__()
        self.word_embeddings = storage.table(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            _Block(config, storage, index) for index in range(config.num_layers)
        )
        self.final_layernorm = _layernorm(config)

    def forward(self, token_ids: Tensor, layout: _Layout) -> Tensor:
        hidden = self.word_embeddings.rows(token_ids)
        for layer in self.layers:
            hidden = layer(hidden, layout)
        return cast(Tensor, self.final_layernorm(hidden))


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
        rotated = _rotate(query, layout), _rotate(key, layout), value
        query, key, value = (part.to(layout.dtype) for part in rotated)
        if layout.padded is not None:
            query, key, value = (layout.padded.pad(part) for part in (query, key, value))
            seen = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=layout.padded.mask
            )
            return cast(Tensor, self.dense(layout.padded.unpad(seen).flatten(1)))
        split = (part.split(layout.lengths) for part in (query, key, value))
        rows = [
            self._attend_span(*parts)
            for parts in zip(layout.spans, *split, layout.masks, strict=True)
        ]
        return cast(Tensor, self.dense(torch.cat(rows)))

    def _attend_span(
        self, span: Span, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Attention of one span, from (n, heads, head_dim) to (n, hidden)."""
        query, key, value = (part.transpose(0, 1) for part in (query, key, value))
        if span.cache is not None:
            key, value = cast(ChatGLMCache, span.cache).append(self.index, key, value)
        mixed = functional.scaled_dot_product_attention(
            query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0), attn_mask=mask
        )
        return mixed[0].transpose(0, 1).flatten(1)


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


def _inverse_frequencies(config: ChatGLMConfig) -> Tensor:
    """Rotary frequencies of one half of a head, (head_dim / 4,).

    Checkpoints were trained with them rounded to float16; exact ones shift the logits by 0.26
    after 300 tokens.
    """
    width = config.head_dim // 2
    exponents = torch.arange(0, width, 2, device="cpu", dtype=torch.float32) / width
    return (1.0 / 10000**exponents).to(torch.float16).to(torch.float32)


def _rotate(heads: Tensor, layout: _Layout) -> Tensor:
    """Turns the first half of each head by the position, the second by the block position.

    Args:
        heads: (T, heads, head_dim).
        layout: holds the angles.
    """
    halves = heads.reshape(*heads.shape[:-1], 2, -1)
    first, second = halves.chunk(2, dim=-1)
    cos, sin = layout.cos, layout.sin
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.flatten(-2)


def _context_length(sequence: Sequence[int], config: ChatGLMConfig) -> int:
    """Where the first <sop> stands: what is before it sees itself in both directions."""
    try:
        return sequence.index(config.bos_token_id)
    except ValueError:
        raise SequenceError("A ChatGLM sequence needs a <sop> token.") from None


def _mask_position(sequence: Sequence[int], config: ChatGLMConfig) -> int:
    """Where the first [gMASK] stands, or else the first [MASK]."""
    for token in (config.gmask_token_id, config.mask_token_id):
        if token in sequence:
            return sequence.index(token)
    raise SequenceError("A ChatGLM sequence needs a [gMASK] or [MASK] token.")


def _positions(span: Span, context: int, config: ChatGLMConfig) -> Tensor:
    """Position and block position of a span's tokens, (2, n)."""
    mask = _mask_position(span.sequence, config)
    index = torch.arange(span.past, span.past + len(span.token_ids))
    inside = index < context
    return torch.stack((torch.where(inside, index, mask), (index - context + 1).clamp(min=0)))


def _mask(span: Span, context: int) -> Tensor:
    """Which keys a span's tokens see, (n, past + n): up to themselves, and the whole context."""
    key = torch.arange(span.past + len(span.token_ids))
    query = key[span.past :].unsqueeze(1)
    return (key <= query) | (key < context)
