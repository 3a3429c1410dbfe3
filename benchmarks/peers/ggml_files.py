"""A published ChatGLM-6B int4 checkpoint as chatglm.cpp reads it: the same weights in q4_0.

Writes what chatglm.cpp's own converter would, matrix by matrix, without a model in memory: blocks
of 32 neighbouring weights, each with a scale of its own. Measures nothing.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.server.checkpoints.int4 import published_values

BLOCK = 32
FLOAT32 = 0
Q4_0 = 2

_ALIGNMENT = 16
_CHATGLM = 1
_CONFIG_VERSION = 2
_ROPE_THETA = 10000.0
_ROWS = 4096  # quantised at a time


def write_ggml(checkpoint: Path, path: Path) -> None:
    """Write the file, unless it is there.

    Args:
        checkpoint: As published in 4 bits: one pytorch_model.bin.
        path: Of the file.
    """
    if path.exists():
        return
    config = json.loads((checkpoint / "config.json").read_bytes())
    tensors = torch.load(checkpoint / "pytorch_model.bin", mmap=True, weights_only=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        file.write(b"ggml" + struct.pack("ii", _CHATGLM, _CONFIG_VERSION) + _config(config))
        tokenizer = (checkpoint / "ice_text.model").read_bytes()
        file.write(struct.pack("i", len(tokenizer)) + tokenizer)
        for name in _names(config["num_layers"]):
            _write_tensor(file, name, tensors)
    unfinished.rename(path)


def q4_0(weights: Tensor) -> NDArray[np.uint8]:
    """Weights, whole blocks a row, as blocks: the scale in float16, then 32 numbers in 16 bytes."""
    blocks = weights.float().reshape(-1, BLOCK)
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    scale = largest / -8
    inverse = torch.where(scale == 0, 0.0, 1 / scale)
    numbers = (blocks * inverse + 8.5).clamp_(0, 15).to(torch.uint8)
    pairs = numbers[:, : BLOCK // 2] | (numbers[:, BLOCK // 2 :] << 4)
    stored = torch.cat([scale.half().view(torch.uint8), pairs], dim=1)
    return stored.numpy()


def _config(config: Mapping[str, Any]) -> bytes:
    heads = config["num_attention_heads"]
    return struct.pack(
        "iiiiiiififiii",
        Q4_0,
        config["vocab_size"],
        config["hidden_size"],
        heads,
        heads,
        config["num_layers"],
        config["inner_hidden_size"],
        config["layernorm_epsilon"],
        0,  # no prefix
        _ROPE_THETA,
        config["max_sequence_length"],
        config["eos_token_id"],
        config["pad_token_id"],
    )


def _names(layers: int) -> Iterator[str]:
    yield "transformer.word_embeddings.weight"
    parts = (
        "input_layernorm",
        "attention.query_key_value",
        "attention.dense",
        "post_attention_layernorm",
        "mlp.dense_h_to_4h",
        "mlp.dense_4h_to_h",
    )
    stems = [f"transformer.layers.{layer}.{part}" for layer in range(layers) for part in parts]
    for stem in (*stems, "transformer.final_layernorm"):
        yield f"{stem}.weight"
        yield f"{stem}.bias"


def _write_tensor(file: BinaryIO, name: str, tensors: Mapping[str, Tensor]) -> None:
    tensor, scale = tensors[name], tensors.get(f"{name}_scale")
    columns = tensor.shape[-1] * (1 if scale is None else 2)
    shape = (*tensor.shape[:-1], columns)
    kind = Q4_0 if len(shape) > 1 else FLOAT32
    file.write(struct.pack("i", len(name)) + name.encode())
    file.write(struct.pack(f"{len(shape) + 2}i", len(shape), *shape, kind))
    file.write(bytes(-file.tell() % _ALIGNMENT))
    if kind == FLOAT32:
        file.write(tensor.float().numpy().data)
        return
    for start in range(0, len(tensor), _ROWS):
        rows = tensor[start : start + _ROWS]
        if scale is not None:
            rows = published_values(rows) * scale[start : start + _ROWS].float().unsqueeze(1)
        file.write(q4_0(rows).data)
