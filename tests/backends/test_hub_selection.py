"""Which files of a repository are fetched, by the listings of real ones."""

import pytest

from backends.amounts import bytes_text, duration_text
from backends.hub.selection import RemoteFile, UnsafeName, select

SETTINGS = ("config.json", "tokenizer.json", "tokenizer_config.json")


def chosen(*names: str) -> set[str]:
    return {file.path for file in select(RemoteFile(name, 1) for name in names)}


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        pytest.param(
            "generation_config.json merges.txt model.safetensors vocab.json",
            ".gitattributes LICENSE README.md configuration.json",
            id="Qwen1.5-0.5B-Chat",
        ),
        pytest.param(
            "ice_text.model pytorch_model.bin",
            "LICENSE MODEL_LICENSE README.md configuration_chatglm.py modeling_chatglm.py "
            "quantization.py quantization_kernels.c quantization_kernels_parallel.c "
            "tokenization_chatglm.py",
            id="ChatGLM-6B-Int4",
        ),
        pytest.param(
            "pytorch_model-00001-of-00002.bin pytorch_model-00002-of-00002.bin "
            "pytorch_model.bin.index.json ice_text.model",
            "modeling_chatglm.py test_modeling_chatglm.py",
            id="ChatGLM-6B",
        ),
        pytest.param(
            "model-00001-of-00002.safetensors model-00002-of-00002.safetensors "
            "model.safetensors.index.json special_tokens_map.json",
            "original/consolidated.00.pth original/params.json original/tokenizer.model "
            "pytorch_model-00001-of-00002.bin pytorch_model.bin.index.json USE_POLICY.md",
            id="Llama-2",
        ),
        pytest.param(
            "model-00001-of-00001.safetensors model.safetensors.index.json tokenizer.model "
            "chat_template.jinja",
            "consolidated.safetensors params.json.bak",
            id="Mistral",
        ),
        pytest.param(
            "model.safetensors vocab.json merges.txt",
            "64.tflite flax_model.msgpack onnx/config.json onnx/decoder_model.onnx rust_model.ot "
            "pytorch_model.bin tf_model.h5",
            id="gpt2",
        ),
        pytest.param(
            "model.safetensors added_tokens.json",
            "all_results.json checkpoint-500/model.safetensors checkpoint-500/optimizer.pt "
            "optimizer.bin requirements.txt rng_state_0.pth runs/events.out scheduler.bin "
            "train_results.json trainer_state.json training_args.bin adapter_config.json "
            "adapter_model.safetensors",
            id="left by a trainer",
        ),
        pytest.param(
            "model.safetensors",
            "model-00001-of-00002.safetensors model-00002-of-00002.safetensors "
            "model.safetensors.index.json",
            id="whole and in shards",
        ),
        pytest.param("pytorch_model.bin", "weights-fp16.safetensors", id="a name of its own"),
        pytest.param(
            "pytorch_model.bin",
            "training_args.bin optimizer.bin openvino_model.bin ggml-model-q4.bin model.bin "
            "model.safetensors.index.json",
            id="beside other .bin files",
        ),
    ],
)
def test_chooses_what_a_model_is_loaded_from(wanted: str, left: str) -> None:
    assert chosen(*SETTINGS, *wanted.split(), *left.split()) == {*SETTINGS, *wanted.split()}


@pytest.mark.parametrize(
    "names",
    [
        "config.json model.gguf",
        "model.safetensors",
        "adapter_model.safetensors config.json",
        "gptq_model-4bit-128g.safetensors config.json",
        "model-00001-of-00001.safetensors config.json",
        "",
    ],
)
def test_chooses_nothing_where_no_model_can_be_loaded(names: str) -> None:
    assert chosen(*names.split()) == set()


@pytest.mark.parametrize(
    "name",
    ["../x.json", "a/../../x.json", "/etc/x.json", "C:x.json", "a\\..\\x.json", "a//x", "x\0.json"],
)
def test_refuses_a_name_that_leads_elsewhere(name: str) -> None:
    with pytest.raises(UnsafeName):
        chosen(*SETTINGS, "model.safetensors", name)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_600, "1.0 MB"),
        (312_000_000, "312 MB"),
        (1_239_173_352, "1.2 GB"),
    ],
)
def test_writes_bytes_as_a_person_reads_them(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (110, "2 min"), (5_400, "1.5 h"), (260_000, "3 days")],
)
def test_writes_durations_as_a_person_reads_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
