"""Every form in which ChatGLM checkpoints are published gives the same network."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from backends.checkpoint import UnusableFolder, is_chatglm_v1, read_checkpoint
from backends.server import load_model, load_tokenizer
from backends.server.chatglm import ChatGLMConfig
from backends.server.errors import CheckpointError
from tests.backends.server.chatglm_checkpoints import (
    EMBEDDING,
    FORMS,
    HEAD,
    Recorded,
    assert_logits,
    copy_golden,
    drop_weights,
    golden_tensors,
    write_safetensors,
)
from tests.backends.server.qwen2_checkpoints import CHATGLM, Harmful

OLDEST_SHIFT = 20000


def _write_shards(folder: Path, tensors: dict[str, Tensor], suffix: str) -> None:
    names = sorted(tensors)
    base = "pytorch_model" if suffix == "bin" else "model"
    shards = [names[::2], names[1::2]]
    files = [f"{base}-{number:05}-of-00002.{suffix}" for number in (1, 2)]
    for file, shard in zip(files, shards, strict=True):
        _write(folder / file, {name: tensors[name] for name in shard})
    index = {n: file for file, shard in zip(files, shards, strict=True) for n in shard}
    (folder / f"{base}.{suffix}.index.json").write_text(json.dumps({"weight_map": index}))


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    if path.suffix == ".bin":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)


def _assert_as_recorded(folder: Path, form: str) -> None:
    recorded = Recorded(form, load_model(folder))
    ours = recorded.model.logits(recorded.ids("prompt_gmask"))
    assert_logits(ours, recorded.array("prompt_gmask/logits")[0])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
@pytest.mark.parametrize("in_shards", [True, False], ids=["shards", "one file"])
def test_files_of_both_kinds_load_whole_and_in_shards(
    tmp_path: Path, form: str, suffix: str, in_shards: bool
) -> None:
    folder, tensors = copy_golden(tmp_path, form), golden_tensors(form)
    drop_weights(folder)
    if in_shards:
        _write_shards(folder, tensors, suffix)
    else:
        name = "pytorch_model.bin" if suffix == "bin" else "model.safetensors"
        _write(folder / name, tensors)
    _assert_as_recorded(folder, form)


def _renamed(tensors: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {name.replace(f"{old}.", f"{new}."): tensor for name, tensor in tensors.items()}


def _without(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{prefix}.")}


@pytest.mark.parametrize("form", FORMS)
def test_the_embedding_may_stand_under_its_own_name_alone(tmp_path: Path, form: str) -> None:
    tensors = _without(golden_tensors(form), HEAD)
    _assert_as_recorded(write_safetensors(copy_golden(tmp_path, form), tensors), form)


@pytest.mark.parametrize("form", FORMS)
def test_the_embedding_may_stand_under_the_heads_name_alone(tmp_path: Path, form: str) -> None:
    tensors = _renamed(_without(golden_tensors(form), HEAD), EMBEDDING, HEAD)
    _assert_as_recorded(write_safetensors(copy_golden(tmp_path, form), tensors), form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_where_a_file_holds_two_matrices_the_heads_one_counts(
    tmp_path: Path, form: str, suffix: str
) -> None:
    tensors = _without(golden_tensors(form), HEAD)
    head = {
        name.replace(EMBEDDING, HEAD): tensor.clone()
        for name, tensor in tensors.items()
        if name.startswith(EMBEDDING)
    }
    for name in head:
        tensors[name.replace(HEAD, EMBEDDING)] //= 2
    folder = copy_golden(tmp_path, form)
    drop_weights(folder)
    # In a .bin the head comes last, in safetensors it comes first.
    name = "pytorch_model.bin" if suffix == "bin" else "model.safetensors"
    _write(folder / name, tensors | head)
    _assert_as_recorded(folder, form)


def test_a_checkpoint_without_stored_frequencies_loads(tmp_path: Path) -> None:
    tensors = {n: t for n, t in golden_tensors("fp16").items() if not n.endswith("inv_freq")}
    tensors = _without(tensors, HEAD)
    _assert_as_recorded(write_safetensors(copy_golden(tmp_path), tensors), "fp16")


@pytest.mark.parametrize("form", FORMS)
def test_the_oldest_vocabulary_loads_and_gives_the_same_logits(tmp_path: Path, form: str) -> None:
    folder, tensors = copy_golden(tmp_path, form), _without(golden_tensors(form), HEAD)
    for name in (f"{EMBEDDING}.weight", f"{EMBEDDING}.weight_scale"):
        if name in tensors:
            image_rows = torch.zeros(
                OLDEST_SHIFT, *tensors[name].shape[1:], dtype=tensors[name].dtype
            )
            tensors[name] = torch.cat((image_rows, tensors[name]))
    write_safetensors(folder, tensors)
    config = json.loads((folder / "config.json").read_text())
    # The oldest config.json names only the ends; the others follow from them.
    config["bos_token_id"] += OLDEST_SHIFT
    config["eos_token_id"] += OLDEST_SHIFT
    config["vocab_size"] += OLDEST_SHIFT
    for name in ("mask_token_id", "gmask_token_id", "pad_token_id"):
        del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").unlink()
    recorded = Recorded(form, load_model(folder))
    ids = [token + OLDEST_SHIFT for token in recorded.ids("prompt_gmask")]
    slim = load_tokenizer(CHATGLM).encode("fox")
    assert recorded.model.tokenizer.encode("fox") == [token + OLDEST_SHIFT for token in slim]
    ours = recorded.model.logits(ids)[:, OLDEST_SHIFT:]
    assert_logits(ours, recorded.array("prompt_gmask/logits")[0])
    assert all(token >= OLDEST_SHIFT for token in recorded.model.generate(ids, 10, 5.0, seed=1))


def test_the_oldest_published_config_is_understood() -> None:
    raw = {
        "bos_token_id": 150004,
        "eos_token_id": 150005,
        "hidden_size": 4096,
        "inner_hidden_size": 16384,
        "layernorm_epsilon": 1e-05,
        "max_sequence_length": 2048,
        "model_type": "chatglm",
        "num_attention_heads": 32,
        "num_layers": 28,
        "position_encoding_2d": True,
        "vocab_size": 150528,
    }
    config = ChatGLMConfig.from_dict(raw)
    assert (config.mask_token_id, config.gmask_token_id) == (150000, 150001)
    del raw["bos_token_id"], raw["eos_token_id"]
    assert ChatGLMConfig.from_dict(raw) == config


def test_the_published_slim_config_is_understood() -> None:
    raw: dict[str, Any] = {
        "model_type": "chatglm",
        "inner_hidden_size": 16384,
        "position_encoding_2d": True,
        "pre_seq_len": None,
        "prefix_projection": False,
        "quantization_bit": 4,
        "quantization_embeddings": False,
        "vocab_size": 130528,
    }
    assert ChatGLMConfig.from_dict(raw) == ChatGLMConfig(quantization_bit=4)


SIZES = ("hidden_size", "num_layers", "num_attention_heads", "inner_hidden_size", "vocab_size")
IDS = ("bos_token_id", "eos_token_id", "mask_token_id", "gmask_token_id", "pad_token_id")


NO_SIZES: tuple[Any, ...] = ("256", [1], 0, -4, True, 64.0, 10**30)
NO_IDS: tuple[Any, ...] = ("3", [1], -1, True, 1.5, 10**30)
NONSENSE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys((*SIZES, "max_sequence_length"), NO_SIZES),
    **dict.fromkeys(IDS, NO_IDS),
    "layernorm_epsilon": ("1e-5", [1], 0, -1, True, float("nan")),
    "quantization_bit": ("4", [4], True, 5),
    "quantization_embeddings": ("no", 1, []),
}


@pytest.mark.parametrize(
    ("field", "value"), [(name, value) for name, values in NONSENSE.items() for value in values]
)
def test_a_setting_that_makes_no_sense_is_refused_with_its_name_and_file(
    tmp_path: Path, field: str, value: Any
) -> None:
    folder = copy_golden(tmp_path, **{field: value})
    with pytest.raises(CheckpointError, match=rf"config\.json.*{field}"):
        load_model(folder)


def test_heads_that_do_not_divide_the_width_are_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json.*num_attention_heads"):
        load_model(copy_golden(tmp_path, num_attention_heads=7))


def test_null_in_a_config_means_the_default() -> None:
    raw: dict[str, Any] = dict.fromkeys((*SIZES, *IDS, *ChatGLMConfig().to_dict()))
    raw |= {"model_type": "chatglm", "pre_seq_len": None}
    assert ChatGLMConfig.from_dict(raw) == ChatGLMConfig()


def test_null_in_the_tokenizers_settings_means_the_default(tmp_path: Path) -> None:
    folder = copy_golden(tmp_path, bos_token_id=None)
    (folder / "tokenizer_config.json").write_text('{"num_image_tokens": null}')
    assert load_tokenizer(folder).encode("fox") == load_tokenizer(CHATGLM).encode("fox")


@pytest.mark.parametrize("value", ["0", [0], -1, True, 0.5, 10**30])
def test_a_tokenizers_setting_that_makes_no_sense_is_refused_by_name(
    tmp_path: Path, value: object
) -> None:
    folder = copy_golden(tmp_path)
    (folder / "tokenizer_config.json").write_text(json.dumps({"num_image_tokens": value}))
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json.*num_image_tokens"):
        load_tokenizer(folder)


@pytest.mark.parametrize("value", ["3", [1], 5, True])
def test_a_beginning_that_the_tokenizer_can_not_have_is_refused_by_name(
    tmp_path: Path, value: object
) -> None:
    folder = copy_golden(tmp_path, bos_token_id=value)
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json.*bos_token_id"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    "keys",
    [
        {"inner_hidden_size": 16384, "position_encoding_2d": True},
        {"inner_hidden_size": 16384},
        {"inner_hidden_size": 16384, "padded_vocab_size": 65024},
        {"position_encoding_2d": True},
        {"ffn_hidden_size": 13696, "padded_vocab_size": 65024, "multi_query_attention": True},
        {},
    ],
)
def test_the_app_and_the_server_take_the_same_folders_for_the_first_chatglm(
    tmp_path: Path, keys: dict[str, object]
) -> None:
    folder = copy_golden(tmp_path)
    raw = {"model_type": "chatglm", "max_sequence_length": 2048, **keys}
    (folder / "config.json").write_text(json.dumps(raw))
    try:
        taken = read_checkpoint(folder).family == "chatglm"
    except UnusableFolder:
        taken = False
    assert is_chatglm_v1(raw) == taken


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_would_execute_code_is_refused_by_name(tmp_path: Path, form: str) -> None:
    folder = copy_golden(tmp_path, form)
    drop_weights(folder)
    state = golden_tensors(form) | {"more": Harmful(tmp_path / "harmed")}
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin can't be read safely"):
        load_model(folder, None)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_or_unknown_tensor_is_named(tmp_path: Path, form: str) -> None:
    name = "transformer.layers.1.mlp.dense_h_to_4h.weight"
    tensors = _without(golden_tensors(form), HEAD)
    tensors["more"] = tensors.pop(name)
    folder = write_safetensors(copy_golden(tmp_path, form), tensors)
    for precision in ("float32", None):
        with pytest.raises(CheckpointError, match=f'(?s){name}.*"more"'):
            load_model(folder, precision)


def test_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no adapter"):
        load_model(copy_golden(tmp_path), adapter=tmp_path / "adapter")
