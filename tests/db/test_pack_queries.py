"""Prompt sets and answer packs are stored once, whoever stores them at the same time."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import IntegrityError

from db import Database, pack_queries
from tests.db import rows


def store(database: Database, pack_id: str) -> None:
    """Store a set, a pack and its two answers, as one process would."""
    prompt_set = rows.prompt_set(id="s" * 64)
    pack = rows.answer_pack(id=pack_id, prompt_set_id="s" * 64)
    answers = [
        rows.packed_answer(pack_id=pack_id, prompt_id="p", position=position) for position in (1, 2)
    ]
    with database.write() as session:
        pack_queries.store_prompt_set(session, prompt_set)
        pack_queries.store_pack(session, pack, answers)


def test_a_pack_and_its_set_are_stored_once_however_many_store_them(database: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: store(database, "a" * 64), range(8)))
    with database.read() as session:
        assert [one.id for one in pack_queries.list_prompt_sets(session)] == ["s" * 64]
        ((pack, answers),) = pack_queries.list_packs(session)
        assert (pack.id, answers) == ("a" * 64, 2)
        assert [one.position for one in pack_queries.load_answers(session, pack.id)] == [1, 2]


def test_a_pack_without_its_set_is_refused(database: Database) -> None:
    pack = rows.answer_pack(id="a" * 64, prompt_set_id="t" * 64)
    with pytest.raises(IntegrityError), database.write() as session:
        pack_queries.store_pack(session, pack, [])


def test_a_pack_is_loaded_with_its_prompt_set(database: Database) -> None:
    store(database, "a" * 64)
    with database.read() as session:
        pack = pack_queries.load_pack(session, "a" * 64)
        assert pack_queries.load_pack(session, "b" * 64) is None
    assert pack is not None
    assert pack.prompt_set.id == "s" * 64


def test_an_answer_is_that_of_its_pack_prompt_turn_and_model(database: Database) -> None:
    store(database, "a" * 64)
    store(database, "b" * 64)
    with database.read() as session:
        found = pack_queries.load_answer(session, "b" * 64, "p", 2, "tiny-qwen")
        assert found is not None
        assert (found.pack_id, found.position) == ("b" * 64, 2)
        for wrong in (("q", 2, "tiny-qwen"), ("p", 3, "tiny-qwen"), ("p", 2, "other")):
            assert pack_queries.load_answer(session, "b" * 64, *wrong) is None
