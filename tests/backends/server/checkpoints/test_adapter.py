"""LoRA adapters as peft saves them, over small random bases."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from backends.server import load_model
from backends.server.checkpoints.weights import no_progress
from backends.server.errors import CheckpointError
from backends.server.generation import Limits
from backends.server.loading import load_engine
from tests.backends.server.adapters import IDS, make_adapter
from tests.backends.server.processes import running_server
from tests.backends.server.qwen2_checkpoints import CHATGLM, Harmful, make_qwen2
from tests.backends.server.transformers_checkpoints import edit_json, make
from tests.paths import ROOT

# peft asks transformers by an older name whether this is training.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {
        "qwen2": make_qwen2(folder / "qwen2", tied=False),
        "tied": make_qwen2(folder / "tied"),
        "llama": make(folder / "llama", "llama"),
    }


@pytest.fixture
def adapter(bases: dict[str, Path], tmp_path: Path) -> Path:
    make_adapter(bases["qwen2"], tmp_path / "adapter")
    return tmp_path / "adapter"


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("base", ["qwen2", "tied", "llama"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": "all-linear"},
        {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
        {"use_dora": True},
        {"modules_to_save": ["norm"]},
        {"layers_to_transform": [1]},
        {"init_lora_weights": "gaussian", "lora_dropout": 0.1},
    ],
)
def test_merged_logits_equal_those_beside_the_base(
    bases: dict[str, Path], tmp_path: Path, base: str, settings: dict[str, Any]
) -> None:
    expected = make_adapter(bases[base], tmp_path, **settings)
    merged = load_model(bases[base], adapter=tmp_path)
    np.testing.assert_allclose(merged.logits(IDS), expected, atol=1e-4, rtol=0)
    assert np.abs(expected - load_model(bases[base]).logits(IDS)).max() > 0.01


def test_merged_weights_are_base_plus_b_times_a_scaled(
    bases: dict[str, Path], tmp_path: Path, adapter: Path
) -> None:
    state = load_file(bases["qwen2"] / "model.safetensors")
    low = load_file(adapter / "adapter_model.safetensors")
    for name in list(state):
        key = "base_model.model." + name.removesuffix(".weight")
        if f"{key}.lora_A.weight" in low:
            product = low[f"{key}.lora_B.weight"] @ low[f"{key}.lora_A.weight"]
            state[name] = state[name] + product * (10 / 4)
    by_hand = tmp_path / "by hand"
    shutil.copytree(bases["qwen2"], by_hand)
    save_file(state, by_hand / "model.safetensors", {"format": "pt"})
    merged = load_model(bases["qwen2"], adapter=adapter)
    np.testing.assert_allclose(
        merged.logits(IDS), load_model(by_hand).logits(IDS), rtol=1e-5, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
    ],
)
def test_an_adapter_of_one_of_two_tied_matrices_leaves_the_other(
    bases: dict[str, Path], tmp_path: Path, settings: dict[str, Any]
) -> None:
    before = _digest(bases["tied"])
    expected = make_adapter(bases["tied"], tmp_path, **settings)
    merged = load_model(bases["tied"], adapter=tmp_path)
    np.testing.assert_allclose(merged.logits(IDS), expected, atol=1e-4, rtol=0)
    assert _digest(bases["tied"]) == before


@pytest.mark.parametrize("base", ["qwen2", "llama"])
def test_in_bfloat16_too_and_the_bases_file_stays_as_it_is(
    bases: dict[str, Path], tmp_path: Path, base: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(bases[base], folder)
    state = load_file(folder / "model.safetensors")
    short = {name: tensor.bfloat16() for name, tensor in state.items()}
    save_file(short, folder / "model.safetensors", {"format": "pt"})
    expected = make_adapter(folder, tmp_path / "adapter")
    before = _digest(folder)
    merged = load_model(folder, "bfloat16", adapter=tmp_path / "adapter").logits(IDS)
    assert np.abs(merged - expected).max() < 0.2 * expected.std()
    assert _digest(folder) == before


def test_weights_in_a_pytorch_file_are_read_too(bases: dict[str, Path], adapter: Path) -> None:
    expected = load_model(bases["qwen2"], adapter=adapter).logits(IDS)
    weights = adapter / "adapter_model.safetensors"
    torch.save(load_file(weights), adapter / "adapter_model.bin")
    weights.unlink()
    merged = load_model(bases["qwen2"], adapter=adapter)
    np.testing.assert_allclose(merged.logits(IDS), expected, rtol=1e-5, atol=1e-5)


def test_weights_that_would_execute_code_are_refused(bases: dict[str, Path], adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    torch.save({"a": Harmful(adapter / "harmed")}, adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="execute code"):
        load_model(bases["qwen2"], adapter=adapter)
    assert not (adapter / "harmed").exists()


@pytest.mark.parametrize("held", [["a", torch.ones(1)], None, {}])
def test_a_pytorch_file_without_named_tensors_is_refused(
    bases: dict[str, Path], adapter: Path, held: object
) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    torch.save(held, adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"no named tensors|lacks weights"):
        load_model(bases["qwen2"], adapter=adapter)


@pytest.mark.parametrize("damaged", [b"", b"\x80\x02}q\x00(X\x01", b"\x80\x02a.", b"PK\x03\x04"])
def test_a_damaged_pytorch_file_is_refused(
    bases: dict[str, Path], adapter: Path, damaged: bytes
) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    (adapter / "adapter_model.bin").write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin can't be read safely"):
        load_model(bases["qwen2"], adapter=adapter)


def test_an_adapter_for_another_base_is_refused(bases: dict[str, Path], tmp_path: Path) -> None:
    other = make_qwen2(tmp_path / "other", hidden_size=64)
    make_adapter(other, tmp_path / "wide")
    with pytest.raises(CheckpointError, match="doesn't fit its base"):
        load_model(bases["qwen2"], adapter=tmp_path / "wide")
    deeper = make_qwen2(tmp_path / "deeper", num_hidden_layers=3)
    make_adapter(deeper, tmp_path / "deep")
    with pytest.raises(CheckpointError, match="weights for another base"):
        load_model(bases["qwen2"], adapter=tmp_path / "deep")
    shallow = make_qwen2(tmp_path / "shallower", num_hidden_layers=1)
    make_adapter(shallow, tmp_path / "shallow")
    with pytest.raises(CheckpointError, match="lacks weights that this base needs"):
        load_model(bases["qwen2"], adapter=tmp_path / "shallow")
    other_names = make(tmp_path / "gpt2", "gpt2")
    with pytest.raises(CheckpointError, match="doesn't fit its base"):
        load_model(other_names, adapter=tmp_path / "wide")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "'IA3'; only LORA"),
        ({"peft_type": None}, "only LORA"),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the base"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "megatron_config"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"invented_later": True}, "invented_later"),
        ({"target_modules": ["nowhere"]}, "doesn't fit its base"),
        ({"r": "four"}, "doesn't fit its base"),
        ({"r": 0}, "doesn't fit its base"),
    ],
)
def test_an_adapter_that_can_not_be_merged_is_refused_with_the_reason(
    bases: dict[str, Path], adapter: Path, changes: dict[str, Any], message: str
) -> None:
    edit_json(adapter / "adapter_config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_model(bases["qwen2"], adapter=adapter)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_that_is_no_adapter_is_refused(
    bases: dict[str, Path], adapter: Path, name: str
) -> None:
    (adapter / name).unlink()
    with pytest.raises(CheckpointError, match=f"has no {name}"):
        load_model(bases["qwen2"], adapter=adapter)


def test_damaged_adapter_weights_are_refused(bases: dict[str, Path], adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(bases["qwen2"], adapter=adapter)


def test_weights_that_are_no_numbers_are_refused(bases: dict[str, Path], adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    state = {name: tensor * torch.nan for name, tensor in load_file(path).items()}
    save_file(state, path)
    with pytest.raises(CheckpointError, match="doesn't fit its base"):
        load_model(bases["qwen2"], adapter=adapter)


def test_chatglm_takes_no_adapter(adapter: Path) -> None:
    with pytest.raises(CheckpointError, match="adapter"):
        load_model(CHATGLM, adapter=adapter)


def test_what_only_mattered_in_training_is_ignored(bases: dict[str, Path], adapter: Path) -> None:
    expected = load_model(bases["qwen2"], adapter=adapter).logits(IDS)
    config = adapter / "adapter_config.json"
    edit_json(config, base_model_name_or_path="nobody/nothing", auto_mapping={"base_model": "os"})
    assert json.loads(config.read_text())["base_model_name_or_path"] == "nobody/nothing"
    again = load_model(bases["qwen2"], adapter=adapter).logits(IDS)
    np.testing.assert_allclose(again, expected, rtol=1e-5, atol=1e-5)


def test_an_engine_takes_an_adapter_too(bases: dict[str, Path], adapter: Path) -> None:
    expected = load_model(bases["qwen2"], adapter=adapter).logits(IDS)
    engine = load_engine(bases["qwen2"], None, Limits(threads=1), no_progress, adapter)
    np.testing.assert_allclose(engine.model.logits(IDS), expected, rtol=1e-5, atol=1e-5)


def test_a_server_process_answers_with_the_adapter_merged(
    bases: dict[str, Path], adapter: Path
) -> None:
    messages = [{"role": "user", "content": "The quick fox"}]
    merged, alone = load_model(bases["qwen2"], adapter=adapter), load_model(bases["qwen2"])
    prompt = merged.tokenizer.encode_chat(messages)
    expected = merged.tokenizer.answer(merged.generate(prompt, 12))
    assert expected != alone.tokenizer.answer(alone.generate(prompt, 12))
    with running_server(f"{bases['qwen2']}+{adapter}") as server:
        assert server.wait_until_loaded()[0] == 200
        status, answer = server.chat(messages=messages, temperature=0, max_tokens=12)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == expected
    assert answer["usage"]["completion_tokens"] == 12


def test_peft_is_imported_only_for_an_adapter(bases: dict[str, Path]) -> None:
    code = (
        "import sys; from backends.server import load_model;"
        f"load_model({str(bases['qwen2'])!r}); load_model({str(bases['llama'])!r});"
        "sys.exit('peft' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
