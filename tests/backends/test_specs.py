import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from backends.catalog import MODELS, Source
from backends.checkpoint import read_checkpoint
from backends.specs import UnknownModel, resolve

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


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"model_type": "llama", "max_position_embeddings": 512}, 512),
        ({"model_type": "gpt2", "n_positions": 256, "n_ctx": 128}, 256),
        ({"model_type": "bloom"}, 0),
        ({"model_type": "x", "n_positions": -5, "n_ctx": True, "model_max_length": 10**30}, 0),
    ],
)
def test_a_model_of_another_family_is_left_to_transformers(
    checkpoint: Path, config: dict[str, object], context: int
) -> None:
    (checkpoint / "config.json").write_text(json.dumps(config))
    model = resolve(str(checkpoint))
    assert (model.family, model.context) == ("transformers", context)


@pytest.mark.parametrize(
    ("said", "bits", "parameters"),
    [
        ({"torch_dtype": "float16"}, 16, 150_000),
        ({"dtype": "bfloat16"}, 16, 150_000),
        ({"torch_dtype": "float16", "quantization_bit": 8}, 8, 150_000),
        ({"torch_dtype": "float16", "quantization_bit": 4}, 4, 250_000),
        ({}, 32, 150_000),
    ],
)
def test_the_config_tells_how_wide_the_weights_are(
    checkpoint: Path, said: dict[str, object], bits: int, parameters: int
) -> None:
    (checkpoint / "config.json").write_text(json.dumps(QWEN | said))
    kind: Any = np.int8 if bits == 4 else np.float16
    weights = {"a": np.zeros(100_000, dtype=kind), "b": np.zeros(50_000, dtype=np.float16)}
    save_file(weights, checkpoint / "model.safetensors")
    model = resolve(str(checkpoint))
    assert (model.bits, model.parameters) == (bits, parameters)
    assert model.size_bytes == (checkpoint / "model.safetensors").stat().st_size


@pytest.mark.parametrize(
    ("spec", "revision"), [("some/Llama-chat", ""), ("some/Llama-chat@v1.0/b", "v1.0/b")]
)
def test_a_hub_id_is_a_model_whose_files_are_still_to_come(spec: str, revision: str) -> None:
    model = resolve(spec)
    assert (model.key, model.title, model.family) == (spec, "Llama-chat", None)
    assert model.sources == (
        Source("modelscope", "some/Llama-chat", revision),
        Source("huggingface", "some/Llama-chat", revision),
    )
    assert resolve(model.spec) == model
    assert "Llama" in model.names


def test_the_hub_id_of_a_known_model_means_the_known_model() -> None:
    assert resolve("qwen/Qwen1.5-0.5B-Chat").key == "qwen1.5-0.5b-chat"
    assert resolve("ZhipuAI/ChatGLM-6B-Int4").key == "chatglm-6b-int4"
    assert resolve("Qwen/Qwen1.5-0.5B-Chat@main").key == "Qwen/Qwen1.5-0.5B-Chat@main"


def test_a_fetched_model_learns_from_its_files_and_keeps_its_name(checkpoint: Path) -> None:
    model = resolve("qwen1.5-0.5b-chat").with_checkpoint(read_checkpoint(checkpoint))
    assert (model.key, model.spec) == ("qwen1.5-0.5b-chat", "qwen1.5-0.5b-chat")
    assert (model.context, len(model.revision), model.folder) == (1024, 16, checkpoint)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "poems+lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    save_file({"a": np.zeros(10)}, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize("base", ["tiny-qwen", "qwen1.5-0.5b-chat", "some/m@v1", "folder"])
def test_a_base_and_an_adapter_are_another_model(
    checkpoint: Path, adapter: Path, base: str
) -> None:
    base = str(checkpoint) if base == "folder" else base
    model, plain = resolve(f"{base}+{adapter}"), resolve(base)
    assert model.adapter == adapter
    assert (model.folder, model.sources) == (plain.folder, plain.sources)
    assert model.key.startswith(f"{plain.key}+poems+lora@")
    assert not model.builtin
    assert resolve(model.spec) == model


def test_other_adapter_weights_are_another_model(checkpoint: Path, adapter: Path) -> None:
    before = resolve(f"{checkpoint}+{adapter}")
    save_file({"a": np.ones(10)}, adapter / "adapter_model.safetensors")
    after = resolve(f"{checkpoint}+{adapter}")
    assert (before.key, before.revision) != (after.key, after.revision)
    assert after.with_checkpoint(read_checkpoint(checkpoint)).revision == after.revision


def test_what_is_no_adapter_is_refused_in_words(checkpoint: Path, adapter: Path) -> None:
    assert "There is no folder 'nowhere'" in refusal(f"{checkpoint}+nowhere")
    assert "takes no adapter" in refusal(f"tiny-chatglm+{adapter}")
    (adapter / "adapter_config.json").unlink()
    assert "is no adapter" in refusal(f"{checkpoint}+{adapter}")


def test_a_folder_whose_name_holds_a_plus_is_that_folder(checkpoint: Path) -> None:
    folder = checkpoint.rename(checkpoint.with_name("a+b"))
    assert resolve(str(folder)).folder == folder


def test_a_folder_whose_name_would_part_a_pair_is_refused(checkpoint: Path) -> None:
    assert "bar" in refusal(checkpoint.rename(checkpoint.with_name("a|b")))


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
        ("{}", "URL#model"),
        ('{"model_type": 3}', "of no type that it names"),
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


def test_weights_that_are_not_loaded_do_not_count(checkpoint: Path) -> None:
    before = resolve(str(checkpoint))
    for name in ("consolidated.safetensors", "optimizer.bin", "training_args.bin"):
        (checkpoint / name).write_bytes((checkpoint / "model.safetensors").read_bytes())
    assert resolve(str(checkpoint)) == before


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
