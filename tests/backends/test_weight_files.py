"""One rule for which files hold a model's weights."""

import json
import subprocess
import sys

import pytest

from backends.weight_files import WeightSet, choose_weights, indexed_names, weight_file_names
from tests.paths import ROOT

INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
OLDER_SHARDS = ("pytorch_model_00001-of-00072.bin", "pytorch_model_00072-of-00072.bin")


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.safetensors", "config.json"], WeightSet(("model.safetensors",))),
        (["pytorch_model.bin"], WeightSet(("pytorch_model.bin",))),
        (["pytorch_model.bin", "model.safetensors"], WeightSet(("model.safetensors",))),
        ([*reversed(SHARDS), INDEX], WeightSet(SHARDS, INDEX)),
        ([*SHARDS, INDEX, "model.safetensors"], WeightSet(("model.safetensors",))),
        ([*SHARDS, INDEX, "pytorch_model.bin"], WeightSet(SHARDS, INDEX)),
        (
            [*OLDER_SHARDS, "pytorch_model.bin.index.json"],
            WeightSet(OLDER_SHARDS, "pytorch_model.bin.index.json"),
        ),
        (
            ["model-00001-of-000163.safetensors", INDEX],
            WeightSet(("model-00001-of-000163.safetensors",), INDEX),
        ),
    ],
)
def test_the_weights_are_chosen_in_the_order_of_transformers(
    names: list[str], chosen: WeightSet
) -> None:
    assert choose_weights(names) == chosen
    assert weight_file_names(names) == chosen.files
    assert set(chosen.names) <= set(names)


def test_a_set_that_lacks_its_index_or_its_shards_gives_way_to_the_next() -> None:
    assert weight_file_names([*SHARDS, "pytorch_model.bin"]) == ("pytorch_model.bin",)
    assert weight_file_names([INDEX, "pytorch_model.bin"]) == ("pytorch_model.bin",)


@pytest.mark.parametrize(
    "name",
    [
        "gptq_model-4bit-128g.safetensors",
        "adapter_model.safetensors",
        "consolidated.safetensors",
        "model.fp16.safetensors",
        "model.bin",
        "training_args.bin",
        "optimizer.bin",
        INDEX,
        SHARDS[0],
        "sub/model.safetensors",
    ],
)
def test_what_the_server_would_not_load_is_no_weights(name: str) -> None:
    assert choose_weights(["config.json", name]) is None
    assert weight_file_names(["config.json", name]) == ()


def test_an_index_asks_for_files_beside_it() -> None:
    index = {"weight_map": {"a": "two.bin", "b": "../one.bin", "c": "two.bin"}}
    assert indexed_names(index) == ("one.bin", "two.bin")


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"weight_map": []}', '{"weight_map": 1}'])
def test_what_is_no_index_asks_for_nothing(text: str) -> None:
    assert indexed_names(json.loads(text)) == ()


def test_choosing_needs_no_torch() -> None:
    code = "import sys, backends.weight_files; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
