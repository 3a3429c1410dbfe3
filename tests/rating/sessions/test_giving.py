"""A panel in a rating session: what raters are given, asked, shown and told."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from db import Language, Rater, Side, TrialKind, TrialState, queries
from rating.assignment import swapped
from rating.errors import BadPrompt, BadRating, NothingToRate, TrialError, WrongState
from rating.session import Visitor
from rating.sessions.answers import GOLD as NO_MODEL
from rating.trial import AnswerStatus, TrialView, move
from tests.rating.conftest import ANN, BOB, PAIR, entries, until
from tests.rating.fake_models import DIE, TOO_LONG
from tests.rating.sessions.conftest import GOLD, MODELS, Room, prompt, prompt_set, take_pack

CYD = Visitor("c" * 32, Language.EN)


async def refusal(attempt: Any) -> TrialError:
    with pytest.raises(TrialError) as caught:
        await attempt
    return caught.value


def texts(view: TrialView) -> list[str]:
    return [view.turns[-1].answers[side].text for side in Side]


# --- the prompts are the session's ----------------------------------------------------------------


async def test_the_session_gives_the_prompt_and_the_trial_belongs_to_it(room: Room) -> None:
    session = room.open(prompt("one", "一加一？"))
    *_, view = await room.answered()
    assert (view.session, view.state) == (session, TrialState.RATEABLE)
    assert [turn.prompt for turn in view.turns] == ["一加一？"]
    given = room.assignment(view.id)
    assert (given.session_id, given.prompt_id, given.kind) == (session, "one", TrialKind.REGULAR)
    assert room.stage.stored(view.id).turns[0].prompt_id == "one"


async def test_before_it_is_due_a_prompt_is_nowhere_in_the_view(room: Room) -> None:
    room.open(prompt("one", "一加一？"))
    view = await room.stage.panel.new_trial(ANN)
    assert "一加一" not in repr(view)
    assert "一加一" not in repr(await room.stage.panel.standing(ANN))


async def test_a_raters_own_prompt_is_refused_and_the_given_one_taken(room: Room) -> None:
    room.open(prompt("one", "一加一？"))
    assert (await refusal(room.stage.panel.ask(ANN, None, "我的"))).code == "prompt_given"
    trial = await room.stage.panel.new_trial(ANN)
    assert isinstance(await refusal(room.stage.panel.ask(ANN, trial.id, "我的")), BadPrompt)
    views = await room.stage.ask(trial.id, "一加一？")
    assert views[-1].state is TrialState.RATEABLE
    assert (await refusal(room.stage.panel.ask(ANN, trial.id, ""))).code == "script_over"


async def test_the_turns_of_a_script_are_asked_one_after_the_other(room: Room) -> None:
    room.open(prompt("one", "我叫小明", "我叫什么？", "你好吗？"))
    views = await room.answered()
    assert {view.state for view in views[:-1]} == {TrialState.ANSWERING}
    assert [turn.prompt for turn in views[-1].turns] == ["我叫小明", "我叫什么？", "你好吗？"]
    assert [len(view.turns) for view in views] == sorted(len(view.turns) for view in views)
    for view in views:
        assert len(view.turns) < 3 or "你好吗？" in repr(view)
    for model in room.stage.models.values():
        assert model.asked[-1] == ["我叫小明", "好", "我叫什么？", "好", "你好吗？"]


async def test_no_view_shows_an_answer_in_another_turns_place(room: Room) -> None:
    room.open(prompt("one", "一", "二"))
    for model in room.stage.models.values():
        model.script = ["甲", 0.2]
    views = await room.answered()
    assert {len(view.turns) for view in views} == {1, 2}
    for view in views:
        for turn in view.turns[:-1]:
            assert {answer.status for answer in turn.answers.values()} == {AnswerStatus.COMPLETE}


async def test_a_side_that_broke_off_in_a_script_is_asked_again_and_the_script_goes_on(
    room: Room,
) -> None:
    room.open(prompt("one", "一", "二"))
    trial = await room.stage.panel.new_trial(ANN)
    left = room.stage.on(trial.id, Side.LEFT)
    left.script = [DIE]
    *_, view = await room.stage.ask(trial.id, "")
    assert (view.state, view.to_retry) == (TrialState.ANSWERING, (Side.LEFT,))
    left.script = ["好"]
    *_, view = await room.stage.retry(trial.id, Side.LEFT)
    assert (view.state, len(view.turns)) == (TrialState.RATEABLE, 2)


async def test_after_a_restart_in_mid_script_the_rater_goes_on_where_it_was(room: Room) -> None:
    room.open(prompt("one", "一", "二"))
    trial = await room.stage.panel.new_trial(ANN)
    gate = asyncio.Event()
    await room.stage.panel.ask(ANN, trial.id, "")
    models = room.stage.models.values()
    await until(lambda: all(len(model.requests) == 1 for model in models))
    for model in models:
        model.script = ["好", gate]
    await until(lambda: len(room.stage.stored(trial.id).turns) == 2)
    again = room.stage.another_panel()
    view = await again.new_trial(ANN)
    assert view.id == trial.id
    assert view.to_retry == tuple(Side)
    gate.set()
    for model in room.stage.models.values():
        model.script = ["又"]
    await again.retry(ANN, trial.id, Side)
    views = [shown async for shown in again.watch(ANN, trial.id)]
    assert (views[-1].state, len(views[-1].turns)) == (TrialState.RATEABLE, 2)
    await again.close()


async def test_a_prompt_that_a_model_cannot_take_is_left_out_for_everybody(room: Room) -> None:
    room.open(prompt("one"), prompt("two"))
    for model in room.stage.models.values():
        model.script = TOO_LONG
    trial = await room.stage.panel.new_trial(ANN)
    await room.stage.panel.ask(ANN, trial.id, "")
    with pytest.raises(BadPrompt) as caught:
        await room.stage.watched(trial.id)
    assert caught.value.code == "given_prompt_too_long"
    gone = room.assignment(trial.id).prompt_id
    for model in room.stage.models.values():
        model.script = ["好"]
    for visitor in (ANN, BOB):
        view = await room.rate_next(visitor)
        assert room.assignment(view.id).prompt_id != gone
        assert (await refusal(room.stage.panel.new_trial(visitor))).code == "session_done"
    [overview] = room.sessions.overviews(MODELS)
    assert (overview.rated, overview.wanted, overview.left_out) == (2, 2, 1)


# --- what a rater learns, and when ----------------------------------------------------------------


async def test_nobody_is_revealed_before_the_rater_has_rated_all(room: Room) -> None:
    room.open()
    first = await room.rate_next()
    assert (first.state, first.reveal) == (TrialState.RATED, None)
    current = await room.stage.panel.current(ANN)
    assert current is not None
    assert (current.state, current.reveal) == (TrialState.RATED, None)
    assert await room.stage.panel.is_blinded(ANN)
    standing = await room.stage.panel.standing(ANN)
    assert standing is not None
    assert (standing.done, standing.total, standing.revealed) == (1, 2, ())
    second = await room.rate_next()
    assert (second.state, second.reveal) == (TrialState.REVEALED, None)
    assert not await room.stage.panel.is_blinded(ANN)


async def test_who_has_rated_all_learns_who_was_who_in_each(room: Room) -> None:
    room.open(prompt("one", "一加一？"), prompt("two", "二加二？"))
    for _ in range(2):
        last = await room.rate_next(score=3, preference="right")
    standing = await room.stage.panel.standing(ANN)
    assert standing is not None
    assert (standing.finished, standing.left) == (True, 0)
    assert {one.prompts for one in standing.revealed} == {("一加一？",), ("二加二？",)}
    titles = {model.model.title for model in room.stage.models.values()}
    for one in standing.revealed:
        assert set(one.models.values()) == titles
        assert one.preference == "right"
    stored = room.stage.stored(last.id)
    shown = next(one for one in standing.revealed if one.prompts == (stored.turns[0].prompt,))
    assert shown.models[Side.LEFT] == room.stage.models[stored.left_model].model.title


async def test_when_a_session_closes_its_raters_learn_it_too_but_first_rate_what_they_are_at(
    room: Room,
) -> None:
    session = room.open()
    await room.rate_next()
    *_, at = await room.answered()
    room.sessions.close(session)
    standing = await room.stage.panel.standing(ANN)
    assert standing is not None
    assert (standing.finished, standing.revealed) == (False, ())
    assert await room.stage.panel.is_blinded(ANN)
    await room.stage.panel.rate(ANN, at.id, entries())
    standing = await room.stage.panel.standing(ANN)
    assert standing is not None
    assert (standing.finished, len(standing.revealed)) == (True, 2)


async def test_a_rater_stays_blinded_from_one_trial_of_a_session_to_the_next(room: Room) -> None:
    room.open()
    await room.rate_next()
    trial = await room.stage.panel.new_trial(ANN)
    assert trial.state is TrialState.DRAFTING
    assert await room.stage.panel.is_blinded(ANN)
    assert not await room.stage.panel.is_blinded(BOB)


async def test_a_rater_stays_blinded_when_a_prompt_of_the_session_was_too_long(
    room: Room,
) -> None:
    room.open(*map(prompt, "abc"))
    await room.rate_next()
    await give_up_next(room)
    assert await room.stage.panel.current(ANN) is None
    assert await room.stage.panel.is_blinded(ANN)


async def test_raters_of_an_open_session_are_not_blinded(room: Room) -> None:
    room.open(blind=False)
    await room.rate_next()
    assert not await room.stage.panel.is_blinded(ANN)


async def test_a_session_that_closes_between_two_trials_tells_who_was_who_in_those_rated(
    room: Room,
) -> None:
    session = room.open()
    rated = await room.rate_next()
    await room.stage.panel.new_trial(ANN)
    room.sessions.close(session)
    standing = await room.stage.panel.standing(ANN)
    assert standing is not None
    assert (standing.finished, standing.done, len(standing.revealed)) == (True, 1, 1)
    assert room.stage.stored(rated.id).state is TrialState.REVEALED
    assert not await room.stage.panel.is_blinded(ANN)


async def test_who_is_shown_the_models_page_first_after_the_close_is_no_longer_blinded(
    room: Room,
) -> None:
    session = room.open()
    await room.rate_next()
    await room.stage.panel.new_trial(ANN)
    room.sessions.close(session)
    assert not await room.stage.panel.is_blinded(ANN)


@pytest.mark.parametrize("closes", [False, True])
async def test_who_was_who_is_told_although_the_last_prompt_was_too_long(
    room: Room, closes: bool
) -> None:
    session = room.open(*map(prompt, "abc" if closes else "ab"))
    await room.rate_next()
    await give_up_next(room)
    if closes:
        room.sessions.close(session)
    standing = await room.stage.panel.standing(ANN)
    assert standing is not None
    assert (standing.session, standing.finished, len(standing.revealed)) == (session, True, 1)
    assert not await room.stage.panel.is_blinded(ANN)


async def test_a_trial_that_was_begun_is_still_to_be_rated_when_others_have_rated_the_rest(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.open(raters_per_prompt=1)
    await room.rate_next()
    begun = await room.stage.panel.new_trial(ANN)
    monkeypatch.setattr("rating.sessions.giving.TAKEN_MIN", 0)
    await room.rate_next(BOB)
    standing = await room.stage.panel.standing(ANN)
    assert standing is not None
    assert (standing.finished, standing.left, standing.waits) == (False, 1, False)
    assert await room.stage.panel.is_blinded(ANN)
    await room.stage.ask(begun.id, "")
    rated = await room.stage.panel.rate(ANN, begun.id, entries())
    assert rated.state is TrialState.REVEALED


async def test_a_trial_that_was_left_while_its_prompt_proved_too_long_is_given_up(
    room: Room,
) -> None:
    room.open()
    for model in room.stage.models.values():
        model.script = TOO_LONG
    trial = await room.stage.panel.new_trial(ANN)
    await room.stage.panel.ask(ANN, trial.id, "")
    with room.database.write() as session:  # before the answers go on: nothing is awaited here
        left = queries.load_trial(session, trial.id, ANN.id)
        assert left is not None
        move(left, TrialState.ABANDONED)
    with pytest.raises(BadPrompt):
        await room.stage.watched(trial.id)
    stored = room.stage.stored(trial.id)
    assert (stored.state, stored.flags, stored.turns) == (TrialState.ABANDONED, ["too_long"], [])


async def test_a_stop_between_two_turns_of_a_script_ends_the_next_one(room: Room) -> None:
    room.open(prompt("one", "一", "二", "三"), blind=False)
    trial = await room.stage.panel.new_trial(ANN)
    await room.stage.panel.ask(ANN, trial.id, "")
    with room.database.write():  # until here the first turn can't be recorded
        await seen_complete(room, trial.id)
        for model in room.stage.models.values():
            model.script = ["好", 5.0]
        await room.stage.panel.stop(ANN, trial.id)
    *_, view = await room.stage.watched(trial.id)
    assert (len(view.turns), view.state) == (2, TrialState.ANSWERING)
    assert {answer.status for answer in view.turns[1].answers.values()} == {AnswerStatus.STOPPED}


async def test_a_stopped_answer_is_asked_for_with_the_same_seed_and_a_failed_one_anew(
    room: Room,
) -> None:
    """A check's recorded words come again; so must a model's, or a stop would tell them apart."""
    room.open(prompt("one"), blind=False)
    trial = await room.stage.panel.new_trial(ANN)
    left, right = (room.stage.on(trial.id, side) for side in Side)
    left.script, right.script = ["好", 5.0], [DIE]
    await room.stage.panel.ask(ANN, trial.id, "")
    await until(lambda: bool(left.requests and right.requests))
    await room.stage.panel.stop(ANN, trial.id)
    await room.stage.watched(trial.id)
    left.script = right.script = ["好"]
    await room.stage.retry(trial.id, *Side)
    first, second = ([a for a in room.stage.answers(trial.id) if a.side is side] for side in Side)
    assert first[0].seed == first[1].seed
    assert second[0].seed != second[1].seed


async def seen_complete(room: Room, trial_id: str) -> None:
    """Watch the trial until both answers of the last turn are complete."""
    async with aclosing(room.stage.panel.watch(ANN, trial_id)) as views:
        async for view in views:
            answers = view.turns[-1].answers.values()
            if {answer.status for answer in answers} == {AnswerStatus.COMPLETE}:
                return


async def give_up_next(room: Room) -> None:
    """Have the rater's next prompt be too long for the models."""
    models = room.stage.models.values()
    for model in models:
        model.script = TOO_LONG
    trial = await room.stage.panel.new_trial(ANN)
    await room.stage.panel.ask(ANN, trial.id, "")
    with pytest.raises(BadPrompt):
        await room.stage.watched(trial.id)
    for model in models:
        model.script = ["好"]


async def test_a_paused_session_gives_nothing_new_and_keeps_what_was_begun(room: Room) -> None:
    session = room.open()
    *_, at = await room.answered()
    room.sessions.pause(session)
    assert (await room.stage.panel.new_trial(ANN)).id == at.id
    assert (await refusal(room.stage.panel.new_trial(BOB))).code == "session_paused"
    assert (await refusal(room.stage.panel.ask(BOB, None, "你好"))).code == "prompt_given"
    await room.stage.panel.rate(ANN, at.id, entries())
    assert (await refusal(room.stage.panel.new_trial(ANN))).code == "session_paused"
    room.sessions.resume(session, MODELS)
    assert (await room.stage.panel.new_trial(ANN)).session == session


async def test_a_trial_that_was_given_but_not_asked_waits_while_the_session_is_paused(
    room: Room,
) -> None:
    session = room.open()
    trial = await room.stage.panel.new_trial(ANN)
    room.sessions.pause(session)
    refused = await refusal(room.stage.panel.ask(ANN, trial.id, ""))
    assert isinstance(refused, NothingToRate)
    room.sessions.resume(session, MODELS)
    assert (await room.stage.ask(trial.id, ""))[-1].state is TrialState.RATEABLE


async def test_without_a_session_everything_is_as_ever(room: Room) -> None:
    room.sessions.close(room.open())
    trial_id = await room.stage.rateable_trial()
    view = await room.stage.panel.rate(ANN, trial_id, entries())
    assert (view.state, view.session, view.to_guess) == (TrialState.REVEALED, None, None)
    assert await room.stage.panel.standing(ANN) is None


async def test_a_free_trial_that_was_begun_can_be_rated_in_a_session_and_is_revealed(
    room: Room,
) -> None:
    trial_id = await room.stage.rateable_trial()
    room.open()
    view = await room.stage.panel.rate(ANN, trial_id, entries())
    assert view.state is TrialState.REVEALED
    assert (await room.stage.panel.new_trial(ANN)).session is not None


# --- coming back, twice, both at once -------------------------------------------------------------


async def test_two_clicks_or_tabs_get_one_trial(room: Room) -> None:
    room.open()
    panel = room.stage.panel
    views = await asyncio.gather(*(panel.new_trial(ANN) for _ in range(4)))
    assert len({view.id for view in views}) == 1


async def test_raters_who_come_at_once_get_different_prompts(room: Room) -> None:
    room.open(prompt("one"), prompt("two"), prompt("three"), raters_per_prompt=1)
    visitors = (ANN, BOB, CYD)
    views = await asyncio.gather(*(room.stage.panel.new_trial(one) for one in visitors))
    assert len({room.assignment(view.id).prompt_id for view in views}) == 3
    late = Visitor("d" * 32, Language.EN)
    assert (await refusal(room.stage.panel.new_trial(late))).code == "session_taken"
    standing = await room.stage.panel.standing(late)
    assert standing is not None
    assert (standing.waits, standing.finished) == (True, False)


async def test_who_never_comes_back_keeps_the_prompt_from_others_only_for_a_while(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.open(prompt("one"), raters_per_prompt=1)
    await room.stage.panel.new_trial(ANN)
    monkeypatch.setattr("rating.sessions.giving.TAKEN_MIN", 0)
    view = await room.rate_next(BOB)
    assert room.assignment(view.id).prompt_id == "one"


# --- repeats and attention items ------------------------------------------------------------------


async def rate_all(room: Room, session: str, visitor: Visitor = ANN) -> list[list[TrialView]]:
    """Rate until nothing is left; return what was seen of each trial."""
    seen: list[list[TrialView]] = []
    while True:
        try:
            views = await room.answered(visitor)
        except NothingToRate:
            return seen
        rated = await room.stage.panel.rate(visitor, views[-1].id, entries())
        seen.append([*views, rated])


async def test_a_repeat_gives_the_same_words_on_the_other_sides(room: Room) -> None:
    session = room.open(*map(prompt, "abcd"), repeat_share=0.25)
    for model in room.stage.models.values():
        model.script = [f"我是{model.model.title}", "，你好"]
    await rate_all(room, session)
    [(repeat, trial)] = [one for one in room.given(session) if one[0].kind is TrialKind.REPEAT]
    once, again = room.stage.stored(str(repeat.repeat_of)), room.stage.stored(trial.id)
    assert (once.left_model, once.right_model) == (again.right_model, again.left_model)
    for turn, other in zip(once.turns, again.turns, strict=True):
        assert turn.prompt == other.prompt
        for answer in turn.answers:
            copy = next(one for one in other.answers if one.side is not answer.side)
            for what in ("raw_text", "text", "model_key", "model_revision", "precision", "seed"):
                assert getattr(copy, what) == getattr(answer, what)
            assert (answer.cached, copy.cached) == (False, True)
    assert len(room.stage.models["tiny-qwen"].requests) == 4


async def test_an_attention_item_shows_the_sets_answers_and_asks_no_model(room: Room) -> None:
    session = room.open(
        *map(prompt, "ab"), prompt("gold", "二加二？", gold=GOLD), attention_share=0.5
    )
    await rate_all(room, session)
    [(item, trial)] = [one for one in room.given(session) if one[0].kind is TrialKind.ATTENTION]
    stored = room.stage.stored(trial.id)
    by_side = {answer.side: answer for answer in stored.turns[0].answers}
    better = Side(str(item.better))
    assert {side: answer.raw_text for side, answer in by_side.items()} == {
        side: "四" if side is better else "五" for side in Side
    }
    assert {answer.model_key for answer in by_side.values()} == {NO_MODEL}
    standing = await room.stage.panel.standing(ANN)
    assert standing is not None
    assert len(standing.revealed) == 2
    assert "二加二" not in repr(standing)


async def test_nothing_that_a_rater_sees_tells_what_a_trial_is_for(room: Room) -> None:
    session = room.open(
        *map(prompt, "abcd"),
        *(prompt(name, gold=GOLD) for name in ("g1", "g2")),
        repeat_share=0.5,
        attention_share=0.5,
    )
    for model in room.stage.models.values():
        model.script = ["五"]
    seen = await rate_all(room, session)
    kinds = {trial.id: given.kind for given, trial in room.given(session)}
    assert set(kinds.values()) == set(TrialKind)
    words = ("repeat", "attention", "cached=True", "better", "gold", "recorded", "tiny-")
    shapes: dict[TrialKind, set[Any]] = {kind: set() for kind in TrialKind}
    for views in seen[:-1]:
        for view in views:
            assert not any(word in repr(view) for word in words)
        first, last, rated = views[0], views[-2], views[-1]
        shape = [
            (view.state, view.reveal, view.other_models, view.session, len(view.turns))
            for view in (first, last, rated)
        ]
        shapes[kinds[first.id]].add(tuple(shape))
    assert shapes[TrialKind.REGULAR] == shapes[TrialKind.REPEAT] == shapes[TrialKind.ATTENTION]


async def test_while_the_models_are_away_an_attention_item_does_not_come_either(
    room: Room,
) -> None:
    room.open(prompt("a"), prompt("gold", gold=GOLD), attention_share=1.0)
    await room.rate_next()
    for model in room.stage.models.values():
        model.up = False
    *_, view = await room.answered()
    assert room.assignment(view.id).kind is TrialKind.ATTENTION
    assert {answer.error for answer in view.turns[0].answers.values()} == {"unavailable"}
    for model in room.stage.models.values():
        model.up = True
    *_, view = await room.stage.retry(view.id, *Side)
    assert view.state is TrialState.RATEABLE


async def test_regular_trials_alone_move_on_in_the_blocks_of_sides(room: Room) -> None:
    session = room.open(
        *map(prompt, "abcde"), prompt("gold", gold=GOLD), repeat_share=0.4, attention_share=0.2
    )
    await rate_all(room, session)
    given = room.given(session)
    assert {one.kind for one, _ in given} == set(TrialKind)
    regular = [trial for one, trial in given if one.kind is TrialKind.REGULAR]
    with room.database.read() as opened:
        seed = opened.get_one(Rater, ANN.id).side_seed
    assert [trial.left_model == MODELS[1] for trial in regular] == [
        swapped(seed, PAIR, before) for before in range(len(regular))
    ]


# --- the guess ------------------------------------------------------------------------------------


async def test_the_guess_is_asked_for_and_stored_with_the_rating(room: Room) -> None:
    room.open(asks_guess=True)
    *_, view = await room.answered()
    assert view.to_guess == tuple(room.stage.models[key].model.title for key in MODELS)
    with pytest.raises(BadRating):
        await room.stage.panel.rate(ANN, view.id, entries())
    await room.stage.panel.rate(ANN, view.id, entries(guess="right"))
    rating = room.stage.stored(view.id).rating
    assert rating is not None
    assert rating.guess is Side.RIGHT
    rated = await room.rate_next(guess="none")
    rating = room.stage.stored(rated.id).rating
    assert rating is not None
    assert rating.guess is None


async def test_the_same_rating_with_another_guess_is_another_one(room: Room) -> None:
    room.open(asks_guess=True)
    *_, view = await room.answered()
    await room.stage.panel.rate(ANN, view.id, entries(guess="left"))
    await room.stage.panel.rate(ANN, view.id, entries(guess="left"))
    with pytest.raises(WrongState):
        await room.stage.panel.rate(ANN, view.id, entries(guess="right"))


async def test_a_session_that_asks_no_guess_stores_none(room: Room) -> None:
    room.open()
    view = await room.rate_next(guess="left")
    assert view.to_guess is None
    rating = room.stage.stored(view.id).rating
    assert rating is not None
    assert rating.guess is None


# --- packs ----------------------------------------------------------------------------------------


async def test_a_pack_answers_without_its_models_for_every_pair(room: Room) -> None:
    chosen = prompt_set(prompt("one"), prompt("two", "一", "二"))
    keys = ["alpha", "beta", "gamma"]
    pack = take_pack(room.database, chosen, keys)
    session = room.open(
        *chosen.as_json(), pack_id=pack, models=keys, raters_per_prompt=1, asks_guess=True
    )
    pairs = set()
    for _ in range(6):
        *_, view = await room.answered()
        stored = room.stage.stored(view.id)
        pairs.add((room.assignment(view.id).prompt_id, stored.pair))
        for turn in stored.turns:
            for answer in turn.answers:
                assert answer.raw_text.endswith(f"Name-of-{stored.model_on(answer.side)}")
                assert "Name-of" not in answer.text
                assert (answer.precision, answer.seed, answer.cached) == ("int8", 7, True)
                assert answer.settings["temperature"] == 0.5
        assert not view.other_models
        assert view.to_guess == tuple(f"Title of {key}" for key in stored.pair.split("|"))
        await room.stage.panel.rate(ANN, view.id, entries(guess="none"))
    assert len(pairs) == 6
    assert all(model.requests == [] for model in room.stage.models.values())
    standing = await room.stage.panel.standing(ANN)
    assert standing is not None
    assert standing.finished
    assert {t for one in standing.revealed for t in one.models.values()} == {
        f"Title of {key}" for key in keys
    }
    assert len(room.given(session)) == 6


async def test_a_packs_answers_can_be_shown_at_once(room: Room) -> None:
    chosen = prompt_set(prompt("one"))
    pack = take_pack(room.database, chosen, MODELS)
    room.open(*chosen.as_json(), pack_id=pack, at_once=True)
    views = await room.answered()
    lengths = {tuple(map(len, texts(view))) for view in views}
    assert lengths == {(0, 0), tuple(map(len, texts(views[-1])))}
