"""JSON Lines: everything of a trial, and what is refused."""

import json
from typing import Any

import pytest

from db import Database
from rating.errors import BadImport
from rating.exchange import Format, import_bytes
from tests.rating.exchange.samples import exported, rated, store, store_varied


@pytest.fixture
def line(database: Database) -> dict[str, Any]:
    """One trial as it is exported; the database is that of the same test."""
    store(database, rated("one", prompts=("你好", "再见"), comment="好"))
    data: dict[str, Any] = json.loads(exported(database, Format.JSONL))
    return data


def test_a_line_has_all_that_is_known_of_a_trial(database: Database) -> None:
    store_varied(database)
    lines = exported(database, Format.JSONL).decode().rstrip().split("\n")
    trials = {data["trial"]: data for data in map(json.loads, lines)}
    attempts = trials["b" * 32]["turns"][1]["answers"]
    assert [(a["side"], a["attempt"]) for a in attempts] == [
        ("left", 1),
        ("left", 2),
        ("right", 1),
    ]
    assert (attempts[0]["finish_reason"], attempts[0]["error"]) == ("failed", "interrupted")
    assert attempts[1]["cached"] is True
    assert attempts[2]["seed"] == 2**63 - 1
    assert attempts[2]["settings"] == {"temperature": 0.7, "stop": ["<eop>"]}
    assert (attempts[2]["first_token_s"], attempts[2]["completion_tokens"]) == (0.25, 3)
    masked = trials["masked"]["turns"][0]["answers"][0]
    assert (masked["text"], masked["raw_text"]) == ("我是█████", '我是 Qwen-7B\t"🙂"')
    assert trials["masked"]["flags"] == ["self_naming_left"]
    assert trials["regular"]["rating"]["guess"] == "right"
    assert trials["attention"]["assignment"]["better"] == "right"
    assert trials["masked"]["rating"]["rated_at"] == "2026-02-28T12:01:00.123456+00:00"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["version"], 2, "line 1, version: Input should be 1"),
        (["trial"], "a b", "line 1, trial: must have 1 to 32"),
        (["state"], "rateable", "line 1, state: Input should be"),
        (["turns"], [], "line 1, turns: "),
        (["turns", 1, "prompt"], "a\0b", "line 1, turns.1.prompt: has a NUL"),
        (["turns", 1, "answers", 0, "seed"], 2**63, "line 1, turns.1.answers.0.seed: "),
        (["turns", 1, "answers", 1, "side"], "left", "line 1, turns.1: two answers"),
        (["turns", 0, "answers", 0, "total_s"], -1, "line 1, turns.0.answers.0.total_s: "),
        (["turns", 0, "answers", 0, "finished_at"], None, "finish_reason and finished_at"),
        (["turns", 0, "asked_at"], "2026-02-28T12:00:00", "line 1, turns.0.asked_at: "),
        (["rating", "scores", "left", "memory"], 6, "line 1, rating.scores.left.memory: "),
        (["rating", "scores", "left"], {}, "line 1, rating: scores must have all five"),
        (["right_model"], "tiny-chatglm", "line 1: both sides have the same model"),
        (["assignment"], {"prompt_id": "a", "kind": "repeat"}, "line 1, assignment: repeat_of"),
        (["assignment"], {"prompt_id": "a", "kind": "attention"}, "line 1, assignment: better"),
        (["rating", "rated_at"], "0001-01-01T00:00:00+14:00", "between the years 1 and 9999"),
        (["assignment"], {"prompt_id": "a", "kind": "repeat", "repeat_of": "two"}, "repeat itself"),
        (["more"], 1, "line 1, more: Extra inputs are not permitted"),
    ],
)
def test_what_can_t_be_is_refused_by_the_path_of_the_field(
    database: Database, line: dict[str, Any], path: list[Any], value: object, said: str
) -> None:
    line["trial"] = "two"
    place: Any = line
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    before = exported(database, Format.JSONL)
    with pytest.raises(BadImport, match="Nothing was imported") as caught:
        import_bytes(database, json.dumps(line).encode(), "trials.jsonl")
    assert said in str(caught.value)
    assert exported(database, Format.JSONL) == before


def test_text_that_is_no_json_is_refused_by_its_line(
    database: Database, line: dict[str, Any]
) -> None:
    good = json.dumps(line)
    for bad in ("{", '{"trial": "\\ud800"}', "[]"):
        with pytest.raises(BadImport, match=r"trials\.jsonl, line 3"):
            import_bytes(database, f"{good}\n\n{bad}\n".encode(), "trials.jsonl")


def test_the_same_trial_twice_in_a_file_is_refused(
    database: Database, line: dict[str, Any]
) -> None:
    twice = f"{json.dumps(line)}\n{json.dumps(line)}\n".encode()
    with pytest.raises(BadImport, match=r"line 2, trial: trial one was on line 1 already"):
        import_bytes(database, twice, "trials.jsonl")
