"""The table of results, and where it goes."""

from dataclasses import replace
from pathlib import Path

import pytest

from backends.tiny.record import Score, TrainingRecord, read_record, write_record
from backends.tiny.report import README, make_table, write_table

RECORD = TrainingRecord(
    model="tiny-qwen",
    seed=1,
    corpus_sha256="0" * 64,
    recipe={"steps": 12},
    threads=1,
    versions={"torch": "2"},
    parameters=1234567,
    minutes=3.2,
    loss=0.5,
    topics={"poems": Score(1, 2), "sums": Score(2, 2)},
    unseen_values=Score(0, 1),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_record(RECORD, tmp_path)
    return tmp_path


def test_a_record_is_read_as_it_was_written(folder: Path) -> None:
    assert read_record(folder) == RECORD


def test_the_table_counts_by_topic_and_over_all(folder: Path) -> None:
    lines = make_table([folder]).splitlines()
    assert "| poems | 1/2 (50 %) |" in lines
    assert "| **all** | **3/4 (75 %)** |" in lines
    assert "| parameters | 1,234,567 |" in lines


def test_models_stand_side_by_side_also_where_one_lacks_a_topic(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    records = [RECORD, replace(RECORD, model="tiny-chatglm", topics={"sums": Score(1, 4)})]
    for folder, record in zip(folders, records, strict=True):
        folder.mkdir()
        write_record(record, folder)
    lines = make_table(folders).splitlines()
    assert "| poems | 1/2 (50 %) |  |" in lines
    assert "| sums | 2/2 (100 %) | 1/4 (25 %) |" in lines


def test_a_table_replaces_the_one_before(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(README.read_text(encoding="utf-8"), encoding="utf-8")
    write_table("| old |", readme)
    write_table("| new |", readme)
    text = readme.read_text(encoding="utf-8")
    assert "| new |" in text
    assert "| old |" not in text
    assert text.count("results: written by") == 1


def test_a_file_without_markers_is_left_alone(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing here", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks the marker"):
        write_table("| new |", readme)
    assert readme.read_text(encoding="utf-8") == "nothing here"
