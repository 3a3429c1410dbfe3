import json
from typing import Any

import pytest

from db import Dimension, Preference, Side
from rating.entries import (
    COMMENT_LIMIT,
    DRAFT_LIMIT,
    clean_text,
    is_older,
    parse_draft,
    parse_rating,
)
from rating.errors import BadRating, TrialError
from tests.rating.conftest import entries


def refused(payload: Any, turns: int = 1) -> BadRating:
    with pytest.raises(BadRating) as caught:
        parse_rating(payload, turns)
    return caught.value


def with_score(score: Any) -> Any:
    payload = entries()
    payload["scores"]["left"]["reasoning"] = score
    return payload


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"x": value}
    return value


def test_a_complete_rating_is_taken_as_entered() -> None:
    rating = parse_rating(entries(score=5, preference="both_bad", comment=" 好 "), 1)
    assert rating.preference is Preference.BOTH_BAD
    assert rating.comment == "好"
    assert rating.scores == {
        (side, key): None if key is Dimension.MEMORY else 5 for side in Side for key in Dimension
    }


@pytest.mark.parametrize("preference", Preference)
def test_every_preference_can_be_chosen(preference: Preference) -> None:
    assert parse_rating(entries(preference=preference.value), 1).preference is preference


@pytest.mark.parametrize("score", [1, 2, 3, 4, 5, "na"])
def test_the_five_scores_and_not_applicable_are_allowed(score: Any) -> None:
    rating = parse_rating(with_score(score), 1)
    assert rating.scores[Side.LEFT, Dimension.REASONING] == (None if score == "na" else score)


@pytest.mark.parametrize(
    "score",
    [
        *(0, 6, -1, 10**30, True, False, 3.0, 3.5, float("nan"), float("inf")),
        *("3", "", "NA", "na ", "na\n", "n/a", "null", "\ud800", "５"),
        *([], [3], {}, {"score": 3}, {"__class__": "int"}),
    ],
)
def test_anything_else_is_no_score(score: Any) -> None:
    assert refused(with_score(score)).code == "rating_not_allowed"


@pytest.mark.parametrize("payload", [None, [], [1, 2], "rating", 5, True, 1.5, b"{}", ["scores"]])
def test_what_is_no_form_is_refused(payload: Any) -> None:
    assert refused(payload).code == "rating_not_allowed"


@pytest.mark.parametrize(
    "scores",
    [
        *(None, [], "left", 7, [["left", "reasoning", 5]]),
        *({"left": None}, {"left": []}, {"left": 5}, {"left": "na"}),
        *({"middle": {}}, {"": {}}, {"LEFT": {}}, {"left ": {}}, {"\ud800": {}}, {"tiny-qwen": {}}),
        *({"left": {"charm": 5}}, {"left": {"": 5}}, {"left": {"memory\0": "na"}}),
        *({1: {}}, {None: {}}, {"left": {1: 5}}),
    ],
)
def test_scores_of_another_shape_are_refused(scores: Any) -> None:
    assert refused(entries(scores=scores)).code == "rating_not_allowed"


@pytest.mark.parametrize("preference", ["", "middle", "Left", "both bad", 1, True, [], {}, ["tie"]])
def test_an_unknown_preference_is_refused(preference: Any) -> None:
    assert refused(entries(preference=preference)).code == "rating_not_allowed"


@pytest.mark.parametrize("comment", [None, 5, True, [], {}, ["a"]])
def test_a_comment_is_text(comment: Any) -> None:
    assert refused(entries(comment=comment)).code == "rating_not_allowed"


def test_an_empty_form_says_how_much_is_missing() -> None:
    error = refused({})
    assert (error.code, error.details) == ("rating_incomplete", {"count": 11})


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("dimension", Dimension)
def test_each_score_is_required(side: Side, dimension: Dimension) -> None:
    payload = entries()
    del payload["scores"][side.value][dimension.value]
    assert refused(payload).details == {"count": 1}
    payload["scores"][side.value][dimension.value] = None
    assert f"{side}.{dimension}" in str(refused(payload))


def test_a_missing_side_is_five_missing_scores() -> None:
    payload = entries()
    del payload["scores"]["right"]
    assert refused(payload).details == {"count": 5}


def test_the_preference_is_required() -> None:
    payload = entries()
    del payload["preference"]
    assert refused(payload).details == {"count": 1}
    assert refused(entries() | {"preference": None}).code == "rating_incomplete"


def test_the_comment_may_be_left_out() -> None:
    payload = entries()
    del payload["comment"]
    assert parse_rating(payload, 1).comment == ""


def test_memory_cant_be_scored_after_one_turn() -> None:
    payload = entries()
    payload["scores"]["right"]["memory"] = 3
    assert refused(payload, turns=1).code == "memory_needs_turns"
    assert parse_rating(payload, 2).scores[Side.RIGHT, Dimension.MEMORY] == 3


def test_memory_need_not_be_scored_after_two_turns() -> None:
    assert parse_rating(entries(), 2).scores[Side.LEFT, Dimension.MEMORY] is None


def test_unknown_keys_beside_the_form_are_ignored() -> None:
    rating = parse_rating(entries(edited_at=5, rater="x", model="y", __proto__={}), 1)
    assert rating == parse_rating(entries(), 1)


def test_a_deeply_nested_form_is_refused() -> None:
    assert refused(with_score(nested(5_000))).code == "rating_not_allowed"
    assert refused(entries(scores=nested(5_000))).code == "rating_not_allowed"


def test_a_comment_may_be_as_long_as_the_limit() -> None:
    assert len(parse_rating(entries(comment="好" * COMMENT_LIMIT), 1).comment) == COMMENT_LIMIT


@pytest.mark.parametrize("length", [COMMENT_LIMIT + 1, 5_000_000])
def test_a_longer_comment_is_refused_with_the_limit(length: int) -> None:
    error = refused(entries(comment="x" * length))
    assert (error.code, error.details) == ("comment_too_long", {"limit": COMMENT_LIMIT})
    assert len(str(error)) < 200


def test_what_no_database_can_hold_is_dropped_from_a_comment_and_the_rest_kept() -> None:
    rating = parse_rating(entries(comment="a\0b\ud83d c\x1b[31m\x7f\r\nd\re\tf 👍"), 1)
    assert rating.comment == "ab c[31m\nd\ne\tf 👍"


def test_an_error_repeats_little_of_what_was_sent_and_can_be_written_anywhere() -> None:
    for name in ("x" * 1_000_000, "\ud800", "\0\x1b[2J"):
        message = str(refused(entries(scores={"left": {name: 5}})))
        assert len(message) < 300
        assert message.isprintable()
        message.encode()


def test_clean_text_leaves_clean_text_alone() -> None:
    text = "行一\n\t行二 — “引号” 👩‍👩‍👧 é \u202eעברית\u202c \x85 \ufeff"
    assert clean_text(text) == text


# --- drafts ---------------------------------------------------------------------------------------


def test_a_draft_is_kept_as_it_is() -> None:
    draft = {"scores": {"left": {"reasoning": 5}}, "comment": "半", "edited_at": 1.5, "x": None}
    assert parse_draft(draft) == draft


def test_a_draft_loses_what_would_break_the_page_that_shows_it_again() -> None:
    assert parse_draft({"comment": "a\ud83d b", "\udc00key": 1}) == {"comment": "a b", "key": 1}


@pytest.mark.parametrize(
    "draft",
    [
        *(None, [], "draft", 5, True, [{}]),
        *({"x": float("nan")}, {"x": float("inf")}, {"x": {1, 2}}, {"x": object()}, {"x": b""}),
        nested(100_000),
    ],
)
def test_what_is_no_draft_is_refused(draft: Any) -> None:
    with pytest.raises(TrialError) as caught:
        parse_draft(draft)
    assert caught.value.code == "draft_not_allowed"


def test_a_draft_may_be_as_long_as_the_limit() -> None:
    room = DRAFT_LIMIT - len(json.dumps({"comment": ""}))
    assert parse_draft({"comment": "好" * room})
    with pytest.raises(TrialError):
        parse_draft({"comment": "x" * (room + 1)})


def test_a_draft_of_the_longest_comment_fits() -> None:
    assert parse_draft(entries(comment="好" * COMMENT_LIMIT))


@pytest.mark.parametrize(
    ("entered", "before", "older"),
    [
        ({"edited_at": 1}, {"edited_at": 2}, True),
        ({"edited_at": 2}, {"edited_at": 2}, False),
        ({"edited_at": 3}, {"edited_at": 2}, False),
        ({"edited_at": "1"}, {"edited_at": 2}, False),
        ({}, {"edited_at": 2}, False),
        ({"edited_at": 1}, None, False),
    ],
)
def test_entries_that_arrive_late_are_known_by_their_time(
    entered: dict[str, object], before: dict[str, object] | None, older: bool
) -> None:
    assert is_older(entered, before) is older
