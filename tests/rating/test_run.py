import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Never

import pytest

from backends.client import Endpoint, Message, Sampling
from db import FinishReason, Side
from rating.blinding import MASK
from rating.run import Outcome, Question, TurnRun
from rating.trial import AnswerStatus, AnswerView
from tests.rating.conftest import Stage, until
from tests.rating.fake_models import BUSY, DIE, TOO_LONG, FakeModel, Refusal, Script, spoken

NAMES = ["Qwen", "ChatGLM"]
Frame = Mapping[Side, AnswerView]


@pytest.fixture
async def models(stage: Stage) -> dict[Side, FakeModel]:
    return dict(zip(Side, stage.models.values(), strict=True))


def run_of(models: Mapping[Side, FakeModel], *, blind: bool = True) -> TurnRun:
    questions = [
        Question(side, number, model, [Message("user", "秘密的问题")], Sampling(seed=1))
        for number, (side, model) in enumerate(models.items())
    ]
    return TurnRun(questions, hidden_names=NAMES if blind else None, reference=None)


async def finished(run: TurnRun) -> dict[Side, Outcome]:
    return {outcome.side: outcome for outcome in await run.run()}


async def filmed(run: TurnRun) -> tuple[dict[Side, Outcome], list[Frame]]:
    """Run to the end and keep what could be seen meanwhile."""
    task, frames = asyncio.create_task(finished(run)), [run.answers()]
    while not task.done():
        await asyncio.sleep(0.02)
        frames.append(run.answers())
    return task.result(), frames


async def test_both_answers_are_whole_and_truly_timed(models: dict[Side, FakeModel]) -> None:
    models[Side.LEFT].script = ["春", "眠"]
    models[Side.RIGHT].script = [0.3, "不觉晓"]
    models[Side.RIGHT].finish = "length"
    outcomes = await finished(run_of(models))
    left, right = (outcomes[side] for side in Side)
    assert (left.text, left.raw_text, left.reason) == ("春眠", "春眠", FinishReason.STOP)
    assert (right.text, right.raw_text, right.reason) == (*("不觉晓",) * 2, FinishReason.LENGTH)
    assert (left.error, right.error) == (None, None)
    assert (left.timing.prompt_tokens, left.timing.completion_tokens) == (7, 2)
    assert right.timing.first_token_s is not None
    assert right.timing.total_s is not None
    assert 0.3 <= right.timing.first_token_s <= right.timing.total_s


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (["半", DIE], "unavailable"),
        ([DIE], "unavailable"),
        (BUSY, "busy"),
        (Refusal(503, "overloaded"), "busy"),
        (Refusal(503, "loading"), "unavailable"),
        (Refusal(502, "bad_gateway"), "unavailable"),
        (Refusal(500, "internal_error"), "bad_answer"),
        (Refusal(401, "invalid_api_key"), "bad_answer"),
        ([], "empty"),
        ([" ", "\n\t", "\u3000"], "empty"),
    ],
)
async def test_a_side_that_fails_says_so_and_the_other_one_goes_on(
    models: dict[Side, FakeModel], script: Script, code: str
) -> None:
    models[Side.LEFT].script = script
    models[Side.RIGHT].script = ["春", 0.2, "眠"]
    outcomes = await finished(run_of(models))
    assert (outcomes[Side.LEFT].reason, outcomes[Side.LEFT].error) == (FinishReason.FAILED, code)
    assert (outcomes[Side.RIGHT].reason, outcomes[Side.RIGHT].text) == (FinishReason.STOP, "春眠")


async def test_a_model_that_isnt_there_fails_its_side(models: dict[Side, FakeModel]) -> None:
    models[Side.RIGHT].up = False
    outcomes = await finished(run_of(models))
    assert outcomes[Side.RIGHT].error == "unavailable"
    assert outcomes[Side.RIGHT].timing.prompt_tokens is None
    assert outcomes[Side.LEFT].reason is FinishReason.STOP


class _Broken(FakeModel):
    """A chat model with a defect of its own, which no BackendError tells of."""

    @property
    def endpoint(self) -> Endpoint:
        return self._explode()

    def _explode(self) -> Never:
        raise RuntimeError("a defect")


async def test_even_an_unforeseen_error_ends_its_side(
    models: dict[Side, FakeModel], caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = await finished(run_of({**models, Side.LEFT: _Broken("tiny-qwen")}))
    assert (outcomes[Side.LEFT].reason, outcomes[Side.LEFT].error) == (
        FinishReason.FAILED,
        "bad_answer",
    )
    assert outcomes[Side.RIGHT].reason is FinishReason.STOP
    assert "a defect" in caplog.text


async def test_names_are_masked_on_the_screen_and_kept_raw(models: dict[Side, FakeModel]) -> None:
    models[Side.LEFT].script = ["我是Q", "we", "n。"]
    models[Side.RIGHT].script = ["我是", "模型。"]
    outcomes, frames = await filmed(run_of(models))
    assert outcomes[Side.LEFT].text == f"我是{MASK}。"
    assert outcomes[Side.LEFT].raw_text == "我是Qwen。"
    assert [outcomes[side].masked for side in Side] == [True, False]
    assert not any("Q" in frame[Side.LEFT].text for frame in frames)


async def test_an_open_run_masks_nothing_and_shows_live_times(
    models: dict[Side, FakeModel],
) -> None:
    models[Side.LEFT].script = ["我是", 0.3, "Qwen。"]
    models[Side.RIGHT].script = ["早。"]
    outcomes, frames = await filmed(run_of(models, blind=False))
    assert outcomes[Side.LEFT].text == outcomes[Side.LEFT].raw_text == "我是Qwen。"
    assert not outcomes[Side.LEFT].masked
    assert all(frame[side].timing is not None for frame in frames for side in Side)
    early = [f for f in frames if f[Side.LEFT].text == "我是" and f[Side.RIGHT].text]
    assert early[-1][Side.LEFT].status is AnswerStatus.STREAMING
    assert early[-1][Side.RIGHT].status is AnswerStatus.COMPLETE
    timing = early[-1][Side.LEFT].timing
    assert timing is not None
    assert timing.completion_tokens == 1


async def test_a_blind_side_that_is_done_looks_as_if_it_were_not(
    models: dict[Side, FakeModel],
) -> None:
    models[Side.RIGHT].script = ["等", 0.3, "等"]
    _, frames = await filmed(run_of(models))
    assert {view.status for frame in frames for view in frame.values()} == {AnswerStatus.STREAMING}
    assert {view.timing for frame in frames for view in frame.values()} == {None}


async def test_a_fast_side_shows_no_more_than_the_slow_one(models: dict[Side, FakeModel]) -> None:
    models[Side.LEFT].script = ["快" * 15]
    models[Side.RIGHT].script = [0.2, *spoken("慢" * 12, 0.05)]
    outcomes, frames = await filmed(run_of(models))
    lengths = [tuple(len(frame[side].text) for side in Side) for frame in frames]
    assert all(left == right or min(left, right) == 12 for left, right in lengths)
    assert lengths == sorted(lengths)
    assert lengths[-1] == (15, 12)
    assert outcomes[Side.LEFT].text == "快" * 15


async def test_a_stopped_side_keeps_what_was_shown_and_what_was_written(
    models: dict[Side, FakeModel],
) -> None:
    models[Side.LEFT].script = ["快" * 500, asyncio.Event()]
    models[Side.RIGHT].script = [*spoken("慢" * 5, 0.05), asyncio.Event()]
    run = run_of(models)
    task = asyncio.create_task(finished(run))
    await until(lambda: len(run.answers()[Side.RIGHT].text) >= 2)
    run.stop()
    shown = run.answers()
    outcomes = await task
    for side in Side:
        assert shown[side].status is AnswerStatus.STOPPED
        assert outcomes[side].reason is FinishReason.STOPPED
        assert outcomes[side].text == shown[side].text
    assert len(outcomes[Side.LEFT].text) == len(outcomes[Side.RIGHT].text) <= 5
    assert outcomes[Side.LEFT].raw_text == "快" * 500
    await until(lambda: all(model.hung_up == 1 for model in models.values()))


async def test_a_fast_side_is_stopped_where_it_was_shown_even_if_it_is_written_to_its_end(
    models: dict[Side, FakeModel],
) -> None:
    models[Side.LEFT].script = ["快" * 500]
    models[Side.RIGHT].script = ["慢慢", asyncio.Event()]
    run = run_of(models)
    task = asyncio.create_task(finished(run))
    await until(lambda: run.answers()[Side.RIGHT].text == "慢慢")
    run.stop()
    outcomes = await task
    assert {outcome.reason for outcome in outcomes.values()} == {FinishReason.STOPPED}
    assert outcomes[Side.LEFT].text == "快快"
    assert outcomes[Side.LEFT].raw_text == "快" * 500


async def test_a_side_that_is_wholly_on_the_screen_stays_complete_when_the_other_is_stopped(
    models: dict[Side, FakeModel],
) -> None:
    models[Side.LEFT].script = ["短"]
    models[Side.RIGHT].script = ["长长", asyncio.Event()]
    run = run_of(models)
    task = asyncio.create_task(finished(run))
    await until(lambda: run.answers()[Side.RIGHT].text == "长长")
    run.stop()
    outcomes = await task
    assert [outcomes[side].reason for side in Side] == [FinishReason.STOP, FinishReason.STOPPED]


async def test_a_name_in_the_making_is_not_shown_by_stopping(models: dict[Side, FakeModel]) -> None:
    for model in models.values():
        model.script = ["我是Qwe", asyncio.Event()]
    run = run_of(models)
    task = asyncio.create_task(finished(run))
    await until(lambda: run.answers()[Side.LEFT].text == "我是")
    run.stop()
    outcomes = await task
    assert outcomes[Side.LEFT].text == "我是"
    assert outcomes[Side.LEFT].raw_text == "我是Qwe"


async def test_a_run_stopped_before_it_begins_asks_nobody(models: dict[Side, FakeModel]) -> None:
    run = run_of(models)
    run.stop()
    outcomes = await finished(run)
    assert {outcome.reason for outcome in outcomes.values()} == {FinishReason.STOPPED}
    assert [model.requests for model in models.values()] == [[], []]


async def test_stopping_twice_or_after_the_end_changes_nothing(
    models: dict[Side, FakeModel],
) -> None:
    run = run_of(models)
    outcomes = await finished(run)
    run.stop()
    run.stop()
    assert {view.status for view in run.answers().values()} == {AnswerStatus.STREAMING}
    assert {outcome.reason for outcome in outcomes.values()} == {FinishReason.STOP}


async def test_stopping_leaves_a_failed_side_failed(models: dict[Side, FakeModel]) -> None:
    models[Side.LEFT].script = BUSY
    models[Side.RIGHT].script = [asyncio.Event()]
    run = run_of(models)
    task = asyncio.create_task(finished(run))
    await until(lambda: run.answers()[Side.LEFT].status is AnswerStatus.FAILED)
    run.stop()
    outcomes = await task
    assert [outcomes[side].reason for side in Side] == [FinishReason.FAILED, FinishReason.STOPPED]
    assert outcomes[Side.LEFT].error == "busy"


async def test_an_open_side_that_is_complete_stays_so_when_the_other_is_stopped(
    models: dict[Side, FakeModel],
) -> None:
    models[Side.RIGHT].script = ["等", asyncio.Event()]
    run = run_of(models, blind=False)
    task = asyncio.create_task(finished(run))
    await until(lambda: run.answers()[Side.LEFT].status is AnswerStatus.COMPLETE)
    run.stop()
    outcomes = await task
    assert [outcomes[side].reason for side in Side] == [FinishReason.STOP, FinishReason.STOPPED]


async def test_a_prompt_too_long_for_one_model_tells_nothing_of_which(
    models: dict[Side, FakeModel],
) -> None:
    models[Side.LEFT].script = ["说了", 0.1, "很多", asyncio.Event()]
    models[Side.RIGHT].script = TOO_LONG
    run = run_of(models)
    outcomes, frames = await filmed(run)
    assert run.too_long
    assert all(frame[Side.LEFT] == frame[Side.RIGHT] for frame in frames)
    assert all(frame[Side.LEFT].error is None for frame in frames)
    assert outcomes[Side.RIGHT].error == "too_long"


async def test_one_side_alone_can_be_asked(models: dict[Side, FakeModel]) -> None:
    outcomes = await finished(run_of({Side.RIGHT: models[Side.RIGHT]}))
    assert list(outcomes) == [Side.RIGHT]
    assert outcomes[Side.RIGHT].text == "好"


async def test_neither_prompt_nor_answer_is_logged(
    models: dict[Side, FakeModel], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    models[Side.LEFT].script = ["秘密的回答", DIE]
    await finished(run_of(models))
    assert "left side failed" in caplog.text
    assert "秘密" not in caplog.text


async def test_each_model_gets_its_own_messages_and_settings(
    models: dict[Side, FakeModel],
) -> None:
    def question(side: Side, messages: Sequence[Message]) -> Question:
        return Question(side, 0, models[side], messages, replace(Sampling(), seed=len(messages)))

    first, more = Message("user", "一"), [Message("assistant", "二"), Message("user", "三")]
    run = TurnRun(
        [question(Side.LEFT, [first]), question(Side.RIGHT, [first, *more])],
        hidden_names=[],
        reference=None,
    )
    await finished(run)
    assert models[Side.LEFT].asked == [["一"]]
    assert models[Side.RIGHT].asked == [["一", "二", "三"]]
    assert [models[side].requests[0]["seed"] for side in Side] == [1, 3]
