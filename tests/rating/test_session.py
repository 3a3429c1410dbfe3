import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import func, select

from db import (
    Base,
    Database,
    Dimension,
    FinishReason,
    Preference,
    Rating,
    Score,
    Side,
    Trial,
    TrialState,
    Turn,
)
from rating import answering
from rating.blinding import MASK
from rating.errors import BadPrompt, BadRating, TrialError, TrialNotFound, WrongState
from rating.session import PROMPT_LIMIT, Panel
from rating.trial import AnswerStatus, TrialView
from tests.db import rows
from tests.rating.conftest import ANN, BOB, Stage, entries, until
from tests.rating.fake_models import BUSY, DIE, TOO_LONG, FakeModel, spoken

COMPLETE, STREAMING = AnswerStatus.COMPLETE, AnswerStatus.STREAMING
FAILED, STOPPED = AnswerStatus.FAILED, AnswerStatus.STOPPED


def count(database: Database, table: type[Base]) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def statuses(view: TrialView) -> list[AnswerStatus]:
    return [view.turns[-1].answers[side].status for side in Side]


def texts(view: TrialView) -> list[str]:
    return [view.turns[-1].answers[side].text for side in Side]


async def refusal(attempt: Awaitable[object]) -> TrialError:
    with pytest.raises(TrialError) as caught:
        await attempt
    return caught.value


async def first_text(stage: Stage, trial_id: str) -> TrialView:
    """Follow the trial until both panes show something."""
    async for view in stage.panel.watch(ANN, trial_id):
        if all(texts(view)):
            return view
    pytest.fail("nothing was ever shown")


def recorded(stage: Stage, trial_id: str) -> bool:
    """Whether all answers of the trial have ended."""
    return all(answer.finish_reason for answer in stage.answers(trial_id))


# --- what a rater sees before the reveal ----------------------------------------------------------


async def test_nothing_that_is_shown_before_the_rating_tells_the_models_apart(
    stage: Stage,
) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = spoken("我是通义千问。", 0.002)
    right.script = [0.3, *spoken("我是ChatGLM。", 0.03)]
    views = await stage.ask(trial_id, "你是谁？")
    await stage.panel.save_draft(ANN, trial_id, entries())
    current = await stage.panel.current(ANN)
    assert current is not None
    secrets = [key for model in stage.models.values() for key in (model.model.key, "revision-of")]
    for view in [*views, current]:
        shown = repr(view)  # of the whole dataclass, whatever is in it
        assert not any(secret in shown for secret in [*secrets, "precision-of", "127.0.0.1"])
        assert "通义" not in shown
        assert "ChatGLM" not in shown
        assert view.reveal is None
        for answer in (a for turn in view.turns for a in turn.answers.values()):
            assert answer.timing is None
            assert answer.error is None


async def test_both_panes_start_in_the_same_view_and_keep_step_until_the_shorter_is_whole(
    stage: Stage,
) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = spoken("快" * 16, 0.002)
    right.script = [0.3, *spoken("慢" * 12, 0.04)]
    *views, last = await stage.ask(trial_id)
    lengths = [tuple(map(len, texts(view))) for view in views]
    assert (0, 0) in lengths
    assert all(a == b or min(a, b) == 12 for a, b in lengths)
    assert len(set(lengths)) > 2
    assert lengths == sorted(lengths)
    assert {status for view in views for status in statuses(view)} == {STREAMING}
    assert statuses(last) == [COMPLETE, COMPLETE]
    assert texts(last) == ["快" * 16, "慢" * 12]
    assert last.state is TrialState.RATEABLE


async def test_the_true_times_and_words_are_in_the_database(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = ["我是Qwen", "。"]
    right.script = [0.4, "我是模型。"]
    right.finish = "length"
    *_, last = await stage.ask(trial_id, "你是谁？")
    mine, other = stage.answers(trial_id)
    assert (mine.side, mine.text, mine.raw_text) == (Side.LEFT, f"我是{MASK}。", "我是Qwen。")
    assert texts(last)[0] == f"我是{MASK}。"
    assert (mine.completion_tokens, other.completion_tokens) == (2, 1)
    assert mine.prompt_tokens == other.prompt_tokens == 7
    assert other.finish_reason is FinishReason.LENGTH
    assert mine.first_token_s is not None
    assert other.first_token_s is not None
    assert other.first_token_s >= 0.4
    assert (mine.model_key, other.model_key) == (left.model.key, right.model.key)
    assert mine.model_revision == f"revision-of-{left.model.key}"
    assert mine.precision == f"precision-of-{left.model.key}"
    assert mine.seed == other.seed == left.requests[0]["seed"] == right.requests[0]["seed"]
    assert stage.stored(trial_id).flags == ["self_naming_left"]


async def test_prompts_are_never_masked(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    prompt = "你是Qwen还是ChatGLM？"
    for view in await stage.ask(trial_id, prompt):
        assert view.turns[0].prompt == prompt
    assert left.asked == right.asked == [[prompt]]


async def test_the_reveal_comes_with_the_rating_and_tells_the_truth(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = ["我是Qwen。"]
    await stage.ask(trial_id)
    view = await stage.panel.rate(ANN, trial_id, entries())
    assert view.state is TrialState.REVEALED
    assert view.reveal is not None
    assert [view.reveal[side].model_key for side in Side] == [left.model.key, right.model.key]
    assert [view.reveal[side].masked for side in Side] == [True, False]
    assert texts(view)[0] == "我是Qwen。"
    timing = view.turns[0].answers[Side.LEFT].timing
    assert timing is not None
    assert timing.completion_tokens == 1
    assert await stage.panel.current(ANN) == view


async def test_a_rater_is_blinded_from_the_first_question_to_the_rating(stage: Stage) -> None:
    assert not await stage.panel.is_blinded(ANN)
    await stage.panel.new_trial(ANN)
    assert not await stage.panel.is_blinded(ANN)
    trial_id = await stage.rateable_trial()
    assert await stage.panel.is_blinded(ANN)
    assert not await stage.panel.is_blinded(BOB)
    await stage.panel.rate(ANN, trial_id, entries())
    assert not await stage.panel.is_blinded(ANN)


async def test_an_open_panel_hides_nothing(stage: Stage) -> None:
    panel = stage.another_panel(blind=False)
    trial_id = (await panel.new_trial(ANN)).id
    seen = asyncio.Event()
    stage.on(trial_id, Side.LEFT).script = ["我是Qwen", seen, "。"]
    asyncio.get_running_loop().call_later(20, seen.set)  # or it would wait for ever
    await panel.ask(ANN, trial_id, "你是谁？")
    views = []
    async for view in panel.watch(ANN, trial_id):
        views.append(view)
        if texts(view)[0] == "我是Qwen":
            seen.set()
    *views, last = views
    assert "我是Qwen" in [texts(view)[0] for view in views]
    assert all(view.reveal for view in views)
    assert all(a.timing for view in views for a in view.turns[0].answers.values())
    assert not last.blind
    assert stage.stored(trial_id).flags == []


# --- a side that fails ----------------------------------------------------------------------------


async def test_a_side_that_dies_is_asked_again_alone_and_then_the_trial_can_be_rated(
    stage: Stage,
) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script, right.script = ["半", DIE], ["整个", 0.2, "。"]
    *_, failed = await stage.ask(trial_id)
    assert statuses(failed) == [FAILED, COMPLETE]
    assert failed.turns[0].answers[Side.LEFT].error == "unavailable"
    assert texts(failed)[1] == "整个。"
    assert (failed.state, failed.to_retry) == (TrialState.ANSWERING, (Side.LEFT,))
    assert (await refusal(stage.panel.rate(ANN, trial_id, entries()))).code == "not_rateable"
    assert (await refusal(stage.panel.ask(ANN, trial_id, "再来"))).code == "not_answering"

    left.script = ["好了。"]
    *views, whole = await stage.retry(trial_id, Side.LEFT)
    assert all(texts(view)[1] == "整个。" for view in views)
    assert statuses(whole) == [COMPLETE, COMPLETE]
    assert (texts(whole), whole.to_retry) == (["好了。", "整个。"], ())
    assert len(right.requests) == 1
    first, other, second = stage.answers(trial_id)
    assert (first.attempt, first.raw_text, first.error) == (1, "半", "unavailable")
    assert (other.side, other.attempt) == (Side.RIGHT, 1)
    assert (second.side, second.attempt, second.text) == (Side.LEFT, 2, "好了。")
    assert first.seed != second.seed

    rated = await stage.panel.rate(ANN, trial_id, entries())
    assert rated.state is TrialState.REVEALED


async def test_both_sides_may_fail_and_both_be_asked_again(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script, right.script = BUSY, []
    *_, view = await stage.ask(trial_id)
    assert view.to_retry == (Side.LEFT, Side.RIGHT)
    left.script = right.script = ["好"]
    *_, view = await stage.retry(trial_id, Side.LEFT, Side.RIGHT)
    assert view.state is TrialState.RATEABLE


async def test_a_side_may_fail_again_and_again(stage: Stage) -> None:
    trial_id, left, _ = await stage.new_trial()
    left.script = BUSY
    await stage.ask(trial_id)
    for _ in range(2):
        *_, view = await stage.retry(trial_id, Side.LEFT)
        assert view.to_retry == (Side.LEFT,)
    assert [a.attempt for a in stage.answers(trial_id) if a.side is Side.LEFT] == [1, 2, 3]


async def test_only_a_side_that_has_to_be_asked_again_is(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = BUSY
    await stage.ask(trial_id)
    code = (await refusal(stage.panel.retry(ANN, trial_id, [Side.RIGHT]))).code
    assert code == "nothing_to_retry"
    assert (await refusal(stage.panel.retry(ANN, trial_id, []))).code == "nothing_to_retry"
    left.script = ["好"]
    *_, view = await stage.retry(trial_id, *Side)
    assert view.state is TrialState.RATEABLE
    assert len(right.requests) == 1
    assert (await refusal(stage.panel.retry(ANN, trial_id, Side))).code == "nothing_to_retry"


# --- stopping -------------------------------------------------------------------------------------


async def test_what_a_stopped_trial_stores_as_shown_was_shown_on_both_sides(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = ["快" * 300, asyncio.Event()]
    right.script = [*spoken("慢" * 6, 0.03), asyncio.Event()]
    await stage.panel.ask(ANN, trial_id, "你好")
    await first_text(stage, trial_id)
    watcher = asyncio.create_task(stage.watched(trial_id))
    await asyncio.sleep(0.2)
    await stage.panel.stop(ANN, trial_id)
    *views, last = await watcher
    assert statuses(last) == [STOPPED, STOPPED]
    assert texts(last) == texts(views[-1])
    fast, slow = stage.answers(trial_id)
    assert [fast.text, slow.text] == texts(last)
    assert len(fast.text) == len(slow.text) <= 6
    assert fast.raw_text == "快" * 300
    assert {fast.finish_reason, slow.finish_reason} == {FinishReason.STOPPED}
    assert last.to_retry == (Side.LEFT, Side.RIGHT)
    assert (await refusal(stage.panel.rate(ANN, trial_id, entries()))).code == "not_rateable"
    await until(lambda: (left.hung_up, right.hung_up) == (1, 1))


async def test_stopped_sides_can_be_asked_again(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = right.script = [asyncio.Event()]
    await stage.panel.ask(ANN, trial_id, "你好")
    await stage.panel.stop(ANN, trial_id)
    await stage.watched(trial_id)
    left.script = right.script = ["好"]
    *_, view = await stage.retry(trial_id, *Side)
    assert view.state is TrialState.RATEABLE


async def test_stopping_what_has_ended_does_nothing(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    await stage.panel.stop(ANN, trial_id)
    assert stage.stored(trial_id).state is TrialState.RATEABLE


# --- the app ends or is started again -------------------------------------------------------------


async def test_after_a_restart_in_mid_answer_both_sides_can_be_asked_again(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = right.script = ["半", asyncio.Event()]
    await stage.panel.ask(ANN, trial_id, "你好")
    await until(lambda: bool(left.requests and right.requests))

    restarted = stage.another_panel()
    view = await restarted.current(ANN)
    assert view is not None
    assert statuses(view) == [FAILED, FAILED]
    assert {a.error for a in view.turns[0].answers.values()} == {"interrupted"}
    assert view.to_retry == (Side.LEFT, Side.RIGHT)

    left.script = right.script = ["好"]
    await restarted.retry(ANN, trial_id, Side)
    views = [view async for view in restarted.watch(ANN, trial_id)]
    assert views[-1].state is TrialState.RATEABLE
    rated = await restarted.rate(ANN, trial_id, entries())

    await stage.panel.close()  # the old one is late, and takes nothing back
    assert await restarted.current(ANN) == rated
    assert [a.attempt for a in stage.answers(trial_id)] == [1, 1, 2, 2]


@pytest.mark.parametrize("step", ["watch", "save_draft", "retry"])
async def test_whatever_is_done_first_after_a_restart_finds_the_answers_ended(
    stage: Stage, step: str
) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = right.script = [asyncio.Event()]
    await stage.panel.ask(ANN, trial_id, "你好")
    await until(lambda: bool(left.requests and right.requests))
    restarted = stage.another_panel()
    if step == "watch":
        (view,) = [view async for view in restarted.watch(ANN, trial_id)]
        assert statuses(view) == [FAILED, FAILED]
    elif step == "save_draft":
        await restarted.save_draft(ANN, trial_id, entries())
        assert recorded(stage, trial_id)
    else:
        left.script = right.script = ["好"]
        await restarted.retry(ANN, trial_id, Side)
        await restarted.close()
        assert [a.attempt for a in stage.answers(trial_id)] == [1, 1, 2, 2]


async def test_a_rating_that_was_saved_but_not_revealed_is_revealed_after_a_restart(
    stage: Stage,
) -> None:
    trial_id = await stage.rateable_trial()
    await stage.panel.rate(ANN, trial_id, entries())
    with stage.database.write() as session:
        session.get_one(Trial, trial_id).state = TrialState.RATED
    view = await stage.another_panel().current(ANN)
    assert view is not None
    assert view.state is TrialState.REVEALED
    assert view.reveal is not None


async def test_closing_the_panel_records_what_runs(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = right.script = ["半句", asyncio.Event()]
    await stage.panel.ask(ANN, trial_id, "你好")
    shown = texts(await first_text(stage, trial_id))
    await stage.panel.close()
    answers = stage.answers(trial_id)
    assert {answer.finish_reason for answer in answers} == {FinishReason.STOPPED}
    assert [answer.raw_text for answer in answers] == ["半句", "半句"]
    assert all(a.text.startswith(text) for a, text in zip(answers, shown, strict=True))


async def test_closing_the_panel_straight_after_a_question_asks_no_model(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = right.script = [asyncio.Event()]
    await stage.panel.ask(ANN, trial_id, "你好")
    await stage.panel.close()
    assert recorded(stage, trial_id)
    assert left.requests == right.requests == []


async def test_answers_that_cant_be_recorded_leave_a_trial_that_can_go_on(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    url = stage.database.url
    database = Database.open(f"sqlite:///{url.database}", busy_timeout_s=0.2)
    first, second = stage.models.values()
    panel = Panel(database, (first, second), blind=True)
    trial_id = (await panel.new_trial(ANN)).id
    await panel.ask(ANN, trial_id, "你好")
    locker = sqlite3.connect(str(url.database), isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    await until(lambda: "could not be recorded" in caplog.text)
    locker.close()
    view = await panel.current(ANN)
    assert view is not None
    assert view.to_retry == (Side.LEFT, Side.RIGHT)
    await panel.retry(ANN, trial_id, Side)
    await panel.close()
    database.close()


# --- several turns --------------------------------------------------------------------------------


async def test_each_model_goes_on_with_its_own_raw_words(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script, right.script = ["Qwen"], ["我"]
    await stage.ask(trial_id, "一")
    *_, view = await stage.ask(trial_id, "二")
    assert left.asked == [["一"], ["一", "Qwen", "二"]]
    assert right.asked == [["一"], ["一", "我", "二"]]
    assert [turn.prompt for turn in view.turns] == ["一", "二"]
    assert view.turns[0].answers[Side.LEFT].text == MASK


async def test_a_later_turn_goes_on_from_the_attempt_that_succeeded(stage: Stage) -> None:
    trial_id, left, _ = await stage.new_trial()
    left.script = ["坏", DIE]
    await stage.ask(trial_id, "一")
    left.script = ["好"]
    await stage.retry(trial_id, Side.LEFT)
    await stage.ask(trial_id, "二")
    assert left.asked == [["一"], ["一"], ["一", "好", "二"]]


async def test_memory_can_be_scored_from_the_second_turn_on(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    payload = entries()
    payload["scores"]["left"]["memory"] = 5
    assert (await refusal(stage.panel.rate(ANN, trial_id, payload))).code == "memory_needs_turns"
    await stage.ask(trial_id, "二")
    view = await stage.panel.rate(ANN, trial_id, payload)
    assert view.rating is not None
    assert view.rating.scores[Side.LEFT, Dimension.MEMORY] == 5


# --- prompts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_prompt_too_long_for_one_model_is_as_if_never_asked(
    stage: Stage, turns: int
) -> None:
    trial_id, left, right = await stage.new_trial()
    for _ in range(turns):
        await stage.ask(trial_id)
    await stage.panel.save_draft(ANN, trial_id, {"comment": "半"})
    before = await stage.panel.current(ANN)
    left.script, right.script = TOO_LONG, ["说了", 0.2, "。"]
    await stage.panel.ask(ANN, trial_id, "长" * 9_000)
    views: list[TrialView] = []
    with pytest.raises(BadPrompt) as caught:
        await _collect(stage, trial_id, views)
    assert caught.value.code == "conversation_too_long"
    for view in views[:-1]:  # nor is it told for which model
        answers = view.turns[-1].answers
        assert answers[Side.LEFT] == answers[Side.RIGHT]
    assert views[-1] == before == await stage.panel.current(ANN)
    left.script = ["好"]
    *_, view = await stage.ask(trial_id, "短")
    assert view.state is TrialState.RATEABLE
    assert len(view.turns) == turns + 1


async def _collect(stage: Stage, trial_id: str, views: list[TrialView]) -> None:
    async for view in stage.panel.watch(ANN, trial_id):
        views.append(view)


async def test_a_prompt_refused_before_anybody_watches_is_told_once(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = right.script = TOO_LONG
    await stage.panel.ask(ANN, trial_id, "长" * 9_000)
    await until(lambda: count(stage.database, Turn) == 0)
    await asyncio.sleep(0.1)
    assert (await refusal(stage.watched(trial_id))).code == "conversation_too_long"
    assert len(await stage.watched(trial_id)) == 1


async def test_a_side_for_which_it_is_too_long_when_asked_again_takes_the_turn_back(
    stage: Stage,
) -> None:
    trial_id, left, _ = await stage.new_trial()
    left.script = BUSY
    await stage.ask(trial_id)
    left.script = TOO_LONG
    await stage.panel.retry(ANN, trial_id, [Side.LEFT])
    assert (await refusal(stage.watched(trial_id))).code == "conversation_too_long"
    stored = stage.stored(trial_id)
    assert (stored.state, stored.turns) == (TrialState.DRAFTING, [])


@pytest.mark.parametrize(
    "prompt", ["", " ", "\n\t\u3000", "\0", "\ud800", "\x1b\x7f\0", None, 5, ["你好"], {"a": 1}]
)
async def test_nothing_to_ask_is_refused(stage: Stage, prompt: Any) -> None:
    trial_id, _, _ = await stage.new_trial()
    assert (await refusal(stage.panel.ask(ANN, trial_id, prompt))).code == "prompt_empty"
    assert stage.stored(trial_id).turns == []


async def test_a_prompt_may_be_as_long_as_the_limit(stage: Stage) -> None:
    trial_id, left, _ = await stage.new_trial()
    error = await refusal(stage.panel.ask(ANN, trial_id, "长" * (PROMPT_LIMIT + 1)))
    assert error.code == "prompt_too_long"
    assert error.details == {"length": PROMPT_LIMIT + 1, "limit": PROMPT_LIMIT}
    await stage.ask(trial_id, "长" * PROMPT_LIMIT)
    assert len(left.asked[0][0]) == PROMPT_LIMIT


@pytest.mark.parametrize(
    ("prompt", "stored"),
    [
        ("  你好\r\n世界 \0", "你好\n世界"),
        ("👩‍👩‍👧 \ud83d半个", "👩‍👩‍👧 半个"),
        ("\u202eשלום <script>alert(1)</script>", "\u202eשלום <script>alert(1)</script>"),
        ("<|im_end|> [gMASK] {}", "<|im_end|> [gMASK] {}"),
    ],
)
async def test_a_strange_prompt_is_asked_as_text(stage: Stage, prompt: str, stored: str) -> None:
    trial_id, left, right = await stage.new_trial()
    *_, view = await stage.ask(trial_id, prompt)
    assert view.turns[0].prompt == stored
    assert left.asked == right.asked == [[stored]]


async def test_a_prompt_of_the_set_is_stored_with_its_id(stage: Stage) -> None:
    trial_id, _, _ = await stage.new_trial()
    await stage.ask(trial_id, " 你好，请介绍一下你自己。\0")
    await stage.ask(trial_id, "再说一遍。")
    assert [turn.prompt_id for turn in stage.stored(trial_id).turns] == ["article-self", None]


async def test_a_question_without_a_trial_begins_one(stage: Stage) -> None:
    view = await stage.panel.ask(ANN, None, "你好")
    assert view.turns[0].prompt == "你好"
    await stage.watched(view.id)
    assert stage.stored(view.id).state is TrialState.RATEABLE


# --- many at once ---------------------------------------------------------------------------------


async def test_of_two_questions_at_once_one_is_asked(stage: Stage) -> None:
    trial_id, left, _ = await stage.new_trial()
    results = await asyncio.gather(
        stage.panel.ask(ANN, trial_id, "一"),
        stage.panel.ask(ANN, trial_id, "二"),
        return_exceptions=True,
    )
    (error,) = [each for each in results if isinstance(each, BaseException)]
    assert isinstance(error, WrongState)
    assert error.code == "answering"
    *_, view = await stage.watched(trial_id)
    assert len(view.turns) == len(left.requests) == 1


async def test_of_two_questions_to_two_copies_of_the_app_one_is_asked(stage: Stage) -> None:
    trial_id, left, _ = await stage.new_trial()
    panels = [stage.panel, stage.another_panel()]
    results = await asyncio.gather(
        *(panel.ask(ANN, trial_id, "你好") for panel in panels), return_exceptions=True
    )
    assert sum(isinstance(each, WrongState) for each in results) == 1
    for panel in panels:
        await panel.close()
    assert count(stage.database, Turn) == 1
    assert len(left.requests) <= 1


async def test_a_question_while_an_answer_comes_is_refused(stage: Stage) -> None:
    trial_id, left, _ = await stage.new_trial()
    left.script = [asyncio.Event()]
    await stage.panel.ask(ANN, trial_id, "一")
    for attempt in (stage.panel.ask(ANN, trial_id, "二"), stage.panel.retry(ANN, trial_id, Side)):
        assert (await refusal(attempt)).code == "answering"
    assert (await refusal(stage.panel.rate(ANN, trial_id, entries()))).code == "not_rateable"


@pytest.mark.parametrize("copies", [1, 2])
async def test_of_two_ratings_at_once_one_is_stored(stage: Stage, copies: int) -> None:
    trial_id = await stage.rateable_trial()
    panels = [stage.panel, stage.another_panel() if copies > 1 else stage.panel]
    results = await asyncio.gather(
        *(
            panel.rate(ANN, trial_id, entries(score))
            for score, panel in zip((1, 5), panels, strict=True)
        ),
        return_exceptions=True,
    )
    (saved,) = [each for each in results if isinstance(each, TrialView)]
    (error,) = [each for each in results if isinstance(each, WrongState)]
    assert error.code == "already_final"
    assert count(stage.database, Rating) == 1
    assert count(stage.database, Score) == 10
    assert await stage.panel.current(ANN) == saved


async def test_the_same_rating_sent_many_times_at_once_is_stored_once(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    other = stage.another_panel()
    views = await asyncio.gather(
        *(panel.rate(ANN, trial_id, entries()) for panel in [stage.panel, other] * 5)
    )
    assert {view.state for view in views} == {TrialState.REVEALED}
    assert count(stage.database, Rating) == 1
    assert count(stage.database, Score) == 10


async def test_a_final_rating_cant_be_changed(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    first = await stage.panel.rate(ANN, trial_id, entries(4, comment="好"))
    assert await stage.panel.rate(ANN, trial_id, entries(4, comment=" 好 ")) == first
    for change in (entries(5, comment="好"), entries(4), entries(4, "right", "好")):
        assert (await refusal(stage.panel.rate(ANN, trial_id, change))).code == "already_final"
    assert (await refusal(stage.panel.ask(ANN, trial_id, "再来"))).code == "not_answering"
    stored = stage.stored(trial_id).rating
    assert stored is not None
    assert (stored.preference, stored.comment) == (Preference.LEFT, "好")


async def test_two_raters_at_once_keep_their_trials_apart(stage: Stage) -> None:
    ann, bob = await stage.panel.ask(ANN, None, "一"), await stage.panel.ask(BOB, None, "二")
    await asyncio.gather(stage.watched(ann.id), stage.watched(bob.id, BOB))
    await stage.panel.rate(BOB, bob.id, entries())
    assert stage.stored(ann.id).state is TrialState.RATEABLE
    assert stage.stored(bob.id, BOB).state is TrialState.REVEALED


# --- rights ---------------------------------------------------------------------------------------


async def _watch(panel: Panel, trial_id: Any) -> None:
    async for _ in panel.watch(ANN, trial_id):
        pass


STEPS: dict[str, Callable[[Panel, Any], Awaitable[object]]] = {
    "ask": lambda panel, trial_id: panel.ask(ANN, trial_id, "你好"),
    "retry": lambda panel, trial_id: panel.retry(ANN, trial_id, Side),
    "watch": _watch,
    "stop": lambda panel, trial_id: panel.stop(ANN, trial_id),
    "save_draft": lambda panel, trial_id: panel.save_draft(ANN, trial_id, {}),
    "rate": lambda panel, trial_id: panel.rate(ANN, trial_id, entries()),
}


@pytest.mark.parametrize("step", STEPS)
async def test_another_raters_trial_is_not_found(stage: Stage, step: str) -> None:
    trial_id = await stage.rateable_trial(BOB)
    before = stage.stored(trial_id, BOB)
    with pytest.raises(TrialNotFound):
        await STEPS[step](stage.panel, trial_id)
    after = stage.stored(trial_id, BOB)
    assert (after.state, after.draft, len(after.turns)) == (before.state, None, 1)


@pytest.mark.parametrize("step", STEPS)
async def test_what_is_no_trial_is_not_found(stage: Stage, step: str) -> None:
    texts = ("", "x", "0" * 32, "' OR 1=1 --", "\0", "\ud800", "trial\0", "x" * 100_000)
    for trial_id in (*texts, [], ["x"], {}, {"id": "x"}, 5, True, b"x"):
        with pytest.raises(TrialNotFound):
            await STEPS[step](stage.panel, trial_id)


async def test_a_rater_without_a_trial_has_none(stage: Stage) -> None:
    await stage.rateable_trial(BOB)
    assert await stage.panel.current(ANN) is None


@pytest.mark.parametrize("payload", [None, {}, [], "x", {"scores": {}}, entries(score=6)])
async def test_a_bad_rating_stores_nothing_and_leaves_the_trial_as_it_was(
    stage: Stage, payload: Any
) -> None:
    trial_id = await stage.rateable_trial()
    with pytest.raises(BadRating):
        await stage.panel.rate(ANN, trial_id, payload)
    assert count(stage.database, Rating) == count(stage.database, Score) == 0
    await stage.panel.rate(ANN, trial_id, entries())


async def test_a_trial_without_answers_cant_be_rated(stage: Stage) -> None:
    trial_id, _, _ = await stage.new_trial()
    assert (await refusal(stage.panel.rate(ANN, trial_id, entries()))).code == "not_rateable"


async def test_a_trial_of_other_models_can_be_rated_but_not_asked(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    other = Panel(stage.database, (FakeModel("alpha@x"), FakeModel("beta@x")), blind=True)
    view = await other.current(ANN)
    assert view is not None
    assert view.id == trial_id
    assert (await refusal(other.ask(ANN, trial_id, "二"))).code == "other_pair"
    assert stage.stored(trial_id).state is TrialState.RATEABLE
    assert (await other.rate(ANN, trial_id, entries())).reveal is not None


# --- drafts ---------------------------------------------------------------------------------------


async def test_what_was_entered_is_there_again(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    draft = {"scores": {"left": {"reasoning": 5}}, "comment": "半"}
    await stage.panel.save_draft(ANN, trial_id, draft)
    view = await stage.another_panel().current(ANN)
    assert view is not None
    assert view.draft == draft
    *_, view = await stage.ask(trial_id, "二")
    assert view.draft == draft


@pytest.mark.parametrize(
    "draft", [None, [], "x", 5, {"comment": "x" * 20_000}, {"x": float("nan")}]
)
async def test_a_draft_that_cant_be_kept_leaves_the_one_before(stage: Stage, draft: Any) -> None:
    trial_id = await stage.rateable_trial()
    await stage.panel.save_draft(ANN, trial_id, {"comment": "半"})
    assert (await refusal(stage.panel.save_draft(ANN, trial_id, draft))).code == "draft_not_allowed"
    assert stage.stored(trial_id).draft == {"comment": "半"}


async def test_a_late_draft_doesnt_touch_a_rating(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    view = await stage.panel.rate(ANN, trial_id, entries())
    await stage.panel.save_draft(ANN, trial_id, entries(1))
    assert await stage.panel.current(ANN) == view
    assert view.draft is None


# --- watching -------------------------------------------------------------------------------------


async def test_who_comes_back_sees_what_is_there_and_all_that_follows(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    gate = asyncio.Event()
    left.script = right.script = ["你", gate, "好"]
    await stage.panel.ask(ANN, trial_id, "你好")
    await first_text(stage, trial_id)  # then the tab is closed
    current = await stage.panel.current(ANN)
    assert current is not None
    assert texts(current) == ["你", "你"]
    tabs = [asyncio.create_task(stage.watched(trial_id)) for _ in range(2)]
    await asyncio.sleep(0.2)
    gate.set()
    one, other = await asyncio.gather(*tabs)
    assert texts(one[-1]) == texts(other[-1]) == ["你好", "你好"]
    assert one[-1].state is TrialState.RATEABLE


async def test_a_silent_model_still_gives_a_view_now_and_then(stage: Stage) -> None:
    """Only at a view does a page notice that its tab was closed."""
    trial_id, left, right = await stage.new_trial()
    left.script = right.script = [1.3, "好"]
    views = await stage.ask(trial_id)
    silent = [view for view in views if view.turns and not any(texts(view))]
    assert len(silent) >= 3


async def test_answers_that_nobody_watches_are_stopped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "ABANDON_AFTER_S", 0.2)
    trial_id, left, right = await stage.new_trial()
    left.script = right.script = ["半", asyncio.Event()]
    await stage.panel.ask(ANN, trial_id, "你好")
    await first_text(stage, trial_id)  # and leaves
    await until(lambda: recorded(stage, trial_id))
    assert {a.finish_reason for a in stage.answers(trial_id)} == {FinishReason.STOPPED}
    await until(lambda: (left.hung_up, right.hung_up) == (1, 1))


async def test_answers_that_nobody_ever_watched_are_stopped(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "ABANDON_AFTER_S", 0.2)
    trial_id, left, right = await stage.new_trial()
    left.script = right.script = [asyncio.Event()]
    await stage.panel.ask(ANN, trial_id, "你好")
    await until(lambda: recorded(stage, trial_id))


async def test_who_comes_back_in_time_loses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "ABANDON_AFTER_S", 0.7)
    trial_id, left, right = await stage.new_trial()
    gate = asyncio.Event()
    left.script = right.script = ["你", gate, "好"]
    await stage.panel.ask(ANN, trial_id, "你好")
    await first_text(stage, trial_id)
    watcher = asyncio.create_task(stage.watched(trial_id))
    await asyncio.sleep(0.9)
    gate.set()
    assert texts((await watcher)[-1]) == ["你好", "你好"]


async def test_one_tab_closed_doesnt_stop_what_the_other_one_watches(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial_id, left, right = await stage.new_trial()
    gate = asyncio.Event()
    left.script = right.script = ["你", gate, "好"]
    await stage.panel.ask(ANN, trial_id, "你好")
    watched = stage.panel.watch(ANN, trial_id)
    await anext(watched)
    monkeypatch.setattr(answering, "ABANDON_AFTER_S", 0.1)
    await first_text(stage, trial_id)
    await asyncio.sleep(0.3)
    gate.set()
    assert statuses([view async for view in watched][-1]) == [COMPLETE, COMPLETE]


async def test_a_tab_of_the_last_turn_shows_none_of_the_next_in_its_place(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "FLUSH_INTERVAL_S", 0.8)  # the tab looks away for long
    trial_id, left, right = await stage.new_trial()
    await stage.panel.ask(ANN, trial_id, "一")
    tab = stage.panel.watch(ANN, trial_id)
    views = [await anext(tab)]
    await until(lambda: stage.stored(trial_id).state is TrialState.RATEABLE)
    left.script = right.script = ["二", asyncio.Event()]
    await _ask_as_soon_as_possible(stage, trial_id, "再来")
    async with asyncio.timeout(10):
        views += [view async for view in tab]
    assert {view.turns[0].answers[Side.LEFT].text for view in views} <= {"", "好"}


async def _ask_as_soon_as_possible(stage: Stage, trial_id: str, prompt: str) -> None:
    for _ in range(2_000):
        with suppress(WrongState):
            await stage.panel.ask(ANN, trial_id, prompt)
            return
        await asyncio.sleep(0.005)
    pytest.fail("the trial could never be asked again")


async def test_looking_at_any_moment_finds_every_answer_in_its_turn(stage: Stage) -> None:
    """Also between the record of an answer and the end of its run, and when a turn is withdrawn."""
    trial_id, left, right = await stage.new_trial()
    ended = False

    async def look() -> int:
        looks = 0
        while not ended:
            view = await stage.panel.current(ANN)
            assert view is not None
            for turn in view.turns:
                assert all(answer.text in ("", turn.prompt) for answer in turn.answers.values())
            looks += 1
        return looks

    tabs = [asyncio.create_task(look()) for _ in range(2)]
    for prompt in "一二三":
        left.script = right.script = TOO_LONG
        await _ask_as_soon_as_possible(stage, trial_id, "长")
        await refusal(stage.watched(trial_id))
        left.script = right.script = [prompt]
        await _ask_as_soon_as_possible(stage, trial_id, prompt)
        await stage.watched(trial_id)
    ended = True
    assert min(await asyncio.gather(*tabs)) > 0
    assert [turn.prompt for turn in stage.stored(trial_id).turns] == ["一", "二", "三"]


async def test_a_trial_that_isnt_answered_gives_one_view(stage: Stage) -> None:
    trial_id, _, _ = await stage.new_trial()
    (view,) = await stage.watched(trial_id)
    assert view.turns == ()
    assert len(await stage.watched(await stage.rateable_trial(BOB), BOB)) == 1


# --- new trials -----------------------------------------------------------------------------------


async def test_a_new_trial_leaves_the_one_before_and_stops_its_answers(stage: Stage) -> None:
    trial_id, left, right = await stage.new_trial()
    left.script = right.script = ["半", asyncio.Event()]
    await stage.panel.ask(ANN, trial_id, "你好")
    await until(lambda: bool(left.requests and right.requests))
    second = await stage.panel.new_trial(ANN)
    assert (second.id != trial_id, second.turns) == (True, ())
    await until(lambda: recorded(stage, trial_id))
    assert stage.stored(trial_id).state is TrialState.ABANDONED
    assert await stage.panel.current(ANN) == second
    assert (await refusal(stage.panel.ask(ANN, trial_id, "二"))).code == "not_answering"
    assert (await refusal(stage.panel.rate(ANN, trial_id, entries()))).code == "abandoned"


async def test_an_empty_trial_is_taken_up_again_by_all_tabs(stage: Stage) -> None:
    views = await asyncio.gather(*(stage.panel.new_trial(ANN) for _ in range(5)))
    assert len({view.id for view in views}) == 1
    assert count(stage.database, Trial) == 1


async def test_after_a_rating_a_new_trial_begins_and_the_rated_one_stays(stage: Stage) -> None:
    trial_id = await stage.rateable_trial()
    await stage.panel.rate(ANN, trial_id, entries())
    second = await stage.panel.new_trial(ANN)
    assert second.id != trial_id
    assert stage.stored(trial_id).state is TrialState.REVEALED


async def test_a_view_can_be_sent_to_a_browser(stage: Stage) -> None:
    """Half a character in what a rater or a model wrote would break the page."""
    trial_id, left, _ = await stage.new_trial()
    left.script = ["半\ud83d个"]
    await stage.ask(trial_id, "半\ud83d个")
    await stage.panel.save_draft(ANN, trial_id, {"comment": "半\ud83d个"})
    view = await stage.panel.current(ANN)
    assert view is not None
    json.dumps([view.draft, texts(view), view.turns[0].prompt], ensure_ascii=False).encode()


async def test_a_trial_that_was_imported_since_takes_nobody_off_their_own(stage: Stage) -> None:
    own = await stage.rateable_trial(ANN)
    with stage.database.write() as session:
        session.add(rows.trial(rater_id=ANN.id, state=TrialState.REVEALED, flags=[]))
    current = await stage.panel.current(ANN)
    assert current is not None
    assert current.id == own
