import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from backends.server import load_model
from backends.server.checkpoints.precision import unquantised_precisions
from backends.server.errors import CheckpointError
from tests.backends.server.qwen2_checkpoints import make_qwen2, module_of
from tests.backends.server.transformers_checkpoints import make

WELL = {"avx2": True, "avx512_bf16": True}
BADLY = {"avx2": True, "avx512_bf16": False, "amx_bf16": False}


def _huge(folder: Path, dtype: str, *shape: int) -> Path:
    """A checkpoint with so many weights, all of them holes in the file."""
    size = math.prod(shape) * (4 if dtype == "F32" else 2)
    tensor = {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"a": tensor}).encode()
    (folder / "config.json").write_text("{}")
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    return folder


@pytest.mark.parametrize(
    ("dtype", "rows", "cpu", "own"),
    [
        ("BF16", 11_000, WELL, "bfloat16"),
        ("F16", 11_000, WELL, "bfloat16"),
        ("F16", 9_000, WELL, "float32"),
        ("F32", 11_000, WELL, "float32"),
        ("BF16", 11_000, BADLY, "float32"),
    ],
)
def test_large_short_weights_choose_bfloat16_where_the_cpu_multiplies_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    rows: int,
    cpu: dict[str, bool],
    own: str,
) -> None:
    # Other CPUs than the one that is here.
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
    possible = unquantised_precisions(_huge(tmp_path, dtype, rows, 10_000))
    assert possible[0] == own
    assert set(possible) == {"float32", "bfloat16"}


def test_without_a_wish_the_model_says_what_it_chose(qwen2_folder: Path) -> None:
    assert load_model(qwen2_folder, None).precision == "float32"


def test_bfloat16_is_near_float32_and_gives_float32_logits(qwen2_folder: Path) -> None:
    ids = [1, 2, 3, 4]
    exact = load_model(qwen2_folder).logits(ids)
    model = load_model(qwen2_folder, "bfloat16")
    rough = model.logits(ids)
    assert model.precision == "bfloat16"
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.2 * exact.std()


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_weights_stored_in_the_precision_are_mapped_and_not_copied(
    tmp_path: Path, kind: str
) -> None:
    folder = make(tmp_path, kind)
    state = load_file(folder / "model.safetensors")
    path = folder / "model.safetensors"
    save_file({n: t.bfloat16() for n, t in state.items()}, path, {"format": "pt"})
    network = module_of(load_model(folder, "bfloat16"))
    # Norms are few numbers, and computed in float32.
    starts = [p.data_ptr() for name, p in network.named_parameters() if "norm" not in name]
    assert len(starts) > 10
    mapped = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(path))
    ]
    assert all(any(low <= start < high for low, high in mapped) for start in starts)


@pytest.mark.parametrize("precision", ["int4", "float16", ""])
def test_an_impossible_precision_is_refused_with_those_that_are_possible(
    qwen2_folder: Path, precision: str
) -> None:
    with pytest.raises(CheckpointError, match=r"possible: float32, bfloat16, int8\."):
        load_model(qwen2_folder, precision)


def test_a_quantised_checkpoint_of_another_kind_is_refused_by_its_method(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"quantised \(awq\)"):
        load_model(folder)
