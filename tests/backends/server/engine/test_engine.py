import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.server import ChatModel
from backends.server.batch import Logits
from backends.server.eager.kv_cache import TorchCache
from backends.server.engine import Engine
from backends.server.engine.request import Generation
from backends.server.errors import BusyError, ContextError, SequenceError
from backends.server.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    SamplingSettings,
    TextPiece,
    Waiting,
)
from tests.backends.server.stepping import (
    Listener,
    WatchedNetwork,
    ask,
    no_numbers,
    out_of_memory,
    panic,
    request_for,
    running,
)

LONG = "The quick brown fox? It's fine, 你好. " * 40
SHORT = "dog"
QUESTIONS = ("你好", "The quick fox?", "It's fine", "天气", "abc", "dog", "a b c d e", "?")


def test_an_answer_is_what_generate_gives(model: ChatModel) -> None:
    request = request_for(model, "你好", seed=7)
    with running(Engine(model)) as engine:
        listener = ask(engine, request)
        end = listener.finish()
    new = model.generate(request.prompt_ids, 24, 1.5, seed=7)
    said = [token for token in new if token not in model.stop_ids]
    assert listener.text == model.tokenizer.answer(said)
    assert (end.prompt_tokens, end.completion_tokens) == (len(request.prompt_ids), len(said))


def test_requests_together_get_the_answers_that_they_get_alone(model: ChatModel) -> None:
    requests = [request_for(model, text, seed) for seed, text in enumerate(QUESTIONS)]
    with running(Engine(model, places=8)) as engine:
        alone = []
        for request in requests:
            listener = ask(engine, request)
            listener.finish()
            alone.append(listener.text)
        together = [ask(engine, request) for request in requests]
        for listener in together:
            listener.finish()
    assert [listener.text for listener in together] == alone


def test_more_requests_than_places_are_all_answered(model: ChatModel) -> None:
    with running(Engine(model, places=2, queue=6)) as engine:
        listeners = [ask(engine, request_for(model, text)) for text in QUESTIONS]
        assert all(listener.finish().completion_tokens for listener in listeners)
        assert (engine.running, engine.waiting) == (0, 0)


def test_a_full_queue_says_busy_and_how_many_are_before(model: ChatModel) -> None:
    engine = Engine(model, places=1, queue=2)  # nobody steps it
    for _ in range(3):
        ask(engine, request_for(model, "a"))
    with pytest.raises(BusyError, match="busy, 3 before you: 1 being answered, 2 waiting"):
        ask(engine, request_for(model, "a"))


def test_a_cancelled_request_frees_its_place_in_the_queue(model: ChatModel) -> None:
    engine = Engine(model, places=1, queue=0)
    first, second = Listener(), Listener()
    engine.submit(request_for(model, "a"), first).cancel()
    engine.submit(request_for(model, "a"), second)
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
    generation = engine.submit(request_for(qwen2, "你好", max_tokens=1000), cancel_at_third_piece)
    with running(engine):
        end = listener.finish()
    assert end.reason == "cancelled"
    assert [end.completion_tokens] == tokens_at_cancel
    assert len(listener.events) == 4  # three pieces and the end


def test_others_go_on_when_one_is_cancelled(model: ChatModel) -> None:
    request = request_for(model, "abc", seed=5)
    with running(Engine(model)) as engine:
        alone = ask(engine, request)
        alone.finish()
        cancelled = engine.submit(request_for(model, "你好", max_tokens=1000), Listener())
        other = ask(engine, request)
        cancelled.cancel()
        other.finish()
    assert other.text == alone.text


def test_closing_ends_what_runs_and_what_waits(model: ChatModel) -> None:
    with running(Engine(model, places=1)) as engine:
        listeners = [ask(engine, request_for(model, "a", max_tokens=1500)) for _ in range(3)]
    assert [listener.finish().reason for listener in listeners[1:]] == ["cancelled"] * 2
    with pytest.raises(BusyError):
        ask(engine, request_for(model, "a"))


def test_the_answer_ends_at_max_tokens_with_reason_length(qwen2: ChatModel) -> None:
    with running(Engine(qwen2)) as engine:
        end = ask(engine, request_for(qwen2, "a", max_tokens=5)).finish()
    assert (end.reason, end.completion_tokens) == ("length", 5)


def test_max_tokens_is_cut_to_what_the_context_leaves(qwen2: ChatModel) -> None:
    prompt = tuple(qwen2.tokenizer.encode_text("fox " * 3000)[: qwen2.context - 4])
    request = GenerationRequest(prompt, 500, SamplingSettings(seed=1))
    with running(Engine(qwen2)) as engine:
        end = ask(engine, request).finish()
    assert (end.reason, end.completion_tokens) == ("length", 4)


def test_a_stop_id_ends_the_answer_and_is_not_counted(chatglm: ChatModel) -> None:
    request = request_for(chatglm, "你好", seed=31, max_tokens=200, temperature=50.0)
    new = chatglm.generate(request.prompt_ids, 200, 50.0, seed=31)
    assert new[-1] in chatglm.stop_ids
    with running(Engine(chatglm)) as engine:
        end = ask(engine, request).finish()
    assert (end.reason, end.completion_tokens) == ("stop", len(new) - 1)


def test_a_stop_string_at_the_very_end_counts_although_it_was_held_back(
    chatglm: ChatModel,
) -> None:
    network = WatchedNetwork(chatglm)
    (comma,) = chatglm.tokenizer.encode_text(",")[-1:]
    network.trouble_in_slices = lambda logits: np.eye(logits.shape[1], dtype=np.float32)[[comma]]
    request = replace(request_for(chatglm, "a", temperature=0, max_tokens=1), stops=(",",))
    with running(Engine(replace(chatglm, network=network))) as engine:
        listener = ask(engine, request)
        assert listener.finish().reason == "stop"
    assert listener.text == ""


def test_a_prompt_that_is_too_long_is_refused_at_once(model: ChatModel) -> None:
    request = GenerationRequest((5,) * model.context, 1, SamplingSettings())
    with pytest.raises(ContextError, match=str(model.context)):
        Engine(model).submit(request, Listener())


def test_ids_that_the_network_does_not_know_are_refused_at_once(model: ChatModel) -> None:
    rows = model.network.vocab_size
    engine = Engine(model)
    for strange in (rows, -1):
        request = GenerationRequest((5, strange, 5), 1, SamplingSettings())
        with pytest.raises(SequenceError, match=f"the token {strange}.* 0 to {rows - 1}"):
            engine.submit(request, Listener())
    with pytest.raises(SequenceError, match="no tokens"):
        engine.submit(GenerationRequest((), 1, SamplingSettings()), Listener())
    assert engine.waiting == 0


@pytest.mark.parametrize("trouble", [out_of_memory, no_numbers, panic])
def test_a_failed_step_fails_its_requests_and_not_the_next(
    qwen2: ChatModel, trouble: Callable[[Logits], Logits]
) -> None:
    network = WatchedNetwork(qwen2)
    network.trouble = trouble
    with running(Engine(replace(qwen2, network=network))) as engine:
        failed = ask(engine, request_for(qwen2, "a"))
        assert failed.ended.wait(10)
        assert isinstance(failed.events[-1], Failed)
        network.trouble = None
        assert ask(engine, request_for(qwen2, "a")).finish().reason == "length"


def test_an_answer_that_can_not_be_kept_ends_as_any_other(
    qwen2: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(TorchCache, "prefix", no_room)
    request = request_for(qwen2, LONG[:200])
    with running(Engine(qwen2, cache_bytes=30_000)) as engine:  # room for a part of it
        for _ in range(2):
            assert ask(engine, request).finish().reason == "length"


def test_where_torch_has_no_memory_what_was_kept_is_given_back(qwen2: ChatModel) -> None:
    def allocate(_logits: Logits) -> Logits:
        return cast(Logits, torch.empty(2**60))

    engine, network = _watched(qwen2)
    with running(engine):
        ask(engine, request_for(qwen2, LONG[:90])).finish()
        assert engine.prefix_stats.kept_bytes > 0
        network.trouble = allocate
        assert ask(engine, request_for(qwen2, "a")).ended.wait(10)
        _until(lambda: engine.prefix_stats.kept_bytes == 0)


def test_text_that_can_not_be_shown_fails_its_request_alone(qwen2: ChatModel) -> None:
    def refuse(event: Event) -> None:
        heard.append(event)
        if isinstance(event, TextPiece):
            raise RuntimeError("The one who listens is in trouble.")

    heard: list[Event] = []
    request = request_for(qwen2, "abc", seed=5)
    with running(Engine(qwen2)) as engine:
        alone = ask(engine, request)
        alone.finish()
        engine.submit(request_for(qwen2, "你好"), refuse)
        other = ask(engine, request)
        other.finish()
    assert other.text == alone.text
    assert isinstance(heard[-1], Failed)


# --- prompts that join --------------------------------------------------------------------------


def _watched(model: ChatModel, **more: int) -> tuple[Engine, WatchedNetwork]:
    network = WatchedNetwork(model)
    return Engine(replace(model, network=network), **more), network


def _until(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


@pytest.fixture(params=["qwen2", "llama", "gpt2"])
def causal(request: pytest.FixtureRequest) -> ChatModel:
    loaded: ChatModel = request.getfixturevalue(request.param)
    return loaded


def test_a_stream_gets_a_token_with_every_chunk_of_anothers_long_prompt(causal: ChatModel) -> None:
    engine, network = _watched(causal, chunk=64)
    request = request_for(causal, LONG, max_tokens=1)
    with running(engine):
        stream = engine.submit(request_for(causal, SHORT, max_tokens=1500), Listener())
        _until(lambda: stream.token_count > 2)
        ask(engine, request).finish()
        stream.cancel()
    joining = [lengths for lengths in network.batches[1:] if lengths != [1]]
    reused = engine.prefix_stats.reused_tokens
    assert sum(count for _, count in joining) == len(request.prompt_ids) - reused > 400
    assert {own for own, _ in joining} == {1}
    assert max(count for _, count in joining) == 64


def test_a_stream_gets_a_token_between_two_slices_of_anothers_long_prompt(
    chatglm: ChatModel,
) -> None:
    engine, network = _watched(chatglm)
    network.slice_pause_s = 0.05  # longer than a step, as with a large network
    with running(engine):
        stream = engine.submit(request_for(chatglm, SHORT, max_tokens=1500), Listener())
        _until(lambda: stream.token_count > 2)
        first = len(network.slice_steps)
        ask(engine, request_for(chatglm, LONG, max_tokens=1)).finish()
        stream.cancel()
    slices = network.slice_steps[first:]
    assert len(slices) > 2
    assert np.diff(slices).min() >= 1  # a step of the others


def test_slices_take_turns_with_the_steps_of_others_by_time(chatglm: ChatModel) -> None:
    engine, network = _watched(chatglm)
    network.step_pause_s = 0.05
    with running(engine):
        stream = engine.submit(request_for(chatglm, SHORT, max_tokens=1500), Listener())
        _until(lambda: stream.token_count > 2)
        first = len(network.slice_steps)
        ask(engine, request_for(chatglm, "天气", max_tokens=1)).finish()
        stream.cancel()
    assert len(network.slice_steps) - first > 2
    assert len(set(network.slice_steps[first:])) == 1  # all of them fit beside one step


def test_a_short_prompt_is_answered_before_a_long_one_that_came_first(model: ChatModel) -> None:
    engine, _ = _watched(model, chunk=64)
    order: list[str] = []

    def heard(name: str) -> Callable[[Event], None]:
        return lambda event: order.append(name) if isinstance(event, TextPiece) else None

    engine.submit(request_for(model, LONG, max_tokens=8), heard("long"))
    engine.submit(request_for(model, SHORT, max_tokens=8), heard("short"))
    with running(engine):
        ask(engine, request_for(model, LONG, max_tokens=8)).finish()
    assert order[0] == "short"
    assert "long" in order


def test_short_prompts_that_come_together_are_computed_together(model: ChatModel) -> None:
    engine, network = _watched(model, chunk=1000)
    requests = [request_for(model, text, max_tokens=2) for text in QUESTIONS]
    listeners = [ask(engine, request) for request in requests]
    with running(engine):
        for listener in listeners:
            listener.finish()
    assert sorted(network.batches[0]) == sorted(len(request.prompt_ids) for request in requests)


def test_many_threads_may_ask_at_once(model: ChatModel) -> None:
    requests = [request_for(model, text, seed) for seed, text in enumerate(QUESTIONS * 4)]
    with running(Engine(model, queue=32)) as engine, ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda request: ask(engine, request), requests))
        for listener in together:
            listener.finish()
        alone = []
        for request in requests:
            alone.append(ask(engine, request))
            alone[-1].finish()
    assert [listener.text for listener in together] == [listener.text for listener in alone]


def test_asking_and_looking_do_not_wait_for_the_step_that_runs(qwen2: ChatModel) -> None:
    engine, network = _watched(qwen2)
    listeners: list[Listener] = []

    def ask_from_elsewhere() -> None:
        if network.steps == 3:
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(ask, engine, request_for(qwen2, SHORT))
                listeners.append(asked.result(timeout=5))
                assert pool.submit(lambda: engine.waiting).result(timeout=5) == 1

    network.before = ask_from_elsewhere
    with running(engine):
        assert ask(engine, request_for(qwen2, "a")).finish().reason == "length"
        assert listeners[0].finish().reason == "length"


def test_who_waits_hears_how_many_are_before(qwen2: ChatModel) -> None:
    engine = Engine(qwen2, places=1, queue=2)
    listeners = [ask(engine, request_for(qwen2, text)) for text in ("a", "b", "c")]
    with running(engine):
        for listener in listeners:
            listener.finish()
    heard = [[e.before for e in one.events if isinstance(e, Waiting)] for one in listeners]
    assert heard == [[], [1], [2, 1]]


# --- leaving ------------------------------------------------------------------------------------


def test_cancelling_a_prompt_half_way_ends_it_within_a_step(causal: ChatModel) -> None:
    engine, network = _watched(causal, chunk=16, places=1, queue=0)
    listener, next_one = Listener(), Listener()
    generation = engine.submit(request_for(causal, LONG), listener)
    network.before = lambda: generation.cancel() if network.steps == 5 else None
    with running(engine):
        assert listener.finish().reason == "cancelled"
        assert network.steps == 6
        engine.submit(request_for(causal, SHORT), next_one)
        assert next_one.finish().completion_tokens > 0


def test_cancelling_between_two_slices_closes_the_computation(chatglm: ChatModel) -> None:
    request = request_for(chatglm, LONG, seed=5)
    with running(Engine(chatglm)) as engine:
        alone = ask(engine, request)
        alone.finish()
    engine, network = _watched(chatglm, places=1, queue=0)
    listener = Listener()
    generation = engine.submit(request, listener)
    network.before = lambda: generation.cancel() if len(network.slice_steps) == 2 else None
    with running(engine):
        assert listener.finish().reason == "cancelled"
        again = ask(engine, request)
        again.finish()
    assert network.closed == 1
    assert again.text == alone.text  # nothing of the half prompt was built upon


def test_no_more_slices_are_computed_for_one_who_has_left(chatglm: ChatModel) -> None:
    engine, network = _watched(chatglm)
    network.step_pause_s = 0.1  # time enough for many slices
    with running(engine):
        stream = engine.submit(request_for(chatglm, SHORT, max_tokens=1500), Listener())
        _until(lambda: stream.token_count > 0)
        first, listener = len(network.slice_steps), Listener()
        generation = engine.submit(request_for(chatglm, LONG), listener)
        network.before = lambda: (
            generation.cancel() if len(network.slice_steps) == first + 1 else None
        )
        assert listener.finish().reason == "cancelled"
        stream.cancel()
    assert len(network.slice_steps) == first + 2


def test_cancelling_one_of_two_prompts_in_a_slice_leaves_the_other(chatglm: ChatModel) -> None:
    request = request_for(chatglm, "abc", seed=5)
    with running(Engine(chatglm)) as engine:
        alone = ask(engine, request)
        alone.finish()
    engine, network = _watched(chatglm)
    cancelled = Listener()
    generation = engine.submit(request_for(chatglm, "你好"), cancelled)
    other = ask(engine, request)
    network.before = lambda: generation.cancel() if len(network.slice_steps) == 2 else None
    with running(engine):
        other.finish()
    assert other.text == alone.text
    assert cancelled.finish().reason == "cancelled"
    assert cancelled.text == ""
    assert network.closed == 0


def test_nothing_is_said_after_a_cancel_during_a_step(qwen2: ChatModel) -> None:
    engine, network = _watched(qwen2)
    listener = Listener()
    generation = engine.submit(request_for(qwen2, "你好", max_tokens=1000), listener)
    said: list[int] = []

    def cancel() -> None:
        if network.steps == 9:
            generation.cancel()
            said.append(len(listener.events))

    network.before = cancel
    with running(engine):
        assert listener.finish().reason == "cancelled"
    assert len(listener.events) == said[0] + 1


def test_an_ended_answer_has_freed_its_place_when_it_says_so(qwen2: ChatModel) -> None:
    engine = Engine(qwen2, places=1, queue=0)
    with running(engine):
        for _ in range(20):
            ask(engine, request_for(qwen2, "a", max_tokens=2)).finish()


# --- failing ------------------------------------------------------------------------------------


def test_a_prompt_that_fails_in_slices_leaves_others_their_answers(chatglm: ChatModel) -> None:
    request = request_for(chatglm, "abc", seed=5, max_tokens=60)
    with running(Engine(chatglm)) as engine:
        alone = ask(engine, request)
        alone.finish()
    engine, network = _watched(chatglm)
    other = Listener()
    generation = engine.submit(request, other)
    with running(engine):
        _until(lambda: generation.token_count > 2)
        network.trouble_in_slices = out_of_memory
        failed = ask(engine, request_for(chatglm, LONG))
        assert failed.ended.wait(10)
        other.finish()
    assert isinstance(failed.events[-1], Failed)
    assert other.text == alone.text


def test_a_failed_answer_is_not_built_upon_and_what_was_kept_before_is(qwen2: ChatModel) -> None:
    def fail(_logits: Logits) -> Logits:
        raise RuntimeError("This one can't be computed.")

    kept, failing = request_for(qwen2, LONG[:90]), request_for(qwen2, LONG[5:95])
    with running(Engine(qwen2)) as engine:
        alone = ask(engine, failing)
        alone.finish()
    engine, network = _watched(qwen2)
    with running(engine):
        ask(engine, kept).finish()
        network.trouble = fail
        assert ask(engine, failing).ended.wait(10)
        network.trouble = None
        assert engine.prefix_stats.sequences == 1
        before = network.tokens
        ask(engine, replace(kept, max_tokens=1)).finish()
        assert network.tokens - before == 1
        again = ask(engine, failing)
        again.finish()
    assert again.text == alone.text


def test_running_out_of_memory_gives_back_what_was_kept_for_later(qwen2: ChatModel) -> None:
    engine, network = _watched(qwen2)
    with running(engine):
        ask(engine, request_for(qwen2, LONG)).finish()
        assert engine.prefix_stats.kept_bytes > 0
        network.trouble = out_of_memory
        assert ask(engine, request_for(qwen2, SHORT)).ended.wait(10)
    assert engine.prefix_stats.kept_bytes == 0


# --- conversations ------------------------------------------------------------------------------


def _conversation(
    model: ChatModel, engine: Engine, seed: int, turns: int = 4
) -> list[tuple[GenerationRequest, str]]:
    """Each turn's request and answer; the answer goes into the next prompt as it was shown."""
    said: list[dict[str, str]] = [{"role": "system", "content": "Be brief, and kind to animals."}]
    asked = []
    for turn in range(turns):
        said.append({"role": "user", "content": f"{turn}: {QUESTIONS[turn]} {QUESTIONS[-turn]}"})
        prompt = model.tokenizer.encode_chat(said)
        sampling = SamplingSettings(temperature=1.3, seed=seed + turn)
        request = GenerationRequest(tuple(prompt), 30, sampling)
        listener = ask(engine, request)
        listener.finish()
        said.append({"role": "assistant", "content": listener.text})
        asked.append((request, listener.text))
    return asked


def test_a_conversation_gets_the_answers_that_it_gets_without_reuse(model: ChatModel) -> None:
    with running(Engine(model, cache_bytes=0)) as engine:
        without = [_conversation(model, engine, seed) for seed in (1, 2)]
        assert engine.prefix_stats.hits == 0
    with running(Engine(model, chunk=24)) as engine:
        reused = [_conversation(model, engine, seed) for seed in (1, 2)]
        again = [_conversation(model, engine, seed) for seed in (1, 2)]
        assert engine.prefix_stats.hits >= 8
    assert reused == again == without


def test_two_conversations_in_turn_do_not_take_each_others_caches(causal: ChatModel) -> None:
    with running(Engine(causal)) as engine, ThreadPoolExecutor(2) as pool:
        alone = [_conversation(causal, engine, seed) for seed in (1, 2)]
    with running(Engine(causal)) as engine, ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda seed: _conversation(causal, engine, seed), (1, 2)))
    assert together == alone


def test_a_turn_computes_only_what_is_new(causal: ChatModel) -> None:
    engine, network = _watched(causal)
    with running(engine):
        said = [{"role": "user", "content": LONG[:200]}]
        known = 0
        for turn in range(3):
            prompt = tuple(causal.tokenizer.encode_chat(said))
            before, reused = network.tokens, engine.prefix_stats.reused_tokens
            end = ask(engine, GenerationRequest(prompt, 20, SamplingSettings(seed=turn))).finish()
            reused = engine.prefix_stats.reused_tokens - reused
            generated = end.completion_tokens + (end.reason == "stop")
            assert network.tokens - before == len(prompt) - reused + generated - 1
            assert reused >= known
            # All up to the answer: its text may be encoded in another way, as it is here.
            known = len(prompt) - 3
            said += [{"role": "assistant", "content": "dog"}, {"role": "user", "content": SHORT}]


def test_an_answer_asked_for_again_computes_one_token_of_the_prompt(model: ChatModel) -> None:
    engine, network = _watched(model)
    with running(engine):
        ask(engine, request_for(model, LONG[:200], max_tokens=5)).finish()
        before = network.tokens
        ask(engine, request_for(model, LONG[:200], seed=2, max_tokens=1)).finish()
    assert network.tokens - before == 1


def test_an_empty_answer_asked_for_again_computes_one_token_of_the_prompt(
    chatglm: ChatModel,
) -> None:
    engine, network = _watched(chatglm)
    stop = np.eye(network.vocab_size, dtype=np.float32)[[min(chatglm.stop_ids)]]
    network.trouble = network.trouble_in_slices = lambda _: stop
    request = request_for(chatglm, LONG[:200], temperature=0)
    with running(engine):
        assert ask(engine, request).finish().completion_tokens == 0
        before = network.tokens
        assert ask(engine, request).finish().completion_tokens == 0
    assert network.tokens - before == 1


def test_a_cancelled_answer_is_built_upon_as_well(causal: ChatModel) -> None:
    engine, network = _watched(causal, chunk=32)
    request, listener = request_for(causal, LONG, max_tokens=1), Listener()
    generation = engine.submit(request, listener)
    network.before = lambda: generation.cancel() if network.steps == 3 else None
    with running(engine):
        listener.finish()
        ask(engine, request).finish()
    assert engine.prefix_stats.reused_tokens == 4 * 64
    assert network.tokens == len(request.prompt_ids)


def test_who_begins_like_one_who_is_being_answered_computes_only_the_rest(
    causal: ChatModel,
) -> None:
    engine, _ = _watched(causal)
    with running(engine):
        first = engine.submit(request_for(causal, LONG + "a", max_tokens=1500), Listener())
        _until(lambda: first.token_count > 0)
        ask(engine, request_for(causal, LONG + "b", max_tokens=1)).finish()
        first.cancel()
    assert engine.prefix_stats.reused_tokens > 400


# --- whatever else is in the batch --------------------------------------------------------------


@dataclass(frozen=True)
class Visit:
    """A request that comes before a step, and may leave before a later one."""

    step: int
    question: int
    repeats: int
    seed: int
    cancel_after: int | None


VISITS = st.lists(
    st.builds(
        Visit,
        step=st.integers(0, 30),
        question=st.integers(0, len(QUESTIONS) - 1),
        repeats=st.integers(1, 12),
        seed=st.integers(0, 3),
        cancel_after=st.none() | st.integers(0, 12),
    ),
    min_size=1,
    max_size=7,
)


def _visit_request(model: ChatModel, visit: Visit) -> GenerationRequest:
    question = " ".join([QUESTIONS[visit.question]] * visit.repeats)
    return request_for(model, question, visit.seed, max_tokens=12)


def _answers(model: ChatModel, visits: list[Visit]) -> list[Listener]:
    """What all hear who come and leave at their steps, in one engine."""
    engine, network = _watched(model, places=3, queue=7, chunk=20, cache_bytes=3_000_000)
    listeners = {visit: Listener() for visit in visits}
    generations: dict[Visit, Generation] = {}
    steps = 0

    def come_and_go() -> None:
        nonlocal steps
        for visit, listener in listeners.items():
            if visit.step == steps:
                generations[visit] = engine.submit(_visit_request(model, visit), listener)
            if visit.cancel_after is not None and visit.step + visit.cancel_after == steps:
                generations[visit].cancel()
        steps += 1

    network.before = come_and_go
    with running(engine):
        while steps <= 50:  # somebody has to be answered for steps to be made
            ask(engine, request_for(model, "?", seed=steps, max_tokens=80)).finish()
        for listener in listeners.values():
            listener.finish()
    return list(listeners.values())


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(visits=VISITS)
def test_whoever_comes_and_goes_an_answer_is_what_it_is_alone(
    model: ChatModel, visits: list[Visit]
) -> None:
    visits = list(dict.fromkeys(visits))
    # The order of torch's sums depends on the company: logits are off by 1e-5. Once in thousands of
    # answers a draw falls into that gap between two tokens; with other draws it doesn't again.
    others = [replace(visit, seed=visit.seed + 10) for visit in visits]
    assert _said_as_alone(model, visits) or _said_as_alone(model, others)


def _said_as_alone(model: ChatModel, visits: list[Visit]) -> bool:
    return all(
        text.startswith(listener.text) if visit.cancel_after is not None else text == listener.text
        for visit, listener in zip(visits, _answers(model, visits), strict=True)
        for text in [_alone(model, visit)]
    )


def _alone(model: ChatModel, visit: Visit) -> str:
    request = _visit_request(model, visit)
    ids, temperature = request.prompt_ids, request.sampling.temperature
    new = model.generate(ids, request.max_tokens, temperature, seed=visit.seed)
    return model.tokenizer.answer([token for token in new if token not in model.stop_ids])


def test_an_ended_answer_gives_its_memory_back_though_somebody_still_holds_it(
    model: ChatModel,
) -> None:
    listener = Listener()
    with running(Engine(model, cache_bytes=0)) as engine:
        generation = engine.submit(request_for(model, "你好"), listener)
        listener.finish()
        assert generation.cache is None
