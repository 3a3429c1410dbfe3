"""Qwen2 and Qwen1.5 checkpoints: network by transformers over the checkpoint's mapped weights.

Each sequence keeps its own cache; spans with caches go through the network one after the other.
Tokenizer and chat template are the checkpoint's own. Executes no code from a checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from backends.server.adapter import merge_adapter
from backends.server.architecture import UNREADABLE, not_usable, read_architecture
from backends.server.batch import FlatBatch, KVCache, Span
from backends.server.errors import CheckpointError
from backends.server.generation_config import read_defaults
from backends.server.precision import DTYPES, unquantised_precisions
from backends.server.template_tokenizer import TemplateTokenizer, load_tokenizer
from backends.server.weights import Progress, read_tensors

__all__ = [
    "Qwen2Cache",
    "Qwen2Network",
    "fallback_id",
    "load_network",
    "load_tokenizer",
    "possible_precisions",
    "read_defaults",
]


class Qwen2Cache(KVCache):
    """Keys and values of one sequence, kept by transformers."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__()
        self.layers = DynamicCache(config=config)


class Qwen2Network(nn.Module):
    """transformers' network behind the flat batch; trainable where there are no caches.

    Args:
        model: computes in the precision of its weights.
    """

    def __init__(self, model: Qwen2ForCausalLM) -> None:
        super().__init__()
        self.model = model

    @property
    def vocab_size(self) -> int:
        """Number of logits a row."""
        return int(self.model.config.vocab_size)

    @property
    def context(self) -> int:
        """How many tokens a sequence may have."""
        return int(self.model.config.max_position_embeddings)

    def new_cache(self) -> Qwen2Cache:
        """An empty cache for one sequence."""
        return Qwen2Cache(self.model.config)

    def forward(self, batch: FlatBatch) -> Tensor:
        """Logits of the wanted rows, (rows, vocab), float32; caches grow by their spans."""
        if any(span.cache is not None for span in batch.spans):
            hidden = torch.cat([self._continue(span) for span in batch.spans])
        else:
            hidden = self._whole(batch)
        return cast(Tensor, self.model.lm_head(batch.select(hidden)).float())

    def _whole(self, batch: FlatBatch) -> Tensor:
        """Hidden states of sequences without caches, together: padding behind is never seen."""
        sequences = [torch.tensor(span.token_ids) for span in batch.spans]
        padded = pad_sequence(sequences, batch_first=True)
        hidden = self.model.model(input_ids=padded, use_cache=False).last_hidden_state
        inside = torch.arange(padded.shape[1]) < torch.tensor(batch.lengths).unsqueeze(1)
        return cast(Tensor, hidden[inside])

    def _continue(self, span: Span) -> Tensor:
        """Hidden states of one span, (n, hidden)."""
        cache = cast(Qwen2Cache, span.cache) if span.cache is not None else self.new_cache()
        output = self.model.model(
            input_ids=torch.tensor([span.token_ids]), past_key_values=cache.layers, use_cache=True
        )
        cache.token_ids.extend(span.token_ids)
        return cast(Tensor, output.last_hidden_state[0])


def possible_precisions(folder: Path) -> tuple[str, ...]:
    """In what a checkpoint folder can be computed, its own choice first.

    Raises:
        CheckpointError: its weights are missing or damaged.
    """
    return unquantised_precisions(folder)


def load_network(
    folder: Path, precision: str, progress: Progress, adapter: Path | None = None
) -> Qwen2Network:
    """The network of a checkpoint folder, in one of the possible precisions.

    Weights that are stored in that precision stay mapped from their files.

    Raises:
        CheckpointError: something is missing, damaged or doesn't fit the config.
    """
    model = _empty_model(folder)
    dtype = DTYPES[precision]
    state = {name: tensor.to(dtype) for name, tensor in read_tensors(folder, progress)}
    try:
        outcome = model.load_state_dict(state, strict=False, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"The weights don't fit the config: {error}") from error
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    missing = [name for name in outcome.missing_keys if name not in tied]
    if missing:
        raise CheckpointError(f"{folder} lacks weights: {', '.join(missing[:5])}.")
    model.tie_weights()
    if adapter is not None:
        model = merge_adapter(model, adapter)
    network = Qwen2Network(model)
    network.train(False)
    return network.requires_grad_(False)


def _empty_model(folder: Path) -> Qwen2ForCausalLM:
    """The network that config.json describes, without weights."""
    config = read_architecture(folder, Qwen2Config)
    try:
        with torch.device("meta"):
            model = Qwen2ForCausalLM(config)
        # Its frequencies are computed, not loaded.
        model.model.rotary_emb = Qwen2RotaryEmbedding(config)
    except UNREADABLE as error:
        raise not_usable(folder, Qwen2Config, error) from error
    return model


def fallback_id(_tokenizer: TemplateTokenizer) -> None:
    """Logits that are no numbers are a failure here."""
