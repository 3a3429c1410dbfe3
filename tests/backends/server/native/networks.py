"""Small checkpoints whose shapes the kernels can compute, and what they are held against."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from backends.server import ChatModel, load_model
from backends.server.batch import FlatBatch, KVCache, Span
from backends.server.checkpoints.int4 import published_values
from backends.server.checkpoints.quantising import PlainTensor, Quantised
from backends.server.kernels import chosen_level
from backends.server.native import NativeNetwork
from backends.server.qwen2.checkpoint import quantised_tensors
from benchmarks.random_weights import TINY, make_chatglm_6b_int4, quantise
from tests.backends.server.qwen2_checkpoints import make_qwen2, module_of
from tests.backends.server.transformers_checkpoints import edit_json

GROUP = 32


TABLE = "transformer.word_embeddings.weight"


@dataclass(frozen=True)
class Prompts:
    """Sequences that a family understands."""

    long: tuple[int, ...]
    short: tuple[int, ...]
    answer: tuple[int, ...]


def make_qwen(folder: Path, **config: object) -> Path:
    """Grouped queries, a head of its own unless ``tied``, odd numbers of panels."""
    shape = {
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_hidden_layers": 3,
        "vocab_size": 520,
        "tied": False,
        "initializer_range": 0.1,
    }
    return make_qwen2(folder, **(shape | config))  # type: ignore[arg-type]


def make_chatglm(folder: Path) -> Path:
    """Four bits, as published, with the small vocabulary of the built-in model."""
    with patch.dict(os.environ, CHATGLM_TOKENIZER=str(TINY / "tiny-chatglm")):
        return _make_chatglm(folder)


def _make_chatglm(folder: Path) -> Path:
    return make_chatglm_6b_int4(
        folder,
        vocab_size=2400,
        hidden_size=128,
        num_layers=3,
        num_attention_heads=4,
        inner_hidden_size=224,
        max_sequence_length=1024,
    )


def in_eight_bits(four_bits: Path, folder: Path) -> Path:
    """The same checkpoint in the published form of eight bits."""
    state = _copied(four_bits, folder, quantization_bit=8)
    for name in [name for name in state if f"{name}_scale" in state]:
        # Sixteen times as large, and the scale as much smaller: the same weights.
        state[name] = published_values(state[name]) * 16
        state[f"{name}_scale"] = state[f"{name}_scale"] / 16
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def with_quantised_table(four_bits: Path, folder: Path) -> Path:
    """The same checkpoint with an embedding in four bits as well."""
    state = _copied(four_bits, folder, quantization_embeddings=True)
    for name in (TABLE, "lm_head.weight"):
        state[name], state[f"{name}_scale"] = quantise(state[name].float())
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def _copied(source: Path, folder: Path, **config: object) -> dict[str, Tensor]:
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("twopane"))
    edit_json(folder / "config.json", **config)
    state: dict[str, Tensor] = torch.load(folder / "pytorch_model.bin", weights_only=True)
    return state


def prompts_of(model: ChatModel) -> Prompts:
    """Some for each family; the long one is longer than a cache's first room."""
    random = np.random.default_rng(0)
    ids = [int(token) for token in random.integers(5, 400, 700)]
    end: list[int] = []
    if model.family == "chatglm":
        end = model.tokenizer.encode_chat([{"role": "user", "content": "a"}])[-2:]
    return Prompts((*ids[:600], *end), (*ids[600:620], *end), tuple(ids[620:660]))


def native_of(model: ChatModel) -> NativeNetwork:
    """The native network of a model, which it must have where the CPU has kernels."""
    if chosen_level() is None:
        pytest.skip("On this CPU torch computes.")
    assert isinstance(model.network, NativeNetwork)
    return model.network


def step(network: NativeNetwork, *spans: tuple[Sequence[int], KVCache]) -> NDArray[np.float32]:
    """Logits after the last token of each span."""
    return network.step(FlatBatch.step([Span(tuple(ids), cache) for ids, cache in spans]))


def dequantised(folder: Path, precision: str) -> ChatModel:
    """The same model with the quantised weights as floats, computed by torch in float32."""
    model = load_model(folder, "float32")
    if model.family == "qwen2":
        tensors = quantised_tensors(folder, precision)
        module_of(model).load_state_dict(dict(_as_floats(one) for one in tensors), strict=False)
    return model


def _as_floats(tensor: Quantised) -> tuple[str, Tensor]:
    if isinstance(tensor, PlainTensor):
        return tensor.name, tensor.values()
    scales = tensor.scales().float()
    wide = scales.unsqueeze(1) if scales.ndim == 1 else scales.repeat_interleave(GROUP, dim=1)
    return f"{tensor.name}.weight", tensor.numbers() * wide
