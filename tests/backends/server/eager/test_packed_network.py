"""The packed file of torch's networks: only one with exactly their tensors is computed with."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from backends.server import load_model
from backends.server.checkpoints.packing import Part, packed_tensors
from backends.server.kernels import SETTING
from tests.backends.server.chatglm_checkpoints import copy_golden

PROMPT = [5, 6, 268, 271]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SETTING, "torch")
    return copy_golden(tmp_path / "model", "int8")


def _load(folder: Path) -> tuple[NDArray[np.float32], bool]:
    """Some logits, and whether the weights were packed for them."""
    stages: list[str] = []
    model = load_model(folder, "int8", lambda stage, _done: stages.append(stage))
    return model.logits(PROMPT), "converting" in stages


def _replace(folder: Path, changed: dict[str, NDArray[Any]], left_out: str = "") -> None:
    """Writes the packed file anew with other tensors, as anybody could who knows this program."""
    path = next((folder / "twopane").glob("*.safetensors"))
    found = load_file(path)
    arrays = {name: one for name, one in found.items() if not name.startswith("__")} | changed
    arrays.pop(left_out, None)
    path.unlink()
    parts = [Part(name, one.dtype, one.shape, one.copy) for name, one in arrays.items()]
    packed_tensors(folder, path.stem, lambda: parts, layout=parts)


_NORM = "transformer.final_layernorm.weight"


@pytest.mark.parametrize(
    ("changed", "left_out"),
    [
        ({_NORM: np.zeros(3, np.float32)}, ""),
        ({_NORM: np.zeros(1_000_000, np.float32)}, ""),
        ({"more": np.zeros(3, np.float32)}, ""),
        ({}, _NORM),
    ],
)
def test_a_file_with_other_tensors_than_the_networks_is_made_anew(
    folder: Path, changed: dict[str, NDArray[Any]], left_out: str
) -> None:
    expected, _ = _load(folder)
    _replace(folder, changed, left_out)
    for is_made in (True, False):
        logits, made = _load(folder)
        assert made == is_made
        np.testing.assert_array_equal(logits, expected)
