"""Packs a small checkpoint, and counts how often; imports little, since processes start with it."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from backends.server.packing import Part, packed_tensors

NAME = "form"


def make_checkpoint(folder: Path) -> Path:
    """A source whose weights are the numbers 0 to 7."""
    folder.mkdir(parents=True)
    config = {"model_type": "chatglm", "inner_hidden_size": 8, "max_sequence_length": 8}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.arange(8.0)}, folder / "model.safetensors")
    return folder


class Packer:
    """Packs a checkpoint's weights doubled, and counts how often."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.times = 0
        self.progress: list[tuple[str, float]] = []

    def plan(self) -> Sequence[Part]:
        self.times += 1
        weight = load_file(self.folder / "model.safetensors")["weight"]
        return [
            Part("doubled", torch.float32, tuple(weight.shape), lambda: 2 * weight),
            Part("rounded", torch.bfloat16, tuple(weight.shape), weight.bfloat16),
            Part("bytes", torch.uint8, (2, 4), lambda: weight.byte().view(2, 4)),
        ]

    def tensors(self) -> dict[str, Tensor]:
        return packed_tensors(
            self.folder, NAME, self.plan, lambda stage, done: self.progress.append((stage, done))
        )

    def assert_right(self, times: int) -> None:
        tensors = self.tensors()
        weight = load_file(self.folder / "model.safetensors")["weight"]
        assert torch.equal(tensors["doubled"], 2 * weight)
        assert torch.equal(tensors["rounded"], weight.bfloat16())
        assert torch.equal(tensors["bytes"], weight.byte().view(2, 4))
        assert self.times == times
