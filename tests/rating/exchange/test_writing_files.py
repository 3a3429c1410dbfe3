"""Files are there as a whole or not at all, and spreadsheets find no formulas in them."""

import csv
import io
import os
from pathlib import Path

import pytest

from db import Database
from rating.errors import BadExport
from rating.exchange import Exported, Format, Selection, export_bytes, export_file
from tests.rating.exchange.samples import exported, rated, store

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]


def test_a_file_has_what_the_page_would_give(database: Database, tmp_path: Path) -> None:
    store(database, rated("one"))
    file = tmp_path / "ratings.csv"
    assert export_file(database, Format.CSV, Selection(), file) == Exported(1, {})
    name, content = export_bytes(database, Format.CSV, Selection())
    assert name == "twopane-ratings.csv"
    assert file.read_bytes() == content
    assert list(tmp_path.glob("*.part")) == list(tmp_path.glob(".*.part")) == []


def test_a_file_is_overwritten_only_where_that_is_asked_for(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("mine")
    with pytest.raises(BadExport, match="add --force"):
        export_file(database, Format.CSV, Selection(), file)
    assert file.read_text() == "mine"
    export_file(database, Format.CSV, Selection(), file, force=True)
    assert file.read_bytes().startswith(b"trial,")


def test_what_fails_leaves_the_old_file_and_nothing_else(
    database: Database, tmp_path: Path
) -> None:
    store(database, rated("one"), rated("two", minute=1, blind=False))
    file = tmp_path / "battles.jsonl"
    file.write_text("old")
    with pytest.raises(BadExport, match="never mixed"):
        export_file(database, Format.ARENA, Selection(), file, force=True)
    assert [path.name for path in tmp_path.iterdir() if "battles" in path.name] == ["battles.jsonl"]
    assert file.read_text() == "old"
    with pytest.raises(BadExport, match="can't be written: No such file or directory"):
        export_file(database, Format.CSV, Selection(), tmp_path / "no" / "ratings.csv")


def test_only_files_are_overwritten_and_links_stay_links(
    database: Database, tmp_path: Path
) -> None:
    file, link = tmp_path / "file.csv", tmp_path / "link.csv"
    file.touch()
    link.symlink_to(file)
    export_file(database, Format.CSV, Selection(), link, force=True)
    assert link.is_symlink()
    assert file.read_bytes().startswith(b"trial,")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadExport, match="it is no regular file"):
        export_file(database, Format.CSV, Selection(), tmp_path / "pipe", force=True)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_gets_no_formula_and_other_readers_the_text_itself(
    database: Database, text: str
) -> None:
    store(database, rated("one", comment=text, prompts=(text,), scores=(None, 1)))

    def cells(content: bytes) -> list[str]:
        rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
        return [cell for row in rows for name, cell in row.items() if name in ("comment", "prompt")]

    assert set(cells(exported(database))) == {text}
    harmless = exported(database, spreadsheet=True)
    assert harmless.startswith(b"\xef\xbb\xbftrial,")
    assert set(cells(harmless)) == {f"'{text}"}


def test_lines_end_and_quotes_stand_as_rfc_4180_has_it(database: Database) -> None:
    store(database, rated("one", comment='say "hi", twice', prompts=("a\nb",)))
    content = exported(database)
    assert content.count(b"\r\n") == 11
    assert b',"say ""hi"", twice",' in content
    assert b',"a\nb",1,' in content
