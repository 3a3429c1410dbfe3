"""Qwen2 in the precisions meant for speed, computed by torch, against the exact float32."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from backends.server.batch import FlatBatch, Span
from backends.server.checkpoints.precision import choose
from backends.server.checkpoints.quantising import PlainTensor, QuantisedMatrix
from backends.server.checkpoints.weights import no_progress
from backends.server.eager.network import TorchNetwork
from backends.server.errors import CheckpointError
from backends.server.qwen2 import checkpoint, possible_precisions
from backends.server.qwen2.config import effective_config
from backends.server.qwen2.network import Qwen2Network
from tests.backends.server.adapters import IDS as ADAPTED_IDS
from tests.backends.server.adapters import make_adapter
from tests.backends.server.qwen2_checkpoints import make_qwen2
from tests.backends.server.transformers_checkpoints import edit_json
from tests.paths import ROOT

PRECISIONS = ("int8", "int4")
IDS = [5, 7, 11, 2, 300, 12, 40, 41]
LONG = [int(token) for token in np.random.default_rng(1).integers(0, 500, 90)]
# Of the logits' spread, with random weights, which round worse than trained ones.
TOLERANCE = {"int8": 0.05, "int4": 0.5}


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Widths that fall into groups of 32, and that the kernels take."""
    shape: dict[str, Any] = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "initializer_range": 0.08,
    }
    return make_qwen2(tmp_path_factory.mktemp("qwen2"), tied=request.param, **shape)


def _load(folder: Path, precision: str, adapter: Path | None = None) -> TorchNetwork:
    return checkpoint.load_network(folder, precision, no_progress, adapter, None)


def _logits(network: TorchNetwork, ids: Sequence[int]) -> NDArray[np.float32]:
    return network.step(FlatBatch.of([ids]))


def _relative_error(ours: NDArray[Any], exact: NDArray[Any]) -> float:
    return float(np.sqrt(np.square(ours - exact).mean()) / exact.std())


def _dequantised(folder: Path, precision: str) -> dict[str, Tensor]:
    """What the quantised tensors stand for, by the definition of the forms."""
    state = {}
    for tensor in checkpoint.quantised_tensors(folder, precision):
        if isinstance(tensor, PlainTensor):
            state[tensor.name] = tensor.values()
        else:
            rows, columns = tensor.shape
            scales = tensor.scales().float().view(rows, -1, 1)
            groups = tensor.numbers().view(rows, scales.shape[1], -1) * scales
            state[f"{tensor.name}.weight"] = groups.view(rows, columns)
    return state


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("ids", [IDS, LONG], ids=["few", "many"])
def test_logits_are_those_of_the_dequantised_weights_up_to_rounding(
    folder: Path, precision: str, ids: list[int]
) -> None:
    config = effective_config(folder)
    exact = TorchNetwork(Qwen2Network.from_tensors(config, _dequantised(folder, precision).items()))
    error = _relative_error(_logits(_load(folder, precision), ids), _logits(exact, ids))
    assert 0 < error < 0.03


@pytest.mark.parametrize("precision", PRECISIONS)
def test_logits_are_near_those_of_float32(folder: Path, precision: str) -> None:
    exact = _logits(_load(folder, "float32"), LONG)
    assert _relative_error(_logits(_load(folder, precision), LONG), exact) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_cached_steps_give_the_logits_of_a_whole_sequence(folder: Path, precision: str) -> None:
    network = _load(folder, precision)
    cache = network.new_cache()
    spans = [tuple(LONG[:40]), *((token,) for token in LONG[40:60])]
    rows = [network.step(FlatBatch((Span(span, cache),))) for span in spans]
    whole = _logits(network, LONG[:60])
    assert _relative_error(np.concatenate(rows), whole) < 0.03


@pytest.mark.parametrize("precision", PRECISIONS)
def test_matrices_have_the_bits_of_the_precision_and_the_table_eight(
    folder: Path, precision: str
) -> None:
    tensors = list(checkpoint.quantised_tensors(folder, precision))
    matrices = {one.name: one for one in tensors if isinstance(one, QuantisedMatrix)}
    tables = {"model.embed_tokens", "lm_head"} & set(matrices)
    assert len(matrices) == 3 * 7 + len(tables)
    for name, matrix in matrices.items():
        eight = precision == "int8" or name in tables
        assert matrix.bits == (8 if eight else 4)
        rows, columns = matrix.shape
        assert matrix.scales().shape == ((rows,) if eight else (rows, columns // 32))
    names = {one.name for one in tensors if isinstance(one, PlainTensor)}
    assert names == {
        "model.norm.weight",
        *(f"model.layers.{n}.self_attn.{part}_proj.bias" for n in range(3) for part in "qkv"),
        *(f"model.layers.{n}.input_layernorm.weight" for n in range(3)),
        *(f"model.layers.{n}.post_attention_layernorm.weight" for n in range(3)),
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_weights_are_written_once_and_then_mapped(
    folder: Path, tmp_path: Path, precision: str
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "twopane", ignore_errors=True)
    stages: list[str] = []
    for converted in (True, False):
        stages.clear()
        network = checkpoint.load_network(
            tmp_path, precision, lambda stage, _: stages.append(stage), None, None
        )
        assert ("converting" in stages) == converted
        assert stages[-1] == "weights"
    (packed,) = (tmp_path / "twopane").glob("*.safetensors")
    assert packed.stem.partition("-")[0] == precision
    module = network.module
    assert isinstance(module, Qwen2Network)
    starts = [t.data_ptr() for name, t in module.state_dict().items() if "weight" in name]
    mapped = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(str(packed))
    ]
    assert all(any(low <= start < high for low, high in mapped) for start in starts)


def test_four_bits_need_columns_that_fall_into_groups(qwen2_folder: Path, folder: Path) -> None:
    assert set(possible_precisions(folder)) == {"float32", "bfloat16", "int8", "int4"}
    assert set(possible_precisions(qwen2_folder)) == {"float32", "bfloat16", "int8"}


@pytest.mark.parametrize(("rows", "own"), [(11_000, "int8"), (9_000, "float32")])
def test_large_short_weights_choose_eight_bits(
    folder: Path, tmp_path: Path, rows: int, own: str
) -> None:
    shutil.copy(folder / "config.json", tmp_path)
    size = rows * 10_000 * 2
    entry = {"dtype": "BF16", "shape": [rows, 10_000], "data_offsets": [0, size]}
    header = json.dumps({"a": entry}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        # All of them holes in the file.
        file.truncate(8 + len(header) + size)
    assert possible_precisions(tmp_path)[0] == own


def test_the_first_wish_that_is_possible_is_taken(folder: Path, qwen2_folder: Path) -> None:
    def chosen(wanted: str, source: Path) -> str:
        return choose(wanted, possible_precisions(source), source)

    assert chosen("int4,int8", folder) == "int4"
    assert chosen("int4,int8", qwen2_folder) == "int8"
    with pytest.raises(CheckpointError, match="'int4'; possible: float32, bfloat16, int8"):
        chosen("int4", qwen2_folder)


def test_what_can_be_computed_is_known_without_torch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from backends.server import model;"
        "from backends.server.qwen2 import possible_precisions;"
        f"possible_precisions(Path({str(folder)!r}));"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, precision: str
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "twopane", ignore_errors=True)
    state = load_file(tmp_path / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks weights: model\.layers\.1\.mlp\.up_proj"):
        _load(tmp_path, precision)
    edit_json(tmp_path / "config.json", num_hidden_layers=1)
    with pytest.raises(CheckpointError, match="don't fit the config"):
        _load(tmp_path, precision)
    assert not list(tmp_path.glob("twopane/*.safetensors"))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_adapter_is_merged_first_and_has_a_packed_file_of_its_own(
    folder: Path, tmp_path: Path, precision: str
) -> None:
    expected = {seed: make_adapter(folder, tmp_path / str(seed), seed) for seed in (1, 2)}
    alone = _logits(_load(folder, precision), IDS)
    ours: dict[int, NDArray[Any]] = {}
    for seed, exact in expected.items():
        model = _load(folder, precision, tmp_path / str(seed))
        ours[seed] = _logits(model, ADAPTED_IDS)
        assert _relative_error(ours[seed], exact) < TOLERANCE[precision]
    assert _relative_error(ours[1], ours[2]) > 2 * TOLERANCE["int8"]
    np.testing.assert_array_equal(_logits(_load(folder, precision), IDS), alone)
