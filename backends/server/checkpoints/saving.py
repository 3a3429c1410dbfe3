"""Writes a trained network as a checkpoint folder, in the published names and types.

Writes no tokenizer and no sampling defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn


def save_network(network: nn.Module, config: Mapping[str, Any], folder: Path) -> None:
    """Writes config.json and model.safetensors (float16)."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in network.state_dict().items()
    }
    # Not save_file, whose files nobody but their owner may read.
    (folder / "model.safetensors").write_bytes(save(state, {"format": "pt"}))
    text = json.dumps(config, indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
