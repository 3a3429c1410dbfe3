import subprocess
import sys

import pytest

from backends import catalog, specs
from backends.catalog import MODELS, PAIRS, Source
from backends.properties import ARTICLE
from backends.specs import resolve


def test_every_pair_is_made_of_known_models() -> None:
    assert all(key in MODELS for pair in PAIRS.values() for key in pair.models)
    assert PAIRS["tiny"].models == ("tiny-qwen", "tiny-chatglm")
    assert PAIRS["article"].models == ("qwen1.5-0.5b-chat", "chatglm-6b-int4")


@pytest.mark.parametrize("key", ["tiny-qwen", "tiny-chatglm"])
def test_the_built_in_models_are_called_what_they_are(key: str) -> None:
    model = MODELS[key]
    assert model.builtin
    assert model.note == "tiny built-in model for trying the panel, no measure of the real ones"
    assert {key, "Qwen", "ChatGLM", "通义千问", "智谱AI", "清华大学", "阿里云"} <= set(model.names)


def test_the_articles_models_are_known_without_their_files() -> None:
    qwen, chatglm = (resolve(key) for key in PAIRS["article"].models)
    assert [source.repo for source in qwen.sources] == ["Qwen/Qwen1.5-0.5B-Chat"] * 2
    assert chatglm.sources[0] == Source("modelscope", "ZhipuAI/ChatGLM-6B-Int4", "v1.0.3")
    assert (qwen.context, chatglm.context) == (32_768, 2_048)
    assert (qwen.folder, chatglm.folder) == (None, None)
    assert (qwen.spec, chatglm.spec) == (qwen.key, chatglm.key)


def test_the_articles_rows_stand_with_their_source_and_what_the_files_say_instead() -> None:
    chatglm = {(row.key, row.source): row.en for row in MODELS["chatglm-6b-int4"].properties}
    assert chatglm["context", ARTICLE] == "8K"
    assert chatglm["context", "config.json, max_sequence_length"] == "2,048"
    for key in PAIRS["article"].models:
        rows = [row.key for row in MODELS[key].properties if row.source == ARTICLE]
        assert rows == [
            *("parameters", "least_memory", "cpu_only", "streaming", "context"),
            *("ecosystem", "licence", "fine_tuning", "effort"),
        ]


def test_the_catalog_is_read_without_torch_or_network_packages() -> None:
    code = f"import sys, {catalog.__name__}, {specs.__name__}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "transformers", "openai", "httpx2"} & set(loaded)
