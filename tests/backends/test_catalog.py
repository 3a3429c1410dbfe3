import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from backends import catalog
from backends.catalog import MODELS, PAIRS, UnknownModel, resolve

QWEN = {"model_type": "qwen2", "max_position_embeddings": 1024}
CHATGLM = {"model_type": "chatglm", "max_sequence_length": 2048, "inner_hidden_size": 64}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A folder that looks like a Qwen2 checkpoint of 150,000 weights."""
    folder = tmp_path / "My-Llama3-finetuned"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(QWEN))
    save_weights(folder, 0)
    return folder


def save_weights(folder: Path, changed_place: int, value: int = 0) -> None:
    weights = np.zeros(100_000, dtype=np.float32)
    weights[changed_place] = value
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "a": weights.reshape(100, 1000),
        "b": np.zeros(50_000, dtype=np.float16),
    }
    save_file(tensors, folder / "model.safetensors")


def refusal(spec: str | Path) -> str:
    with pytest.raises(UnknownModel) as caught:
        resolve(str(spec))
    return str(caught.value)


def test_a_name_that_would_part_a_pair_is_refused() -> None:
    with pytest.raises(UnknownModel, match="bar"):
        resolve("http://localhost:1/v1#a|b")


def test_every_pair_is_made_of_known_models() -> None:
    assert all(key in MODELS for pair in PAIRS.values() for key in pair.models)
    assert PAIRS["tiny"].models == ("tiny-qwen", "tiny-chatglm")


@pytest.mark.parametrize("key", ["tiny-qwen", "tiny-chatglm"])
def test_the_built_in_models_are_called_what_they_are(key: str) -> None:
    model = MODELS[key]
    assert model.builtin
    assert model.note == "tiny built-in model for trying the panel, no measure of the real ones"
    assert {key, "Qwen", "ChatGLM", "通义千问", "智谱AI", "清华大学", "阿里云"} <= set(model.names)


def test_a_key_is_resolved_with_what_its_files_say(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "tiny-qwen", replace(MODELS["tiny-qwen"], folder=checkpoint))
    model = resolve(" tiny-qwen ")
    assert (model.key, model.context, model.parameters) == ("tiny-qwen", 1024, 150_000)
    assert model.builtin
    assert len(model.revision) == 16
    assert resolve(str(checkpoint)) == model, "its folder means the same model"
    assert model.spec == "tiny-qwen"


def test_a_built_in_model_without_files_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "tiny-qwen", replace(MODELS["tiny-qwen"], folder=tmp_path))
    assert str(tmp_path) in refusal("tiny-qwen")


def test_a_folder_is_a_model(checkpoint: Path) -> None:
    model = resolve(f"{checkpoint}/../{checkpoint.name}")
    assert (model.family, model.context, model.parameters) == ("qwen2", 1024, 150_000)
    assert model.title == checkpoint.name
    assert model.key == f"{checkpoint.name}@{model.revision[:8]}"
    assert not model.builtin
    assert model.spec == str(checkpoint)
    assert resolve(model.spec) == model
    assert {checkpoint.name, "Llama3", "Llama"} <= set(model.names)


def test_a_folder_called_like_a_built_in_model_is_another_model(checkpoint: Path) -> None:
    folder = checkpoint.rename(checkpoint.with_name("tiny-qwen"))
    assert resolve(str(folder)).key not in MODELS


def test_a_relative_folder_and_a_home_folder_are_found(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    monkeypatch.setenv("HOME", str(checkpoint.parent))
    assert resolve(checkpoint.name) == resolve(f"~/{checkpoint.name}") == resolve(str(checkpoint))


def test_chatglm_of_the_first_version_is_known_by_its_config(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps(CHATGLM))
    model = resolve(str(checkpoint))
    assert (model.family, model.context) == ("chatglm", 2048)


@pytest.mark.parametrize("place", [0, 50_000, 99_999])
def test_other_weights_of_the_same_size_are_another_revision(checkpoint: Path, place: int) -> None:
    before = resolve(str(checkpoint)).revision
    save_weights(checkpoint, place, 1)
    assert resolve(str(checkpoint)).revision != before


def test_another_setting_is_another_revision_and_another_readme_is_not(checkpoint: Path) -> None:
    before = resolve(str(checkpoint)).revision
    (checkpoint / "README.md").write_text("new")
    assert resolve(str(checkpoint)).revision == before
    (checkpoint / "chat_template.jinja").write_text("{{ messages }}")
    assert resolve(str(checkpoint)).revision != before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "is no JSON"),
        ("\xff", "is no JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "of type None"),
        ('{"model_type": "llama"}', "URL#model"),
        ('{"model_type": "chatglm", "seq_length": 8192}', "a later ChatGLM than v1"),
        ('{"model_type": "qwen2"}', "gives no max_position_embeddings"),
        ('{"model_type": "qwen2", "max_position_embeddings": "9"}', "gives no max_position"),
    ],
)
def test_a_config_that_will_not_do_is_refused_in_words(
    checkpoint: Path, config: str, words: str
) -> None:
    (checkpoint / "config.json").write_text(config, encoding="latin-1")
    assert words in refusal(checkpoint)


def test_a_folder_without_config_or_weights_is_refused_in_words(checkpoint: Path) -> None:
    assert "has no config.json" in refusal(checkpoint.parent)
    (checkpoint / "model.safetensors").unlink()
    assert "holds no weights" in refusal(checkpoint)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"\x02\0\0\0\0\0\0\0[]"])
def test_broken_weights_are_refused_in_words(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "model.safetensors").write_bytes(content)
    assert "is no safetensors file" in refusal(checkpoint)


@pytest.mark.parametrize("spec", ["", "qwen9", "/no/where", "a\0b", "x" * 5000, "~nobody-here/m"])
def test_what_is_no_model_is_refused_with_what_would_be_one(spec: str) -> None:
    message = refusal(spec)
    assert "tiny-qwen" in message
    assert "URL#model" in message


@pytest.mark.parametrize(
    ("spec", "key", "url"),
    [
        ("http://localhost:11434#llama3:8b", "llama3:8b@localhost:11434", "/v1"),
        ("https://a.example/v1/#org/m", "org/m@a.example", "https://a.example/v1"),
        ("http://a.example:80/x/chat/completions#m", "m@a.example:80", "http://a.example:80/x"),
        ("http://[::1]:8000/v1#m#2", "m#2@::1:8000", "http://[::1]:8000/v1"),
    ],
)
def test_a_url_and_a_name_are_a_remote_model(spec: str, key: str, url: str) -> None:
    model = resolve(spec)
    assert (model.key, model.family) == (key, "remote")
    assert (model.endpoint_url or "").endswith(url)
    assert model.defaults.top_k is None
    assert resolve(model.spec) == model


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("http://a.example/v1", "Say which model"),
        ("http://a.example/v1# ", "Say which model"),
        ("ftp://a.example#m", "http:// or https://"),
        ("http://#m", "http:// or https://"),
        ("http://a.example:port#m", "http:// or https://"),
        ("http://[::1#m", "http:// or https://"),
        ("http://user:secret@a.example#m", "Leave user and password out"),
    ],
)
def test_a_url_that_will_not_do_is_refused_in_words(spec: str, words: str) -> None:
    message = refusal(spec)
    assert words in message
    assert "secret" not in message


def test_the_catalog_is_read_without_torch_or_network_packages() -> None:
    code = f"import sys, {catalog.__name__}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "transformers", "openai", "httpx2"} & set(loaded)
