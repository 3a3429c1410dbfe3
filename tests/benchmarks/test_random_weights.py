"""Random checkpoints of the published forms, at a small size."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from backends.checkpoint import read_checkpoint
from backends.server import load_model
from backends.server.checkpoints.int4 import published_values
from benchmarks.random_weights import (
    QWEN_CONTROLS,
    make_chatglm_6b_int4,
    make_qwen_0_5b,
    quantise,
)
from tests.paths import ROOT

CHATGLM_SIZES = {
    "hidden_size": 64,
    "num_layers": 2,
    "num_attention_heads": 2,
    "inner_hidden_size": 256,
}
QWEN_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
}
QUESTION = [{"role": "user", "content": "你好 🙂"}]


@pytest.fixture(scope="module")
def chatglm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_chatglm_6b_int4(tmp_path_factory.mktemp("chatglm"), **CHATGLM_SIZES)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_qwen_0_5b(tmp_path_factory.mktemp("qwen"), **QWEN_SIZES)


@pytest.mark.parametrize("precision", ["float32", "int4"])
def test_the_chatglm_answers_with_finite_numbers(chatglm: Path, precision: str) -> None:
    model = load_model(chatglm, precision)
    prompt = model.tokenizer.encode_chat(QUESTION)
    assert np.isfinite(model.logits(prompt)).all()
    # So few layers repeat the last token of the prompt where nothing is drawn.
    assert model.tokenizer.answer(model.generate(prompt, 20, 20.0, seed=1))


def test_the_qwen_answers_with_finite_numbers(qwen: Path) -> None:
    model = load_model(qwen)
    prompt = model.tokenizer.encode_chat(QUESTION)
    assert np.isfinite(model.logits(prompt)).all()
    assert model.tokenizer.answer(model.generate(prompt, 8))
    assert model.tokenizer.decode(model.tokenizer.encode_text("你好 🙂")) == "你好 🙂"


def test_the_qwen_has_the_published_ids_and_settings(qwen: Path) -> None:
    model = load_model(qwen)
    assert model.stop_ids == {151645, 151643}
    assert model.defaults.top_p == 0.8
    assert model.defaults.repetition_penalty == 1.1
    assert max(model.tokenizer.decodable) == max(QWEN_CONTROLS.values())
    assert len(model.tokenizer.decodable) == 151646
    start = [QWEN_CONTROLS["<|im_start|>"], *model.tokenizer.encode_text("system\n")]
    assert model.tokenizer.encode_chat(QUESTION)[: len(start)] == start


def test_the_qwens_weights_are_stored_as_published(qwen: Path) -> None:
    with safe_open(qwen / "model.safetensors", "pt") as file:
        names = list(file.keys())
        assert {file.get_tensor(name).dtype for name in names} == {torch.bfloat16}
    assert "lm_head.weight" not in names


def test_the_chatglms_weights_are_stored_as_published(chatglm: Path) -> None:
    state = torch.load(chatglm / "pytorch_model.bin", weights_only=True, mmap=True)
    layer = "transformer.layers.1.mlp.dense_h_to_4h"
    assert state[f"{layer}.weight"].dtype == torch.int8
    assert state[f"{layer}.weight"].shape == (256, 32)
    assert state[f"{layer}.weight_scale"].dtype == torch.float16
    embedding = state["transformer.word_embeddings.weight"]
    assert embedding.shape == (130528, 64)
    # Two names, one copy.
    assert state["lm_head.weight"].data_ptr() == embedding.data_ptr()
    assert json.loads((chatglm / "config.json").read_text())["quantization_bit"] == 4


def test_both_are_checkpoints_that_the_app_knows(chatglm: Path, qwen: Path) -> None:
    assert read_checkpoint(chatglm).family == "chatglm"
    assert read_checkpoint(qwen).family == "qwen2"


def test_the_same_seed_gives_the_same_weights(chatglm: Path, tmp_path: Path) -> None:
    again = make_chatglm_6b_int4(tmp_path, **CHATGLM_SIZES)
    assert (again / "pytorch_model.bin").read_bytes() == (
        chatglm / "pytorch_model.bin"
    ).read_bytes()


def test_quantising_rounds_to_the_nearest_of_fifteen_steps() -> None:
    matrix = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    numbers, scale = quantise(matrix)
    values = published_values(numbers)
    assert values.abs().max() == 7
    off = (values * scale.unsqueeze(1) - matrix).abs()
    assert (off <= 0.51 * scale.unsqueeze(1)).all()


_LOAD = """
import sys
from pathlib import Path
from backends.server.chatglm import load_network

def peak_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

load_network(Path(sys.argv[2]), "int4")  # converted too: whatever torch takes for itself
before = peak_bytes()
load_network(Path(sys.argv[1]), "int4")
print(peak_bytes() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells")
def test_a_conversion_takes_little_more_memory_than_the_file(chatglm: Path, tmp_path: Path) -> None:
    sizes = {"hidden_size": 1024, "num_attention_heads": 8, "inner_hidden_size": 4096}
    large = make_chatglm_6b_int4(tmp_path / "large", num_layers=32, vocab_size=2048, **sizes)
    # Another test may have left its packed form, which is read without torch.
    small = shutil.copytree(chatglm, tmp_path / "small", ignore=shutil.ignore_patterns("twopane"))
    command = [sys.executable, "-c", _LOAD, str(large), str(small)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    file_bytes = (large / "pytorch_model.bin").stat().st_size
    assert file_bytes > 200_000_000
    # For 6B and its 3.9 GB that would be 5 GB, with torch itself 5.3 GB.
    assert int(done.stdout) < 1.3 * file_bytes
