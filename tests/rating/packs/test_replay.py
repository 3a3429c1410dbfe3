"""Recorded answers are given again as they came, and models of a pack have no server."""

import time

import pytest

from backends.backend import State
from backends.catalog import MODELS
from backends.client import Finish, Message, ModelUnavailable, Piece
from backends.recorded import NotRecorded
from db import Database, FinishReason, Side
from rating.packs import store
from rating.packs.replay import PackAnswers, packed_model, replay, replaying, written_recording
from rating.recordings import Recording
from rating.run import ChatModel, Event, Question, Replay, TurnRun
from tests.rating.fake_models import FakeModel
from tests.rating.packs.samples import SET, model_entry, pack


@pytest.fixture
def recorded(database: Database) -> Recording:
    taken = store.take(database, pack(), "Small")
    return store.recording(database, taken, "sum", 1, "tiny-qwen")


async def played(recording: Recording, *, at_once: bool) -> tuple[list[Event], float]:
    began = time.perf_counter()
    events = [event async for event in replay(recording, at_once=at_once)]
    return events, time.perf_counter() - began


async def test_how_it_ended_comes_first_then_the_pieces_then_the_end(recorded: Recording) -> None:
    events, _ = await played(recorded, at_once=True)
    assert [type(event) for event in events] == [Replay, Piece, Piece, Finish]
    assert events[0] == recorded.replay
    assert "".join(event.text for event in events if isinstance(event, Piece)) == "sum 1，tiny-qwen"


async def test_it_takes_its_true_time_unless_it_is_to_come_at_once() -> None:
    recording = written_recording("Four words, or so.", first_s=0.1, chars_per_s=100)
    _, took_s = await played(recording, at_once=False)
    assert 0.25 < took_s < 0.6
    _, took_s = await played(recording, at_once=True)
    assert took_s < 0.1


async def test_a_written_text_comes_whole_at_the_pace_that_is_asked_for() -> None:
    recording = written_recording("一二三四五", first_s=1.0, chars_per_s=10)
    assert recording.text == "一二三四五"
    assert [(p.text, p.elapsed_s) for p in recording.pieces] == [
        ("一二", 1.0),
        ("三四", 1.2),
        ("五", 1.4),
    ]
    assert recording.replay.finish == Finish("stop", None, None, 1.0, 1.4)


async def test_a_turn_is_answered_by_a_recording(recorded: Recording) -> None:
    model: ChatModel = packed_model(model_entry("tiny-qwen"))
    question = Question(Side.LEFT, 1, model, [], model.model.defaults)
    source = replaying(recorded, at_once=True)
    run = TurnRun([question], hidden_names=None, reference=None, source=source)
    (outcome,) = await run.run()
    assert outcome.reason is FinishReason.STOP
    assert outcome.raw_text == "sum 1，tiny-qwen"
    assert outcome.replay == recorded.replay
    assert outcome.timing.total_s == 0.0205


async def test_a_model_of_a_pack_is_ready_at_once_and_can_not_be_asked() -> None:
    model = packed_model(model_entry("tiny-qwen"))
    states = []
    for change in (model.start, model.stop, model.start):
        await change()
        states.append(model.status.state)
    assert states == [State.READY, State.STOPPED, State.READY]
    await model.wait_ready(0.0)
    with pytest.raises(ModelUnavailable):
        _ = model.endpoint


def question(model: ChatModel, *said: str) -> Question:
    """What a trial asks after these turns; the model's own words play no part."""
    messages = [Message("user", said[0])]
    for turn in said[1:]:
        messages += [Message("assistant", "something"), Message("user", turn)]
    return Question(Side.LEFT, 1, model, messages, model.model.defaults)


@pytest.fixture
def answers(database: Database) -> PackAnswers:
    return PackAnswers(database, store.take(database, pack(), "Small"), SET)


async def test_the_answer_to_a_turn_is_found_by_the_words_of_the_conversation(
    answers: PackAnswers,
) -> None:
    for key in ("tiny-qwen", "tiny-chatglm"):
        asked = question(packed_model(model_entry(key)), "我爱蓝。", " 哪种？\n")
        events = [event async for event in answers.ask(asked)]
        text = "".join(event.text for event in events if isinstance(event, Piece))
        assert text == f"color 2，{key}"
        assert isinstance(events[0], Replay)


@pytest.mark.parametrize("said", [("哪种？",), ("1 + 1?",), ("我爱蓝。", "2 + 3?"), ("",)])
async def test_what_the_pack_was_not_asked_has_no_answer(
    answers: PackAnswers, said: tuple[str, ...]
) -> None:
    asked = question(packed_model(model_entry("tiny-qwen")), *said)
    with pytest.raises(NotRecorded):
        await anext(answers.ask(asked))


async def test_a_model_of_which_the_pack_knows_nothing_has_no_answer(answers: PackAnswers) -> None:
    with pytest.raises(NotRecorded):
        await anext(
            answers.ask(question(packed_model(model_entry("tiny-qwen", key="x")), "2 + 3?"))
        )


async def test_a_model_that_runs_answers_itself(answers: PackAnswers) -> None:
    model = FakeModel("tiny-qwen")
    async with model.serving():
        events = [event async for event in answers.ask(question(model, "2 + 3?"))]
    assert [type(event) for event in events] == [Piece, Finish]
    assert model.asked == [["2 + 3?"]]


def test_a_model_of_a_pack_is_what_it_was_when_it_answered() -> None:
    entry = model_entry("tiny-qwen", precision="int8", names=("Otter",), revision="r1")
    chat_model = packed_model(entry)
    model = chat_model.model
    assert chat_model.precision == "int8"
    assert (model.key, model.title, model.revision) == ("tiny-qwen", "tiny-qwen", "r1")
    assert model.names == ("Otter",)
    assert model.builtin
    assert model.defaults == MODELS["tiny-qwen"].defaults


def test_a_model_that_nobody_knows_here_keeps_its_name() -> None:
    entry = model_entry("tiny-qwen", key="other@somewhere", title="Other", builtin=False)
    model = packed_model(entry).model
    assert (model.key, model.title, model.builtin) == ("other@somewhere", "Other", False)
