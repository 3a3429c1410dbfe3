"""Sessions as their operator makes, pauses and closes them."""

from dataclasses import replace
from typing import Any

import pytest

from db import ResultsRule, SessionState
from rating.errors import BadSession
from tests.rating.conftest import ANN, BOB
from tests.rating.sessions.conftest import GOLD, MODELS, Room, prompt, prompt_set, take_pack


def refusal(room: Room, *prompts: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(BadSession) as caught:
        room.open(*prompts, **changes)
    return caught.value.code


def state(room: Room) -> list[tuple[str, bool]]:
    return [(one.state, one.current) for one in room.sessions.overviews(MODELS)]


def test_a_session_is_as_it_was_described(room: Room) -> None:
    session = room.open(
        prompt("one"),
        prompt("gold", gold=GOLD),
        name=" Monday\n",
        raters_per_prompt=3,
        results=ResultsRule.NEVER,
        repeat_share=0.05,
        attention_share=0.1,
        asks_guess=True,
    )
    [made] = room.sessions.overviews(MODELS)
    assert (made.id, made.name, made.prompt_set, made.pack) == (session, "Monday", "few", None)
    assert made.models == tuple(MODELS)
    assert (made.raters_per_prompt, made.results) == (3, ResultsRule.NEVER)
    assert (made.repeat_share, made.attention_share, made.asks_guess) == (0.05, 0.1, True)
    assert (made.state, made.current, made.raters, made.rated, made.wanted) == (
        *(SessionState.OPEN, True, 0, 0, 3),
    )
    assert [(one.prompt_id, one.wanted) for one in made.prompts] == [("one", 3)]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": " \n"}, "session_name"),
        ({"name": "x" * 201}, "session_name"),
        ({"raters_per_prompt": 0}, "session_raters"),
        ({"raters_per_prompt": 1_001}, "session_raters"),
        ({"prompt_set_id": "nothing"}, "session_prompt_set"),
        ({"pack_id": "nothing"}, "session_pack"),
        ({"at_once": True}, "session_at_once"),
        ({"models": ["tiny-qwen", "tiny-qwen"]}, "session_models"),
        ({"models": ["tiny-qwen", "other"]}, "session_not_running"),
        ({"models": [*MODELS, "third"]}, "session_not_running"),
        ({"repeat_share": -0.1}, "session_shares"),
        ({"repeat_share": 1.1}, "session_shares"),
        ({"attention_share": float("nan")}, "session_shares"),
        ({"attention_share": 0.1}, "session_no_gold"),
        ({"blind": False, "repeat_share": 0.1}, "session_open_checks"),
    ],
)
def test_what_cannot_be_is_refused_and_says_why(
    room: Room, changes: dict[str, Any], code: str
) -> None:
    assert refusal(room, **changes) == code
    assert room.sessions.overviews(MODELS) == []


def test_a_set_of_attention_items_alone_is_refused(room: Room) -> None:
    assert refusal(room, prompt("gold", gold=GOLD)) == "session_no_prompts"


def test_a_pack_must_answer_the_set_and_have_all_models(room: Room) -> None:
    chosen = prompt_set(prompt("one"))
    pack = take_pack(room.database, chosen, ["alpha", "beta", "gamma"])
    models = ["alpha", "gamma"]
    assert refusal(room, prompt("other"), pack_id=pack, models=models) == "session_other_set"
    lacking = ["alpha", "delta"]
    assert refusal(room, *chosen.as_json(), pack_id=pack, models=lacking) == "session_not_packed"
    room.open(*chosen.as_json(), pack_id=pack, models=models, at_once=True)
    [made] = room.sessions.overviews(MODELS)
    assert (made.models, made.pack, made.at_once) == (("alpha", "gamma"), "packed", True)


def test_one_session_is_open_at_a_time(room: Room) -> None:
    first = room.open()
    assert refusal(room) == "session_is_open"
    room.sessions.pause(first)
    second = room.open()
    assert state(room) == [("open", True), ("paused", False)]
    with pytest.raises(BadSession):
        room.sessions.resume(first, MODELS)
    room.sessions.close(second)
    assert state(room) == [("closed", False), ("paused", True)]
    room.sessions.resume(first, MODELS)
    assert state(room) == [("closed", False), ("open", True)]


def test_what_is_said_twice_is_done_once_and_closed_is_closed(room: Room) -> None:
    session = room.open()
    room.sessions.pause(session)
    room.sessions.pause(session)
    room.sessions.close(session)
    room.sessions.close(session)
    with pytest.raises(BadSession) as caught:
        room.sessions.resume(session, MODELS)
    assert caught.value.code == "session_is_closed"
    with pytest.raises(BadSession) as caught:
        room.sessions.pause("nothing")
    assert caught.value.code == "session_not_found"


def test_an_app_with_other_models_is_in_no_session_of_running_models_but_in_one_of_a_pack(
    room: Room,
) -> None:
    session = room.open()
    others = ["x", "y"]
    assert [one.current for one in room.sessions.overviews(others)] == [False]
    room.sessions.close(session)
    chosen = prompt_set(prompt("one"))
    pack = take_pack(room.database, chosen, MODELS)
    room.open(*chosen.as_json(), pack_id=pack)
    assert [one.current for one in room.sessions.overviews(others)] == [True, False]


def test_a_second_app_may_open_one_of_its_own_models(room: Room) -> None:
    room.open()
    draft = replace(room.draft(), models=["x", "y"])
    room.sessions.create(draft, ["x", "y"])
    assert len(room.sessions.overviews(MODELS)) == 2


async def test_progress_counts_raters_and_ratings_but_checks_apart(room: Room) -> None:
    room.open(prompt("one"), prompt("two"), prompt("gold", gold=GOLD), attention_share=0.5)
    for _ in range(3):
        await room.rate_next(ANN)
    await room.rate_next(BOB)
    [made] = room.sessions.overviews(MODELS)
    assert (made.raters, made.rated, made.wanted) == (2, 3, 4)
    assert sum(made.checks.values()) == 1
    assert sorted(one.rated for one in made.prompts) == [1, 2]
