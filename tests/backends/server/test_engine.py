import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from backends.server import ChatModel
from backends.server.engine import Engine
from backends.server.errors import BusyError, ContextError
from backends.server.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    SamplingSettings,
    TextPiece,
)
from tests.backends.server.stepping import (
    FailingNetwork,
    no_numbers,
    out_of_memory,
    running,
)

QUESTIONS = ("你好", "The quick fox?", "It's fine", "天气", "abc", "dog", "a b c d e", "?")


@dataclass
class Listener:
    """Collects the events of one request."""

    events: list[Event] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if not isinstance(event, TextPiece):
            self.ended.set()

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextPiece))

    def finish(self) -> Finished:
        assert self.ended.wait(30)
        end = self.events[-1]
        assert isinstance(end, Finished)
        return end


def _request(
    model: ChatModel, question: str, seed: int = 1, max_tokens: int = 24, temperature: float = 1.5
) -> GenerationRequest:
    prompt = model.tokenizer.encode_chat([{"role": "user", "content": question}])
    sampling = SamplingSettings(temperature=temperature, seed=seed)
    return GenerationRequest(tuple(prompt), max_tokens, sampling)


def _ask(engine: Engine, request: GenerationRequest) -> Listener:
    listener = Listener()
    engine.submit(request, listener)
    return listener


def test_an_answer_is_what_generate_gives(model: ChatModel) -> None:
    request = _request(model, "你好", seed=7)
    with running(Engine(model)) as engine:
        listener = _ask(engine, request)
        end = listener.finish()
    new = model.generate(request.prompt_ids, 24, 1.5, seed=7)
    said = [token for token in new if token not in model.stop_ids]
    assert listener.text == model.tokenizer.answer(said)
    assert (end.prompt_tokens, end.completion_tokens) == (len(request.prompt_ids), len(said))


def test_requests_together_get_the_answers_that_they_get_alone(model: ChatModel) -> None:
    requests = [_request(model, text, seed) for seed, text in enumerate(QUESTIONS)]
    with running(Engine(model, places=8)) as engine:
        alone = []
        for request in requests:
            listener = _ask(engine, request)
            listener.finish()
            alone.append(listener.text)
        together = [_ask(engine, request) for request in requests]
        for listener in together:
            listener.finish()
    assert [listener.text for listener in together] == alone


def test_more_requests_than_places_are_all_answered(model: ChatModel) -> None:
    with running(Engine(model, places=2, queue=6)) as engine:
        listeners = [_ask(engine, _request(model, text)) for text in QUESTIONS]
        assert all(listener.finish().completion_tokens for listener in listeners)
        assert (engine.running, engine.waiting) == (0, 0)


def test_a_full_queue_says_busy_and_how_many_wait(model: ChatModel) -> None:
    engine = Engine(model, places=1, queue=2)  # nobody steps it
    for _ in range(3):
        _ask(engine, _request(model, "a"))
    with pytest.raises(BusyError, match="2 requests wait"):
        _ask(engine, _request(model, "a"))


def test_a_cancelled_request_frees_its_place_in_the_queue(model: ChatModel) -> None:
    engine = Engine(model, places=1, queue=0)
    first, second = Listener(), Listener()
    engine.submit(_request(model, "a"), first).cancel()
    engine.submit(_request(model, "a"), second)
    with running(engine):
        assert second.finish().completion_tokens > 0
    assert [event.reason for event in first.events if isinstance(event, Finished)] == ["cancelled"]
    assert first.text == ""


def test_cancelling_ends_the_answer_before_the_next_token(qwen2: ChatModel) -> None:
    listener = Listener()
    tokens_at_cancel: list[int] = []

    def cancel_at_third_piece(event: Event) -> None:
        listener(event)
        if len(listener.events) == 3:
            generation.cancel()
            tokens_at_cancel.append(generation.token_count)

    engine = Engine(qwen2)
    generation = engine.submit(_request(qwen2, "你好", max_tokens=1000), cancel_at_third_piece)
    with running(engine):
        end = listener.finish()
    assert end.reason == "cancelled"
    assert [end.completion_tokens] == tokens_at_cancel
    assert len(listener.events) == 4  # three pieces and the end


def test_others_go_on_when_one_is_cancelled(model: ChatModel) -> None:
    request = _request(model, "abc", seed=5)
    with running(Engine(model)) as engine:
        alone = _ask(engine, request)
        alone.finish()
        cancelled = engine.submit(_request(model, "你好", max_tokens=1000), Listener())
        other = _ask(engine, request)
        cancelled.cancel()
        other.finish()
    assert other.text == alone.text


def test_closing_ends_what_runs_and_what_waits(model: ChatModel) -> None:
    with running(Engine(model, places=1)) as engine:
        listeners = [_ask(engine, _request(model, "a", max_tokens=1500)) for _ in range(3)]
    assert [listener.finish().reason for listener in listeners[1:]] == ["cancelled"] * 2
    with pytest.raises(BusyError):
        _ask(engine, _request(model, "a"))


def test_the_answer_ends_at_max_tokens_with_reason_length(qwen2: ChatModel) -> None:
    with running(Engine(qwen2)) as engine:
        end = _ask(engine, _request(qwen2, "a", max_tokens=5)).finish()
    assert (end.reason, end.completion_tokens) == ("length", 5)


def test_max_tokens_is_cut_to_what_the_context_leaves(qwen2: ChatModel) -> None:
    prompt = tuple(qwen2.tokenizer.encode_text("fox " * 3000)[: qwen2.context - 4])
    request = GenerationRequest(prompt, 500, SamplingSettings(seed=1))
    with running(Engine(qwen2)) as engine:
        end = _ask(engine, request).finish()
    assert (end.reason, end.completion_tokens) == ("length", 4)


def test_a_stop_id_ends_the_answer_and_is_not_counted(chatglm: ChatModel) -> None:
    request = _request(chatglm, "你好", seed=3, max_tokens=1500, temperature=50.0)
    new = chatglm.generate(request.prompt_ids, 1500, 50.0, seed=3)
    assert new[-1] in chatglm.stop_ids
    with running(Engine(chatglm)) as engine:
        end = _ask(engine, request).finish()
    assert (end.reason, end.completion_tokens) == ("stop", len(new) - 1)


def test_a_stop_string_at_the_very_end_counts_although_it_was_held_back(
    chatglm: ChatModel,
) -> None:
    network = FailingNetwork(chatglm)
    (comma,) = chatglm.tokenizer.encode_text(",")[-1:]
    network.trouble = lambda logits: torch.zeros_like(logits).index_fill(
        1, torch.tensor([comma]), 9.0
    )
    request = replace(_request(chatglm, "a", temperature=0, max_tokens=1), stops=(",",))
    with running(Engine(replace(chatglm, network=network))) as engine:
        listener = _ask(engine, request)
        assert listener.finish().reason == "stop"
    assert listener.text == ""


def test_a_prompt_that_is_too_long_is_refused_at_once(model: ChatModel) -> None:
    request = GenerationRequest((5,) * model.context, 1, SamplingSettings())
    with pytest.raises(ContextError, match=str(model.context)):
        Engine(model).submit(request, Listener())


@pytest.mark.parametrize("trouble", [out_of_memory, no_numbers])
def test_a_failed_step_fails_its_requests_and_not_the_next(
    qwen2: ChatModel, trouble: Callable[[Tensor], Tensor]
) -> None:
    network = FailingNetwork(qwen2)
    network.trouble = trouble
    with running(Engine(replace(qwen2, network=network))) as engine:
        failed = _ask(engine, _request(qwen2, "a"))
        assert failed.ended.wait(10)
        assert isinstance(failed.events[-1], Failed)
        network.trouble = None
        assert _ask(engine, _request(qwen2, "a")).finish().reason == "length"
