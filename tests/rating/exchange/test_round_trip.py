"""Export, import into an empty database, export again: the same, byte by byte."""

import csv
import io
import json

import pytest
from sqlalchemy import func, select

from db import Answer, Assignment, Database, Rater, Rating, Score, Trial, TrialKind, queries
from db.queries import Filters
from rating.errors import BadImport
from rating.exchange import Format, Imported, import_bytes
from rating.trial import view_of
from tests.rating.exchange.conftest import NewDatabase
from tests.rating.exchange.samples import exported, rated, store, store_varied

BACK = [Format.CSV, Format.JSONL]


def counts(database: Database) -> list[int]:
    with database.read() as session:
        tables = (Rater, Trial, Answer, Rating, Score, Assignment)
        return [session.scalar(select(func.count()).select_from(table)) or 0 for table in tables]


@pytest.mark.parametrize("format_", BACK)
def test_an_import_gives_the_same_bytes_again(new_database: NewDatabase, format_: Format) -> None:
    first, second = new_database(), new_database()
    store_varied(first)
    content = exported(first, format_)
    assert import_bytes(second, content, "file") == Imported(new=7, known=0)
    assert exported(second, format_) == content


def test_both_databases_write_the_same_file(new_database: NewDatabase) -> None:
    first, second = new_database(), new_database()
    store_varied(first)
    import_bytes(second, exported(first, Format.JSONL), "file")
    for format_ in Format:
        choice = {} if format_ in (*BACK, Format.PARQUET) else {"filters": Filters(blind=True)}
        assert exported(second, format_, **choice) == exported(first, format_, **choice)


@pytest.mark.parametrize("format_", BACK)
def test_importing_again_what_is_there_changes_nothing(
    new_database: NewDatabase, format_: Format
) -> None:
    first, second = new_database(), new_database()
    store_varied(first)
    content, before = exported(first, format_), counts(first)
    assert import_bytes(first, content, "file") == Imported(new=0, known=7)
    assert counts(first) == before
    import_bytes(second, content, "file")
    before = counts(second)
    assert import_bytes(second, content, "file") == Imported(new=0, known=7)
    assert counts(second) == before
    assert exported(second, format_) == content


@pytest.mark.parametrize("format_", BACK)
def test_a_known_trial_with_other_content_stops_the_whole_import(
    new_database: NewDatabase, format_: Format
) -> None:
    first, second = new_database(), new_database()
    store(first, rated("known", minute=1), rated("new", minute=2))
    store(second, rated("known", minute=1, comment="other"))
    before = counts(second)
    with pytest.raises(BadImport, match="a trial known with other content"):
        import_bytes(second, exported(first, format_), "file")
    assert counts(second) == before


@pytest.mark.parametrize("format_", BACK)
def test_a_trial_that_waits_for_its_rating_is_not_overwritten(
    new_database: NewDatabase, format_: Format
) -> None:
    first, second = new_database(), new_database()
    store(first, rated("same"))
    waiting = rated("same")
    waiting.rating = None
    store(second, waiting)
    with pytest.raises(BadImport, match="a trial same with other content"):
        import_bytes(second, exported(first, format_), "file")


@pytest.mark.parametrize("format_", BACK)
def test_signs_of_careless_rating_go_along_and_make_no_difference(
    new_database: NewDatabase, format_: Format
) -> None:
    first, second = new_database(), new_database()
    store(first, rated("one", flags=("self_naming_right",)))
    content = exported(first, format_, flags={"one": ["too_fast", "self_naming_right"]})
    assert content.count(b"too_fast") == (10 if format_ is Format.CSV else 1)
    assert import_bytes(first, content, "file") == Imported(new=0, known=1)
    assert exported(first, format_).count(b"too_fast") == 0
    import_bytes(second, content, "file")
    assert exported(second, format_) == content


@pytest.mark.parametrize("format_", BACK)
def test_a_repeat_needs_the_trial_that_it_repeats(
    new_database: NewDatabase, format_: Format
) -> None:
    first, second = new_database(), new_database()
    store_varied(first)
    lines = exported(first, format_).decode().splitlines(keepends=True)
    original = [line for line in lines if line.startswith(("c" * 32, '{"version":1,"trial":"ccc'))]
    without = "".join(line for line in lines if line not in original).encode()
    with pytest.raises(BadImport, match=f"repeats trial {'c' * 32}, which is neither"):
        import_bytes(second, without, "file")
    head = lines[:1] if format_ is Format.CSV else []
    import_bytes(second, "".join([*head, *original]).encode(), "file")
    assert import_bytes(second, without, "file") == Imported(new=6, known=0)
    assert exported(second, format_) == exported(first, format_)


def test_a_session_s_trial_keeps_what_it_was_given_for(new_database: NewDatabase) -> None:
    first, second, third = new_database(), new_database(), new_database()
    store_varied(first)
    import_bytes(second, exported(first, Format.JSONL), "file")
    import_bytes(third, exported(first, Format.CSV), "file")
    with second.read() as session:
        given = {one.trial_id: one for one in session.scalars(select(Assignment))}
    assert {one.session_id for one in given.values()} == {None}
    assert given["attention"].better == "right"
    assert (given["repeat"].kind, given["repeat"].repeat_of) == (TrialKind.REPEAT, "c" * 32)
    assert {one.prompt_id for one in given.values()} == {"问候 greeting"}
    with third.read() as session:
        kinds = {one.trial_id: one.kind for one in session.scalars(select(Assignment))}
    assert kinds == {"attention": TrialKind.ATTENTION, "repeat": TrialKind.REPEAT}


@pytest.mark.parametrize("format_", BACK)
def test_a_pseudonym_of_a_rater_who_is_there_means_that_rater(
    new_database: NewDatabase, format_: Format
) -> None:
    first, second = new_database(), new_database()
    ann = Rater(language="zh", id="a" * 32)
    store(first, rated("one", rater=ann), rated("two", rater=Rater(language="zh", pseudonym="Bo")))
    content = exported(first, format_)
    store(second, Rater(language="zh", id="a" * 32), Rater(language="en", pseudonym="Bo"))
    import_bytes(second, content, "file")
    with second.read() as session:
        raters = {rater.id: rater.pseudonym for rater in session.scalars(select(Rater))}
        trial = queries.load_trial(session, "one", "a" * 32)
    assert sorted(map(str, raters.values())) == ["Bo", "None"]
    assert trial is not None
    assert view_of(trial).reveal is not None


def test_no_file_has_the_id_of_a_rater(new_database: NewDatabase) -> None:
    database = new_database()
    ann = Rater(language="zh")
    store(database, rated("one", rater=ann))
    for format_ in Format:
        content = exported(database, format_)
        assert ann.id.encode() not in content
        assert b"side_seed" not in content
        assert (ann.public_name.encode() in content) is (format_ is not Format.TRL)


def test_rows_come_oldest_first_and_then_by_id(new_database: NewDatabase) -> None:
    database = new_database()
    ids = ["b", "a", "C", "ä", "1"]
    store(database, *(rated(name, minute=3) for name in ids), rated("z", minute=1))
    rows = csv.DictReader(io.StringIO(exported(database).decode(), newline=""))
    assert list(dict.fromkeys(row["trial"] for row in rows)) == ["z", "1", "C", "a", "b", "ä"]
    lines = exported(database, Format.JSONL).decode().split("\n")
    assert next(json.loads(line)["trial"] for line in lines if line) == "z"
