import json
from dataclasses import replace

import pytest

from backends.server import ChatModel
from backends.server.completion import Completion
from backends.server.engine import Engine
from backends.server.errors import GenerationError
from backends.server.generation import GenerationRequest, SamplingSettings
from tests.backends.server.stepping import WatchedNetwork, out_of_memory, running

REQUEST = GenerationRequest((1, 2, 3), 5, SamplingSettings(seed=1))


def _failing(model: ChatModel) -> Engine:
    network = WatchedNetwork(model)
    network.trouble = out_of_memory
    return Engine(replace(model, network=network))


async def test_a_failure_while_streaming_is_said_in_openais_shape(qwen2: ChatModel) -> None:
    with running(_failing(qwen2)) as engine:
        completion = Completion(engine, REQUEST, "key")
        events = [event async for event in completion.server_sent_events(usage_apart=False)]
    assert events[-1] == "data: [DONE]\n\n"
    error = json.loads(events[-2].removeprefix("data: "))["error"]
    assert error["type"] == "server_error"
    assert "failed" in error["message"]


async def test_a_failure_of_a_whole_answer_is_raised(qwen2: ChatModel) -> None:
    with running(_failing(qwen2)) as engine, pytest.raises(GenerationError, match="failed"):
        await Completion(engine, REQUEST, "key").whole()


async def test_events_are_single_lines_of_ascii(qwen2: ChatModel) -> None:
    with running(Engine(qwen2)) as engine:
        completion = Completion(engine, replace(REQUEST, max_tokens=40), "key")
        events = [event async for event in completion.server_sent_events(usage_apart=True)]
    assert all(event.isascii() and event.count("\n") == 2 for event in events)
    assert any("\\u" in event for event in events)
