"""Twopane's own contenders, with the built-in tiny model, and the reader of memory."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from backends.server.engine import Engine
from backends.server.model import ChatModel, load_model
from benchmarks.peers.children.commands import prompt
from benchmarks.peers.children.own_engine import Conversations
from benchmarks.peers.children.own_model import OwnModel
from benchmarks.peers.children.reader import Reader
from tests.paths import TINY


@pytest.fixture(scope="module")
def model() -> ChatModel:
    return load_model(TINY / "tiny-qwen")


@pytest.fixture
def conversations(model: ChatModel) -> Iterator[Conversations]:
    engine = Engine(model)
    thread = threading.Thread(target=engine.run)
    thread.start()
    yield Conversations(engine)
    engine.close()
    thread.join()


def test_the_steps_that_are_timed_say_what_the_model_generates(model: ChatModel) -> None:
    said = OwnModel(model).greedy(6)
    ids = prompt(32, model.network.vocab_size)
    for number, token in enumerate(said):
        assert model.logits([*ids, *said[:number]])[-1].argmax() == token


def test_a_chatglms_prompt_ends_where_its_answer_begins() -> None:
    model = load_model(TINY / "tiny-chatglm")
    seconds = OwnModel(model).prefill(16)
    assert 0 < seconds < 60


def test_times_and_speeds_are_positive(model: ChatModel, conversations: Conversations) -> None:
    own = OwnModel(model)
    assert own.prefill(8) > 0
    assert own.decode(4) > 0
    assert conversations.crowd(3, 4) > 0


def test_a_turn_comes_after_all_those_before_it(conversations: Conversations) -> None:
    conversations.turn(1, 10)
    conversations.turn(3, 10)
    assert conversations.tokens == 30
    conversations.turn(1, 10)
    assert conversations.tokens == 10


def test_a_reader_reads_all_of_its_part() -> None:
    reader = Reader(threads=2, size=2**16)
    reader.numbers[:] = np.random.default_rng(1).integers(0, 2**63, len(reader.numbers))
    halves = np.split(reader.numbers, 2)
    assert [reader.folded(start, 2**15) for start in (0, 2**15)] == [
        int(np.bitwise_xor.reduce(half)) for half in halves
    ]


@pytest.mark.parametrize("megabytes", [1, 1000])
def test_a_reader_has_the_speed_of_what_it_has_read(megabytes: int) -> None:
    assert 0.01 < Reader(threads=2, size=2**22).read(megabytes) < 2000
