"""The packed file of a native network: only one with exactly its tensors is computed with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from backends.server import load_model
from backends.server.checkpoints.packing import Part, packed_tensors
from backends.server.kernels import INT8, LANES
from backends.server.native.decoder import Matrix
from tests.backends.server.native.networks import make_qwen, native_of

Arrays = dict[str, NDArray[Any]]
PROMPT = [5, 6, 7, 300]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_qwen(tmp_path / "model", num_hidden_layers=2)


def _load(folder: Path, precision: str) -> tuple[NDArray[np.float32], bool]:
    """Some logits, and whether the weights were packed for them."""
    stages: list[str] = []
    model = load_model(folder, precision, lambda stage, _done: stages.append(stage))
    native_of(model)
    return model.logits(PROMPT), "converting" in stages


def _replace(folder: Path, change: Callable[[Arrays], Arrays]) -> None:
    """Writes the packed file anew with other tensors, as anybody could who knows this program."""
    path = next((folder / "twopane").glob("*.safetensors"))
    found = load_file(path)
    arrays = change({name: one for name, one in found.items() if not name.startswith("__")})
    path.unlink()
    parts = [Part(name, one.dtype, one.shape, one.copy) for name, one in arrays.items()]
    packed_tensors(folder, path.stem, lambda: parts, layout=parts)
    assert set(load_file(path)) >= set(arrays)


def _small_weight(arrays: Arrays) -> Arrays:
    return arrays | {"layers.1.up.weight": np.zeros((1, 64), np.uint8)}


def _long_bias(arrays: Arrays) -> Arrays:
    return arrays | {"layers.1.up.bias": np.zeros(1_000_000, np.float32)}


def _short_scales(arrays: Arrays) -> Arrays:
    return arrays | {"layers.0.down.scale": arrays["layers.0.down.scale"][:1]}


def _wide_norm(arrays: Arrays) -> Arrays:
    return arrays | {"final_norm.weight": np.zeros(3, np.float32)}


def _other_type(arrays: Arrays) -> Arrays:
    return arrays | {"table.weight": arrays["table.weight"].view(np.int8)}


def _no_head(arrays: Arrays) -> Arrays:
    return {name: one for name, one in arrays.items() if name != "head.weight"}


def _one_layer(arrays: Arrays) -> Arrays:
    return {name: one for name, one in arrays.items() if not name.startswith("layers.1.")}


def _one_more(arrays: Arrays) -> Arrays:
    return arrays | {"layers.2.up.bias": np.zeros(4, np.float32)}


@pytest.mark.parametrize(
    ("precision", "change"),
    [
        ("int8", _small_weight),
        ("int8", _long_bias),
        ("int8", _short_scales),
        ("int4", _short_scales),
        ("int8", _wide_norm),
        ("int8", _other_type),
        ("int8", _no_head),
        ("int4", _one_layer),
        ("int8", _one_more),
    ],
)
def test_a_file_with_other_tensors_than_the_networks_is_made_anew(
    folder: Path, precision: str, change: Callable[[Arrays], Arrays]
) -> None:
    expected, _ = _load(folder, precision)
    _replace(folder, change)
    for is_made in (True, False):
        logits, made = _load(folder, precision)
        assert made == is_made
        np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_file_with_the_networks_tensors_is_computed_with_as_it_is(
    folder: Path, precision: str
) -> None:
    expected, made = _load(folder, precision)
    assert made
    _replace(folder, lambda arrays: arrays)
    logits, made = _load(folder, precision)
    assert not made
    np.testing.assert_array_equal(logits, expected)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_no_scale_however_odd_does_harm(folder: Path, precision: str, number: float) -> None:
    _load(folder, precision)

    def change(arrays: Arrays) -> Arrays:
        odd = {name: one for name, one in arrays.items() if not name.endswith("weight")}
        return arrays | {name: np.full_like(one, number) for name, one in odd.items()}

    _replace(folder, change)
    logits, made = _load(folder, precision)
    assert not made
    assert logits.shape == (len(PROMPT), 520)
    assert not np.isfinite(logits).all()


def test_the_width_of_a_product_is_that_of_its_rows_whatever_the_bias() -> None:
    nothing = np.zeros(0, np.float32)
    matrix = Matrix(INT8, 33, 32, np.zeros((0, 0), np.uint8), nothing, nothing)
    assert matrix.width == 3 * LANES
