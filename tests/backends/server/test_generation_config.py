import json
import logging
from pathlib import Path
from typing import Any

import pytest

from backends.server.errors import CheckpointError
from backends.server.generation import SamplingSettings
from backends.server.generation_config import read_defaults, read_stop_ids


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


@pytest.mark.parametrize(
    "said", [{"temperature": "hot"}, {"top_p": -1}, {"top_k": True}, {"repetition_penalty": 0}]
)
def test_nonsense_is_refused_by_name(tmp_path: Path, said: dict[str, Any]) -> None:
    _write(tmp_path, do_sample=True, **said)
    with pytest.raises(CheckpointError, match=next(iter(said))):
        read_defaults(tmp_path)


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
