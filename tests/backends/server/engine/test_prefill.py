"""Which prompts are on their way, and in which order they end."""

from collections.abc import Generator

import numpy as np
import pytest

from backends.server import ChatModel
from backends.server.batch import FlatBatch, Logits
from backends.server.engine.prefill import Prefills
from backends.server.engine.request import Generation
from backends.server.generation import GenerationRequest, SamplingSettings


class SlicedNetwork:
    """Computes nothing, in a slice a token: the real small ones have too few slices to look at."""

    def __init__(self) -> None:
        self.open: list[list[int]] = []
        self.most_open = 0

    def slices(self, batch: FlatBatch) -> Generator[None, None, Logits]:
        self.open.append(batch.lengths)
        self.most_open = max(self.most_open, len(self.open))
        try:
            for _ in range(sum(batch.lengths) - 1):
                yield
        finally:
            self.open.remove(batch.lengths)
        return np.zeros((len(batch.spans), 1), np.float32)


class Joining:
    """Prompts that come one after the other, and whose slices are computed."""

    def __init__(self, model: ChatModel, *, together: int = 8) -> None:
        self._model = model
        self.network = SlicedNetwork()
        self.prefills = Prefills(self.network, together)
        self.waiting: list[Generation] = []
        self.ended: list[int] = []

    def come(self, *sizes: int) -> None:
        for size in sizes:
            request = GenerationRequest((5,) * size, 1, SamplingSettings())
            self.waiting.append(Generation(self._model, request, lambda _: None))

    def compute(self, slices: int) -> None:
        for _ in range(slices):
            prefill = self.prefills.next([one for one in self.waiting if not one.over])
            if prefill is None:
                return
            if prefill.advance() is not None:
                self.waiting = [one for one in self.waiting if one not in prefill.generations]
                self.ended += [one.remaining for one in prefill.generations]

    def leave(self, size: int) -> None:
        next(one for one in self.waiting if one.remaining == size).cancel()


@pytest.fixture
def joining(chatglm: ChatModel) -> Joining:
    return Joining(chatglm)


def test_the_shortest_ends_first_and_two_at_most_are_on_their_way(joining: Joining) -> None:
    joining.come(300, 120, 200, 20, 250, 90)
    joining.compute(2000)
    assert joining.ended[0] == 20
    assert sorted(joining.ended) == [20, 90, 120, 200, 250, 300]
    assert joining.network.most_open == 2


def test_a_short_one_overtakes_long_ones_that_came_first(joining: Joining) -> None:
    joining.come(300, 301, 302)
    joining.compute(10)
    joining.come(20)
    joining.compute(30)
    assert joining.ended == [20]
    joining.compute(2000)
    assert joining.ended == [20, 300, 301, 302]
    assert joining.network.most_open == 2


def test_one_that_is_hardly_shorter_waits_and_leaves_room_to_overtake(joining: Joining) -> None:
    joining.come(300)
    joining.compute(10)
    joining.come(200)
    joining.compute(10)
    assert joining.network.open == [[300]]
    joining.come(20)
    joining.compute(10)
    assert joining.network.open == [[300], [20]]


def test_short_ones_that_keep_coming_hold_no_long_one_up(joining: Joining) -> None:
    joining.come(20)
    joining.compute(5)
    joining.come(200)
    for size in range(20, 100):
        joining.come(size % 8 + 10)
        joining.compute(11)
    assert 200 in joining.ended
    assert joining.network.most_open == 2


def test_short_ones_that_come_together_go_together(joining: Joining) -> None:
    joining.come(100, 3, 4)
    joining.compute(1)
    joining.compute(8)
    assert joining.ended == [3, 4]


def test_who_leaves_makes_room(joining: Joining) -> None:
    joining.come(300, 100)
    joining.compute(10)
    joining.come(20)
    joining.leave(100)
    joining.compute(40)
    assert joining.ended == [20]
    assert joining.network.open == [[300]]


def test_closing_ends_all(joining: Joining) -> None:
    joining.come(300, 100)
    joining.compute(10)
    joining.prefills.close()
    assert joining.network.open == []
