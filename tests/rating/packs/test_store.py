"""What is kept of packs in the database."""

from dataclasses import replace

import pytest

from db import Database
from rating import prompt_sets
from rating.packs import store
from tests.rating.packs.samples import SET, pack


def test_a_pack_is_kept_once_with_its_prompt_set(database: Database) -> None:
    taken = store.take(database, pack(), "First")
    assert store.take(database, pack(), "Again") == taken == pack().id
    (listed,) = store.list_packs(database)
    assert listed == store.load(database, taken)
    assert (listed.name, listed.answers, listed.prompt_set_id) == ("First", 6, SET.id)
    assert listed.models == pack().models
    assert listed.made_at == pack().made_at
    assert prompt_sets.load(database, SET.id) == SET


def test_its_prompt_set_may_be_there_already(database: Database) -> None:
    prompt_sets.store(database, replace(SET, name="Mine"))
    store.take(database, pack(), "First")
    assert [one.name for one in prompt_sets.list_sets(database)] == ["Mine"]


def test_an_answer_is_found_by_prompt_turn_and_model(database: Database) -> None:
    taken = store.take(database, pack(), "First")
    found = store.recording(database, taken, "color", 2, "tiny-chatglm")
    assert found.text == "color 2，tiny-chatglm"
    assert [(piece.text, piece.elapsed_s) for piece in found.pieces] == [
        ("c", 0.01),
        ("olor 2，tiny-chatglm", 0.02),
    ]
    assert found.replay.seed == 7
    assert found.replay.finish.total_s == 0.0205
    assert found.replay.finish.completion_tokens == 2


@pytest.mark.parametrize(
    ("prompt", "position", "model"),
    [("gold", 1, "tiny-qwen"), ("color", 3, "tiny-qwen"), ("sum", 1, "other")],
)
def test_an_answer_that_is_not_there_is_said_to_be_missing(
    database: Database, prompt: str, position: int, model: str
) -> None:
    taken = store.take(database, pack(), "First")
    with pytest.raises(LookupError):
        store.recording(database, taken, prompt, position, model)


def test_a_pack_that_is_not_there_is_said_to_be_missing(database: Database) -> None:
    with pytest.raises(LookupError, match="no answer pack"):
        store.load(database, "0" * 64)
