"""The peers' weight files at a small size, and their sources made ready."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.peers.building import BuildError, check_tools, settable_threads
from benchmarks.peers.ggml_files import BLOCK, q4_0, write_ggml
from benchmarks.peers.gguf_files import bfloat16_tensors, gguf_name, widened
from benchmarks.random_weights import make_chatglm_6b_int4, make_qwen_0_5b

SIZES = {"hidden_size": 64, "num_layers": 2, "num_attention_heads": 2, "inner_hidden_size": 256}
QWEN_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}
LINE = "    unsigned int n_threads = std::thread::hardware_concurrency();\n"


def dequantised(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What ggml computes with: (blocks, 18) to (blocks, 32)."""
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    return (np.concatenate([low, high], axis=1).astype(np.float32) - 8) * scale


def read_ggml(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a file, as chatglm.cpp's own loader finds them."""
    data = path.read_bytes()
    (tokenizer_bytes,) = struct.unpack_from("i", data, 64)
    at, found = 68 + tokenizer_bytes, {}
    while at < len(data):
        (length,) = struct.unpack_from("i", data, at)
        name = data[at + 4 : at + 4 + length].decode()
        (dimensions,) = struct.unpack_from("i", data, at + 4 + length)
        *shape, kind = struct.unpack_from(f"{dimensions + 1}i", data, at + 8 + length)
        start = (at + 12 + length + 4 * dimensions + 15) // 16 * 16
        numbers = int(np.prod(shape))
        size = numbers * 4 if kind == 0 else numbers // BLOCK * 18
        raw = np.frombuffer(data, np.uint8, size, start)
        values = raw.view(np.float32) if kind == 0 else dequantised(raw.reshape(-1, 18))
        found[name] = values.reshape(shape)
        at = start + size
    return found


@pytest.fixture(scope="module")
def chatglm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chatglm_6b_int4(tmp_path_factory.mktemp("chatglm"), **SIZES)


@pytest.fixture(scope="module")
def ggml(chatglm: Path) -> Path:
    path = chatglm / "chatglm.ggml"
    write_ggml(chatglm, path)
    return path


def test_blocks_keep_every_weight_within_half_a_step() -> None:
    weights = torch.randn(16, 96, generator=torch.Generator().manual_seed(1))
    blocks = q4_0(weights)
    wanted = weights.reshape(-1, BLOCK).numpy()
    # The value opposite to the largest one may be cut off by one step: 8 isn't among the numbers.
    step = np.abs(wanted).max(axis=1, keepdims=True) / 8
    assert (np.abs(dequantised(blocks) - wanted) <= step * 1.01).all()
    assert (np.abs(dequantised(blocks) - wanted) <= step * 0.51).mean() > 0.95


def test_a_block_of_zeros_stays_one() -> None:
    assert (dequantised(q4_0(torch.zeros(1, BLOCK))) == 0).all()


def test_a_ggml_file_holds_the_checkpoints_tensors_under_their_names(
    chatglm: Path, ggml: Path
) -> None:
    stored = torch.load(chatglm / "pytorch_model.bin", weights_only=True)
    tensors = read_ggml(ggml)
    wanted = {name for name in stored if not name.endswith(("_scale", "inv_freq"))}
    assert tensors.keys() == wanted - {"lm_head.weight"}
    norm = "transformer.layers.1.input_layernorm.weight"
    assert (tensors[norm] == stored[norm].float().numpy()).all()


def test_a_ggml_files_matrices_are_the_checkpoints_own(chatglm: Path, ggml: Path) -> None:
    stored = torch.load(chatglm / "pytorch_model.bin", weights_only=True)
    name = "transformer.layers.0.attention.query_key_value.weight"
    packed, scale = stored[name], stored[f"{name}_scale"].float()
    pairs = torch.stack((packed >> 4, (packed << 4) >> 4), dim=-1).flatten(-2)
    wanted = (pairs * scale.unsqueeze(1)).numpy()
    assert np.corrcoef(read_ggml(ggml)[name].ravel(), wanted.ravel())[0, 1] > 0.99


def test_a_ggml_file_begins_with_the_models_sizes(ggml: Path) -> None:
    head = struct.unpack_from("4siiiiiiiiifif", ggml.read_bytes())
    assert head[:3] == (b"ggml", 1, 2)
    assert head[3:10] == (2, 130528, 64, 2, 2, 2, 256)
    assert head[-1] == 10000.0


def test_a_ggml_file_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "there.ggml"
    path.write_bytes(b"ggml")
    write_ggml(tmp_path / "no checkpoint", path)
    assert path.read_bytes() == b"ggml"


def test_bfloat16_tensors_are_read_as_they_are_stored(tmp_path: Path) -> None:
    folder = make_qwen_0_5b(tmp_path, **QWEN_SIZES)
    tensors = dict(bfloat16_tensors(folder / "model.safetensors"))
    assert tensors["model.embed_tokens.weight"].shape == (151936, 32)
    assert (widened(tensors["model.norm.weight"]) == 1.0).all()
    assert 0.015 < widened(tensors["model.layers.0.mlp.up_proj.weight"]).std() < 0.025


def test_other_types_than_bfloat16_are_refused(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ValueError, match="x is stored as F32"):
        list(bfloat16_tensors(path))


@pytest.mark.parametrize(
    ("published", "gguf"),
    [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
        ("model.layers.17.self_attn.q_proj.bias", "blk.17.attn_q.bias"),
        ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight"),
        ("model.layers.3.post_attention_layernorm.weight", "blk.3.ffn_norm.weight"),
    ],
)
def test_published_names_become_ggufs(published: str, gguf: str) -> None:
    assert gguf_name(published) == gguf


def test_chatglm_cpp_takes_its_threads_from_a_variable_once(tmp_path: Path) -> None:
    source = tmp_path / "chatglm.cpp"
    source.write_text(f"int f() {{\n{LINE}}}\n")
    settable_threads(tmp_path)
    settable_threads(tmp_path)
    assert source.read_text().count("CHATGLM_CPP_THREADS") == 1
    assert "hardware_concurrency" not in source.read_text()


def test_sources_that_are_not_as_expected_are_refused(tmp_path: Path) -> None:
    (tmp_path / "chatglm.cpp").write_text("int f();\n")
    with pytest.raises(BuildError, match="does not choose its threads"):
        settable_threads(tmp_path)


def test_missing_tools_are_all_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"gcc, g\+\+, cmake, make"):
        check_tools()
