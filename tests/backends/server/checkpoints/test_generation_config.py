import json
import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from backends.server import chatglm
from backends.server.checkpoints.generation_config import read_defaults, read_stop_ids
from backends.server.errors import CheckpointError
from backends.server.generation import SamplingSettings
from backends.server.schema import ChatRequest

Reader = Callable[[Path], SamplingSettings]


def _write(folder: Path, name: str = "generation_config.json", **said: Any) -> None:
    (folder / name).write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            # Qwen1.5-0.5B-Chat's
            {
                "bos_token_id": 151643,
                "do_sample": True,
                "eos_token_id": [151645, 151643],
                "pad_token_id": 151643,
                "repetition_penalty": 1.1,
                "temperature": 0.7,
                "top_k": 20,
                "top_p": 0.8,
            },
            SamplingSettings(repetition_penalty=1.1, temperature=0.7, top_k=20, top_p=0.8),
        ),
        ({"do_sample": True, "top_p": 0.9}, SamplingSettings(top_k=50, top_p=0.9)),
        ({"do_sample": True, "top_k": 0, "seed": 4}, SamplingSettings(top_k=0)),
        ({"do_sample": True, "temperature": None}, SamplingSettings(top_k=50)),
        (
            {"do_sample": False, "temperature": 0.7, "repetition_penalty": 1.2},
            SamplingSettings(repetition_penalty=1.2, temperature=0),
        ),
        ({"temperature": 0.7}, SamplingSettings(temperature=0)),
        ({}, SamplingSettings(temperature=0)),
    ],
)
def test_defaults_are_read_as_transformers_reads_them(
    tmp_path: Path, said: dict[str, Any], expected: SamplingSettings
) -> None:
    _write(tmp_path, **said)
    assert read_defaults(tmp_path) == expected


def test_a_checkpoint_that_says_nothing_takes_the_likeliest_token(tmp_path: Path) -> None:
    assert read_defaults(tmp_path) == SamplingSettings(temperature=0)


@pytest.mark.parametrize("read", [read_defaults, chatglm.read_defaults])
@pytest.mark.parametrize(
    "said",
    [
        {"temperature": "hot"},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": -1},
        {"top_p": [0.5]},
        {"top_k": True},
        {"top_k": -2},
        {"repetition_penalty": 0},
    ],
)
def test_nonsense_is_refused_by_name(tmp_path: Path, read: Reader, said: dict[str, Any]) -> None:
    _write(tmp_path, do_sample=True, **said)
    with pytest.raises(CheckpointError, match=rf"generation_config\.json gives {next(iter(said))}"):
        read(tmp_path)


@pytest.mark.parametrize("read", [read_defaults, chatglm.read_defaults])
def test_more_than_a_client_may_ask_for_is_the_most_that_it_may(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, read: Reader
) -> None:
    said: dict[str, Any] = {"temperature": 2.5, "top_p": 1.5, "top_k": -1, "repetition_penalty": 11}
    _write(tmp_path, do_sample=True, **said)
    with caplog.at_level(logging.WARNING):
        defaults = read(tmp_path)
    assert defaults == SamplingSettings(
        temperature=2, top_p=1, top_k=0, repetition_penalty=10, seed=None
    )
    (record,) = caplog.records
    assert "temperature 2.5, top_p 1.5" in record.getMessage()


@pytest.mark.parametrize("read", [read_defaults, chatglm.read_defaults])
@pytest.mark.parametrize(
    "said",
    [
        {"temperature": 2.5, "top_p": 1.5, "top_k": 10**9, "repetition_penalty": 99},
        {"temperature": 0, "top_p": 0, "top_k": -1, "repetition_penalty": 0.001},
        {"temperature": 1, "top_p": 1, "top_k": 40.0, "repetition_penalty": 1},
    ],
)
def test_what_is_read_is_what_a_client_may_send_back(
    tmp_path: Path, read: Reader, said: dict[str, Any]
) -> None:
    _write(tmp_path, do_sample=True, **said)
    learnt = asdict(read(tmp_path))
    messages = [{"role": "user", "content": "a"}]
    sent = ChatRequest.model_validate_json(json.dumps({"messages": messages, **learnt}))
    assert sent.sampling == learnt


def test_chatglm_draws_as_the_original_where_its_checkpoint_does_not_say(tmp_path: Path) -> None:
    assert chatglm.read_defaults(tmp_path) == chatglm.CHAT_DEFAULTS
    _write(tmp_path, temperature=0.4, top_p=None, seed=4)
    assert chatglm.read_defaults(tmp_path) == replace(chatglm.CHAT_DEFAULTS, temperature=0.4)


def test_what_is_not_done_is_said_once_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path, do_sample=True, min_p=0.1, num_beams=1, typical_p=1.0, no_repeat_ngram_size=3)
    with caplog.at_level(logging.WARNING):
        read_defaults(tmp_path)
    (record,) = caplog.records
    assert "asks for min_p, no_repeat_ngram_size" in record.getMessage()


@pytest.mark.parametrize(("said", "ids"), [([4, 2], {4, 2}), (7, {7}), ([], set())])
def test_the_generation_configs_stop_ids_are_taken(
    tmp_path: Path, said: Any, ids: set[int]
) -> None:
    _write(tmp_path, eos_token_id=said)
    _write(tmp_path, "config.json", eos_token_id=9)
    assert read_stop_ids(tmp_path, 8) == ids


def test_without_them_the_configs_and_the_tokenizers_are(tmp_path: Path) -> None:
    _write(tmp_path, eos_token_id=None)
    _write(tmp_path, "config.json", eos_token_id=[9, 6])
    assert read_stop_ids(tmp_path, 8) == {9, 6, 8}
    assert read_stop_ids(tmp_path, None) == {9, 6}
