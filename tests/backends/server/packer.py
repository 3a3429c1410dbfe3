"""Packs a small checkpoint, and counts how often; imports little, since processes start with it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from backends.server.checkpoints.packing import Entry, Part, packed_tensors

NAME = "form"
LAYOUT = (
    Entry("doubled", np.float32, (8,)),
    Entry("odd", np.int8, (3, 1)),
    Entry("bytes", np.uint8, (2, 4)),
)


def make_checkpoint(folder: Path) -> Path:
    """A source whose weights are the numbers 0 to 7."""
    folder.mkdir(parents=True)
    config = {"model_type": "chatglm", "inner_hidden_size": 8, "max_sequence_length": 8}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": np.arange(8, dtype=np.float32)}, folder / "model.safetensors")
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
            Part("doubled", np.float32, weight.shape, lambda: 2 * weight),
            Part("odd", np.int8, (3, 1), lambda: weight[:6:2].astype(np.int8).reshape(3, 1)),
            Part("bytes", "uint8", (2, 4), lambda: weight.astype(np.uint8).reshape(4, 2).T),
        ]

    def tensors(self) -> dict[str, NDArray[Any]]:
        return packed_tensors(
            self.folder,
            NAME,
            self.plan,
            lambda stage, done: self.progress.append((stage, done)),
            layout=LAYOUT,
        )

    def assert_right(self, times: int) -> None:
        tensors = self.tensors()
        weight = load_file(self.folder / "model.safetensors")["weight"]
        assert set(tensors) == {"doubled", "odd", "bytes"}
        np.testing.assert_array_equal(tensors["doubled"], 2 * weight, strict=True)
        odd = weight[:6:2].astype(np.int8).reshape(3, 1)
        np.testing.assert_array_equal(tensors["odd"], odd, strict=True)
        np.testing.assert_array_equal(tensors["bytes"], weight.reshape(4, 2).T)
        assert self.times == times
