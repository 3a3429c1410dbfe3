"""Formats that other tools make figures or models of: what they hold, what they leave out."""

import json
from io import BytesIO
from typing import Any

import pytest

from db import Database, Language, Preference, Rater, Side, TrialKind
from db.queries import Filters
from rating.errors import BadExport, BadFilter
from rating.exchange import Format, Selection, write
from rating.summary import TINY_NOTE
from tests.db import rows
from tests.rating.exchange.samples import TINY, exported, rated, store, store_varied

SELECTING = [Format.TRL, Format.ARENA, Format.LLM_COMPARATOR]


def lines(database: Database, format_: Format, **choice: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(database, format_, **choice).splitlines()]


def left_out(database: Database, format_: Format, **choice: Any) -> dict[str, int]:
    found = write(database, format_, Selection(**choice), BytesIO())
    return {str(reason): count for reason, count in found.left_out.items()}


def examples(database: Database, **choice: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(exported(database, Format.LLM_COMPARATOR, **choice))[
        "examples"
    ]
    return found


def test_trl_gets_clear_preferences_for_answers_to_one_prompt(database: Database) -> None:
    store(
        database,
        rated("left", answers=("L", "R")),
        rated("right", minute=1, answers=("L", "R"), preference=Preference.RIGHT),
        rated("tie", minute=2, preference=Preference.TIE),
        rated("bad", minute=3, preference=Preference.BOTH_BAD),
        rated("turns", minute=4, prompts=("a", "b")),
        rated("paper", minute=5, answers=None),
        rated("same", minute=6, answers=("S", "S")),
        rated("named", minute=7, flags=("self_naming_left",)),
        rated("careless", minute=8),
    )
    flags = {"careless": ["too_fast"]}
    assert lines(database, Format.TRL, flags=flags) == [
        {
            "prompt": [{"role": "user", "content": "你好"}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for chosen, rejected in (("L", "R"), ("R", "L"))
    ]
    assert left_out(database, Format.TRL, flags=flags) == {
        "no clear preference": 2,
        "several turns": 1,
        "without answers": 1,
        "the same answer twice": 1,
        "flagged": 2,
    }
    assert len(lines(database, Format.TRL, flags=flags, include_flagged=True)) == 4


def test_trl_gets_the_last_attempt_as_the_model_wrote_it(database: Database) -> None:
    trial = rated("one")
    turn = trial.turns[0]
    rows.answer(turn=turn, side=Side.LEFT, attempt=2, raw_text="我是Qwen", text="我是█████")
    store(database, trial)
    (row,) = lines(database, Format.TRL)
    assert row["chosen"] == [{"role": "assistant", "content": "我是Qwen"}]


@pytest.mark.parametrize("format_", SELECTING)
def test_attention_trials_and_repeats_are_never_in_it(database: Database, format_: Format) -> None:
    store_varied(database)
    choice = {"filters": Filters(blind=True), "include_flagged": True}
    found = left_out(database, format_, **choice)
    assert (found["attention trials"], found["repeats"]) == (1, 1)


@pytest.mark.parametrize("format_", SELECTING)
def test_blind_and_open_ratings_are_never_in_one_file(database: Database, format_: Format) -> None:
    store(database, rated("one"), rated("two", blind=False))
    with pytest.raises(BadExport, match="--blind or --open") as caught:
        exported(database, format_)
    assert caught.value.code == "export_modes"
    assert exported(database, format_, filters=Filters(blind=False))


@pytest.mark.parametrize("format_", [Format.ARENA, Format.LLM_COMPARATOR])
def test_an_answer_that_named_its_model_counts_and_careless_rating_does_not(
    database: Database, format_: Format
) -> None:
    store(database, rated("named", flags=("self_naming_right",)), rated("careless"), rated("good"))
    flags = {"careless": ["straight_lined"]}
    assert left_out(database, format_, flags=flags) == {"flagged": 1}
    assert left_out(database, format_, flags=flags, include_flagged=True) == {}


def test_a_battle_says_who_won_on_which_side(database: Database) -> None:
    store(
        database,
        rated("one", rater=Rater(language=Language.ZH, pseudonym="Ann"), prompts=("a", "b")),
        rated("two", minute=1, preference=Preference.BOTH_BAD, models=TINY[::-1]),
    )
    first, second = lines(database, Format.ARENA)
    assert first == {
        "model_a": "tiny-chatglm",
        "model_b": "tiny-qwen",
        "winner": "model_a",
        "judge": "Ann",
        "turn": 2,
        "language": "zh",
        "tstamp": 1772280000.123456,
    }
    assert (second["model_a"], second["winner"]) == ("tiny-qwen", "both_bad")


def test_a_is_the_pair_s_first_model_whichever_side_it_was_on(database: Database) -> None:
    store(
        database,
        rated("one", answers=("glm", "qwen"), scores=(5, 1), comment="clear"),
        rated("two", answers=("qwen!", "glm!"), scores=(5, 1), minute=1, models=TINY[::-1]),
    )
    data = json.loads(exported(database, Format.LLM_COMPARATOR))
    assert data["models"] == [{"name": "tiny-chatglm"}, {"name": "tiny-qwen"}]
    assert TINY_NOTE in data["metadata"]["source_path"]
    first, second = data["examples"]
    assert (first["output_text_a"], first["output_text_b"], first["score"]) == ("glm", "qwen", 1)
    assert (second["output_text_a"], second["output_text_b"]) == ("glm!", "qwen!")
    assert second["score"] == -1
    assert second["custom_fields"]["memory"] == [1, 5]
    assert first["individual_rater_scores"][0]["rationale"] == "clear"
    assert [e["individual_rater_scores"][0]["is_flipped"] for e in (first, second)] == [False, True]


def test_several_raters_of_the_same_answers_are_one_example(database: Database) -> None:
    shown: dict[str, Any] = {"answers": ("A", "B"), "prompts": ("x", "y")}
    store(
        database,
        rated("one", **shown),
        rated("two", minute=1, preference=Preference.TIE, scores=(None, 2), **shown),
        rated("three", minute=2, preference=Preference.BOTH_BAD, scores=(None, 3), **shown),
        rated("other", minute=3, answers=("A", "C"), prompts=("x", "y")),
    )
    first, second = examples(database)
    assert (first["input_text"], first["output_text_a"]) == ("[1] x\n\n[2] y", "[1] A\n\n[2] A")
    assert first["score"] == pytest.approx(1 / 3)
    labels = [rating["rating_label"] for rating in first["individual_rater_scores"]]
    assert labels == ["A is better", "same", "both bad"]
    fields = first["custom_fields"]
    assert (fields["ratings"], fields["both_bad"]) == (3, 1)
    assert fields["reasoning"] == [4, pytest.approx(7 / 3)]
    assert second["custom_fields"]["ratings"] == 1


def test_llm_comparator_gets_one_pair(database: Database) -> None:
    store(database, rated("one"), rated("two", models=("alpha", "beta")))
    with pytest.raises(BadExport, match=r"alpha\|beta, tiny-chatglm\|tiny-qwen"):
        examples(database)
    assert len(examples(database, filters=Filters(pair="alpha|beta"))) == 1
    with pytest.raises(BadExport, match="No rating fits") as caught:
        examples(database, filters=Filters(pair="no|such"))
    assert caught.value.code == "export_none"


@pytest.mark.parametrize("format_", list(Format))
def test_a_database_without_ratings_gives_a_file_without_rows(
    database: Database, format_: Format
) -> None:
    if format_ is Format.LLM_COMPARATOR:  # has no place for no models
        with pytest.raises(BadExport):
            exported(database, format_)
    elif format_ is Format.CSV:
        assert exported(database, format_).count(b"\n") == 1
    elif format_ is not Format.PARQUET:
        assert exported(database, format_) == b""


def test_a_session_is_chosen_by_its_name_or_id(database: Database) -> None:
    first, second = rows.rating_session(name="one"), rows.rating_session(name="two")
    second.prompt_set = first.prompt_set
    for name, session in (("in", first), ("out", second)):
        store(database, rows.assignment(trial=rated(name), session=session))
    for name in ("one", first.id):
        found = lines(database, Format.JSONL, rating_session=name)
        assert [row["trial"] for row in found] == ["in"]
        assert found[0]["assignment"]["kind"] == TrialKind.REGULAR
    with pytest.raises(BadFilter, match="No rating sessions are named 'three'") as caught:
        lines(database, Format.JSONL, rating_session="three")
    assert caught.value.code == "no_such_session"


def test_what_filters_hide_is_not_exported(database: Database) -> None:
    session = rows.rating_session()
    store(database, rows.assignment(trial=rated("in"), session=session), rated("out"))
    own = lines(database, Format.JSONL, filters=Filters(session=session.id))
    assert [row["trial"] for row in own] == ["in"]
    others = lines(database, Format.JSONL, filters=Filters(hidden_sessions=frozenset({session.id})))
    assert [row["trial"] for row in others] == ["out"]
