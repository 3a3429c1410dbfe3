"""Merges a LoRA adapter into a Qwen2 checkpoint's tensors.

peft knows the network of transformers, so the merge happens in it; the tensors go into ours. They
are merged in the type that they are stored in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from backends.server.checkpoints.adapter import merge_adapter
from backends.server.checkpoints.architecture import UNREADABLE, not_usable, read_architecture
from backends.server.errors import CheckpointError


def merged_tensors(folder: Path, tensors: Mapping[str, Tensor], adapter: Path) -> dict[str, Tensor]:
    """The tensors with the adapter in them, and the head among them in any case.

    Args:
        folder: the checkpoint, for its config.json.
        tensors: its weights by name, which may be read-only.
        adapter: holds adapter_config.json and the adapter's weights.

    Raises:
        CheckpointError: the weights don't fit the config, or the adapter doesn't fit them.
    """
    model = _empty_model(folder)
    try:
        model.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"The weights don't fit the config: {error}") from error
    model.tie_weights()
    return dict(merge_adapter(model, adapter).state_dict())


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
