import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from backends.server import load_tokenizer
from backends.server.checkpoints.weights import count_short, read_json, read_tensors, weight_files
from backends.server.errors import CheckpointError
from backends.weight_files import choose_weights
from tests.backends.server.qwen2_checkpoints import CHATGLM, GOLDEN, Harmful
from tests.paths import ROOT


def test_shards_are_read_by_their_index() -> None:
    index = json.loads((CHATGLM / "pytorch_model.bin.index.json").read_text())
    assert {name for name, _ in read_tensors(CHATGLM)} == index["weight_map"].keys()


def test_safetensors_come_before_pytorch_files(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    assert dict(read_tensors(tmp_path))["a"] == 1


def test_a_whole_file_comes_before_shards_as_in_what_is_downloaded(tmp_path: Path) -> None:
    shard = tmp_path / "model-00001-of-00001.safetensors"
    save_file({"a": torch.zeros(1)}, shard)
    index = {"weight_map": {"a": shard.name, "b": "model-00002-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors")
    chosen = choose_weights([path.name for path in tmp_path.iterdir()])
    assert chosen is not None
    assert [path.name for path in weight_files(tmp_path)] == list(chosen.names)
    assert dict(read_tensors(tmp_path))["a"] == 1


def test_progress_grows_to_the_whole(tmp_path: Path) -> None:
    shutil.copytree(CHATGLM, tmp_path, dirs_exist_ok=True)
    said: list[float] = []
    list(read_tensors(tmp_path, lambda stage, done: said.append(done)))
    assert said == sorted(said)
    assert 0.9 < said[-1] <= 1


def test_a_file_that_would_execute_code_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"a": Harmful(tmp_path / "harmed")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin can't be read safely"):
        list(read_tensors(tmp_path))
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=name):
        list(read_tensors(tmp_path))


@settings(max_examples=200, deadline=None)
@given(places=st.lists(st.integers(0, 2**20), min_size=1, max_size=8), byte=st.integers(0, 255))
def test_a_pytorch_file_damaged_anywhere_is_read_or_refused(places: list[int], byte: int) -> None:
    damaged = bytearray((GOLDEN / "int4" / "pytorch_model.bin").read_bytes())
    for place in places:
        # Mostly in what is unpickled, at the front.
        damaged[place % (6000 if place % 3 else len(damaged))] = byte
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (Path(folder) / "pytorch_model.bin").write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            for name, tensor in read_tensors(Path(folder)):
                assert isinstance(name, str)
                assert tensor.numel() >= 0


def test_a_file_of_before_2020_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin can't be read safely.*too old"):
        list(read_tensors(tmp_path))


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {"a": 5}}])
def test_an_index_that_is_none_is_refused(tmp_path: Path, index: dict[str, object]) -> None:
    (tmp_path / "pytorch_model-00001-of-00001.bin").touch()
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="lacks"):
        list(read_tensors(tmp_path))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_tensors_are_mapped_and_not_read_into_memory(tmp_path: Path, name: str) -> None:
    tensors = {"a": torch.ones(2**20)}
    if name.endswith("bin"):
        torch.save(tensors, tmp_path / name)
    else:
        save_file(tensors, tmp_path / name)
    (_, tensor), *_ = read_tensors(tmp_path)
    assert str(tmp_path / name) in _mapped_file(tensor.data_ptr())


def _mapped_file(address: int) -> str:
    """The line of the kernel's table of memory for an address."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux tells")
    for line in maps.read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return line
    raise AssertionError("the tensor lies nowhere")


def test_a_folder_without_weights_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors or pytorch_model\.bin"):
        list(read_tensors(tmp_path))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shutil.copytree(CHATGLM, tmp_path, dirs_exist_ok=True)
    (tmp_path / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(CheckpointError, match=r"lacks pytorch_model-00002-of-00003\.bin"):
        list(read_tensors(tmp_path))


def test_an_index_can_not_name_files_outside_the_folder(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "outside.safetensors")
    inside = tmp_path / "inside"
    inside.mkdir()
    save_file({"b": torch.ones(1)}, inside / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (inside / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="lacks"):
        list(read_tensors(inside))


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_config_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_json(tmp_path / "config.json")


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    shutil.copy(CHATGLM / "config.json", tmp_path)
    with pytest.raises(CheckpointError, match=r"ice_text\.model"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ice_text.model").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="no sentencepiece model"):
        load_tokenizer(tmp_path)


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        load_tokenizer(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_of_16_bits_are_counted(tmp_path: Path, name: str) -> None:
    tensors = {
        "a": torch.zeros(2, 3, dtype=torch.bfloat16),
        "b": torch.zeros(5, dtype=torch.float16),
        "c": torch.zeros(7),
        "d": torch.zeros((), dtype=torch.int8),
    }
    if name.endswith("bin"):
        torch.save(tensors, tmp_path / name)
    else:
        save_file(tensors, tmp_path / name)
    assert count_short(tmp_path) == 11


def test_a_damaged_file_can_not_be_counted(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        count_short(tmp_path)


_COUNT = """
import sys
from pathlib import Path
from backends.server.checkpoints.weights import count_short, read_json
read_json(Path(sys.argv[1]) / "config.json")
count_short(Path(sys.argv[1]))
sys.exit("torch" in sys.modules)
"""


def test_settings_and_headers_are_read_without_torch(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    save_file({"a": torch.zeros(3)}, tmp_path / "model.safetensors")
    command = [sys.executable, "-c", _COUNT, str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT)
