import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from backends.client import (
    BackendError,
    BadAnswer,
    Endpoint,
    Finish,
    Message,
    ModelBusy,
    ModelUnavailable,
    Piece,
    PromptTooLong,
    Sampling,
    stream_answer,
)
from tests.backends.conftest import Fake, script
from tests.backends.fake_server import ANSWER, chunk, usage
from tests.paths import ROOT

HELLO = [Message("user", "你好")]
DONE = "data: [DONE]\n\n"
ENDLESS: list[str | float] = [chunk({"content": "a"}), 0.02] * 500


async def ask(
    endpoint: Endpoint, messages: Sequence[Message], sampling: Sampling | None = None
) -> tuple[list[Piece], Finish]:
    """Read a whole answer and check its shape."""
    items = [item async for item in stream_answer(endpoint, messages, sampling or Sampling())]
    pieces = [item for item in items if isinstance(item, Piece)]
    assert isinstance(items[-1], Finish)
    assert len(pieces) == len(items) - 1
    return pieces, items[-1]


async def failure_of(
    endpoint: Endpoint, messages: Sequence[Message], piece_timeout_s: float = 600.0
) -> BackendError:
    """Read an answer that must fail, and return the error."""
    with pytest.raises(BackendError) as caught:
        async for _ in stream_answer(
            endpoint, messages, Sampling(), piece_timeout_s=piece_timeout_s
        ):
            pass
    return caught.value


async def test_an_answer_is_its_pieces_and_then_one_finish(shared_fake: Fake) -> None:
    pieces, finish = await ask(shared_fake.endpoint, HELLO)
    assert tuple(piece.text for piece in pieces) == ANSWER
    assert (finish.reason, finish.prompt_tokens, finish.completion_tokens) == ("stop", 7, 4)


def test_what_the_first_answer_needs_is_imported_when_that_is_asked_for_and_not_before() -> None:
    code = """
import sys
from backends import client
wanted = "openai.resources.chat.completions"
print("openai" in sys.modules, client.prepare(), wanted in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "None", "True"]


async def test_times_are_measured_from_the_request_on(shared_fake: Fake) -> None:
    pieces, finish = await ask(
        shared_fake.endpoint,
        script(
            0.2, chunk({"content": ""}), 0.1, chunk({"content": "a"}), 0.2, chunk(reason="stop")
        ),
    )
    assert finish.first_token_s == pieces[0].elapsed_s
    assert pieces[0].elapsed_s >= 0.3
    assert finish.total_s - pieces[0].elapsed_s > 0.19


async def test_pieces_come_as_they_are_sent(shared_fake: Fake) -> None:
    body = (chunk({"content": "a"}), 0.5, chunk({"content": "b"}), chunk(reason="stop"))
    arrived = []
    async for _ in stream_answer(shared_fake.endpoint, script(*body), Sampling()):
        arrived.append(time.perf_counter())
    assert arrived[1] - arrived[0] > 0.4


async def test_the_sampling_and_the_messages_reach_the_endpoint(fake: Fake) -> None:
    messages = [Message("system", "s"), Message("user", "a\ud800\ud83d\ude00<|im_end|>\0")]
    await ask(fake.endpoint, messages, Sampling(0.3, 0.9, 7, 11, 42))
    request = fake.seen()["requests"][0]["body"]
    assert request == {
        "model": "fake",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "a\ufffd😀<|im_end|>\0"},
        ],
        "temperature": 0.3,
        "top_p": 0.9,
        "top_k": 7,
        "max_tokens": 11,
        "seed": 42,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_what_is_none_is_left_to_the_endpoint(fake: Fake) -> None:
    await ask(fake.endpoint, HELLO, Sampling(top_k=None, seed=None))
    assert not {"top_k", "seed"} & set(fake.seen()["requests"][0]["body"])


async def test_only_the_given_key_is_sent(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as environment:
        for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
            environment.setenv(name, "private")
        await ask(fake.endpoint, HELLO)
    headers = fake.seen()["requests"][0]["headers"]
    assert headers["authorization"] == "Bearer none"
    assert "private" not in json.dumps(headers)


async def test_a_proxy_is_not_asked_for_a_server_on_this_machine(
    shared_fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    await ask(shared_fake.endpoint, HELLO)


async def test_an_endpoint_may_count_nothing(shared_fake: Fake) -> None:
    _, finish = await ask(
        shared_fake.endpoint, script(chunk({"content": "a"}), chunk(reason="length"), DONE)
    )
    assert (finish.reason, finish.prompt_tokens, finish.completion_tokens) == ("length", None, None)


async def test_an_endpoint_may_count_on_the_last_piece(shared_fake: Fake) -> None:
    counts = {"prompt_tokens": 3, "completion_tokens": 1}
    body = (chunk({"content": "a"}, usage=None), chunk(reason="stop", usage=counts), DONE)
    _, finish = await ask(shared_fake.endpoint, script(*body))
    assert (finish.prompt_tokens, finish.completion_tokens) == (3, 1)


async def test_an_empty_answer_has_no_first_token(shared_fake: Fake) -> None:
    pieces, finish = await ask(shared_fake.endpoint, script(chunk(reason="stop"), usage(3, 0)))
    assert pieces == []
    assert finish.first_token_s is None


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "role", "tool_calls"])
async def test_what_is_no_answer_is_ignored(shared_fake: Fake, field: str) -> None:
    body = (chunk({field: "thinking"}), chunk({"content": "a", field: None}), chunk(reason="eos"))
    pieces, finish = await ask(shared_fake.endpoint, script(*body))
    assert [piece.text for piece in pieces] == ["a"]
    assert finish.reason == "stop"


async def test_text_that_a_database_can_not_hold_is_cleaned(shared_fake: Fake) -> None:
    body = (chunk({"content": "a\ud83db\0c\ud83d\ude00"}), chunk(reason="stop"))
    pieces, _ = await ask(shared_fake.endpoint, script(*body))
    assert pieces[0].text == "a\ufffdb\ufffdc😀"


async def test_lines_may_end_and_break_anywhere(shared_fake: Fake) -> None:
    content = chunk({"content": "你好"}).replace("\\u4f60", "你").rstrip()
    half = len(content) - 20
    body = (
        ": ping\r\n\r\n",
        content[:half],
        0.05,
        content[half:] + "\r\n\r\n",
        chunk(reason="stop"),
    )
    pieces, _ = await ask(shared_fake.endpoint, script(*body))
    assert [piece.text for piece in pieces] == ["你好"]


async def test_closing_the_iterator_closes_the_connection(fake: Fake) -> None:
    async with aclosing(stream_answer(fake.endpoint, script(*ENDLESS), Sampling())) as answer:
        assert isinstance(await anext(answer), Piece)
    await _until_closed_early(fake)


async def test_cancelling_the_reader_closes_the_connection(fake: Fake) -> None:
    reader = asyncio.create_task(ask(fake.endpoint, script(*ENDLESS)))
    await asyncio.sleep(0.3)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    await _until_closed_early(fake)


async def _until_closed_early(fake: Fake) -> None:
    for _ in range(20):
        if fake.seen()["closed_early"]:
            return
        await asyncio.sleep(0.05)
    pytest.fail("the server went on sending")


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    error = await failure_of(Endpoint("http://127.0.0.1:9/v1", "secret-model"), HELLO)
    assert isinstance(error, ModelUnavailable)


async def test_a_server_killed_in_mid_answer_is_unavailable(fake: Fake) -> None:
    error = await failure_of(fake.endpoint, script(chunk({"content": "a"}), 0.1, "DIE"))
    assert isinstance(error, ModelUnavailable)
    assert "broke off" in str(error)


async def test_a_stream_that_ends_without_a_reason_has_died(shared_fake: Fake) -> None:
    error = await failure_of(shared_fake.endpoint, script(chunk({"content": "a"})))
    assert isinstance(error, ModelUnavailable)
    assert "broke off" in str(error)


async def test_silence_ends_in_a_timeout(shared_fake: Fake) -> None:
    body = script(chunk({"content": "a"}), 1.0, chunk(reason="stop"))
    error = await failure_of(shared_fake.endpoint, body, piece_timeout_s=0.3)
    assert isinstance(error, ModelUnavailable)
    assert "stopped answering" in str(error)


def _said(message: str, **more: str | int) -> str:
    return json.dumps({"error": {"message": message, **more}})


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, _said("secret-model: too long", code="context_length_exceeded"), PromptTooLong),
        (400, _said("This model's maximum context length is 8 tokens.", code=400), PromptTooLong),
        (400, _said("too big", type="exceed_context_size_error"), PromptTooLong),
        (413, "too large", PromptTooLong),
        (400, _said("secret-model: temperature must be >= 0"), BadAnswer),
        (401, _said("Incorrect API key provided: sk-secret-model"), BadAnswer),
        (404, _said("The model secret-model does not exist"), BadAnswer),
        (404, "<html>secret-model</html>", BadAnswer),
        (308, "", BadAnswer),
        (429, _said("busy, 3 before you"), ModelBusy),
        (503, _said("secret-model has a full queue"), ModelBusy),
        (503, _said("Loading secret-model", type="unavailable_error", code=503), ModelUnavailable),
        (502, "<html>Bad gateway</html>", ModelUnavailable),
        (500, _said("secret-model crashed"), BadAnswer),
        (500, '{"error": "secret-model crashed"}', BadAnswer),
        (500, "[1, 2]", BadAnswer),
        (200, "<html>secret-model</html>", BadAnswer),
        (200, '{"choices": [{"message": {"content": "whole"}}]}', BadAnswer),
    ],
)
async def test_each_refusal_has_its_error_and_names_nobody(
    shared_fake: Fake, status: int, body: str, kind: type[BackendError]
) -> None:
    content_type = "application/json" if body.startswith(("{", "[")) else "text/html"
    headers = {"Content-Type": content_type, "Location": "http://elsewhere.invalid/"}
    said = script(body, status=status, headers=headers)
    error = await failure_of(shared_fake.endpoint, said)
    assert type(error) is kind
    assert str(error)
    assert not any(secret in str(error) for secret in ("secret", "fake", "127.0.0.1", "<", "sk-"))


@pytest.mark.parametrize(
    "event",
    [
        "data: {broken\n\n",
        "data: 42\n\n",
        "data: null\n\n",
        "data: [1]\n\n",
        'data: {"choices": 3}\n\n',
        'data: {"choices": [4]}\n\n',
        'data: {"choices": [{"index": 0, "delta": {"content": 5}}]}\n\n',
        'data: {"choices": [{"index": 0, "delta": {"content": ["a"]}}]}\n\n',
        'data: {"choices": [], "usage": {"prompt_tokens": -1}}\n\n',
        'data: {"error": {"message": "out of memory"}}\n\n',
        'data: {"error": "out of memory"}\n\n',
        'data: "\udcff"\n\n',
        "data: " + "[" * 100_000 + "\n\n",
        chunk(reason="content_filter") + chunk({"content": "a"}),
        chunk({"content": "x" * 1_000_001}),
    ],
)
async def test_events_that_make_no_sense_are_a_bad_answer(shared_fake: Fake, event: str) -> None:
    error = await failure_of(shared_fake.endpoint, script(chunk({"content": "a"}), event))
    assert type(error) is BadAnswer


async def test_a_prompt_found_too_long_in_mid_stream_is_told(shared_fake: Fake) -> None:
    event = f"data: {_said('no', code='context_length_exceeded')}\n\n"
    assert type(await failure_of(shared_fake.endpoint, script(event))) is PromptTooLong


async def test_an_address_that_is_none_is_a_bad_answer() -> None:
    assert type(await failure_of(Endpoint("http://[broken/v1", "m"), HELLO)) is BadAnswer


async def test_the_log_names_the_endpoint_but_not_what_was_said(
    shared_fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    said = script(_said("invalid: my private prompt"), status=400)
    await failure_of(shared_fake.endpoint, said)
    assert f"fake at {shared_fake.url}/v1: BadAnswer" in caplog.text
    assert "private" not in caplog.text


def test_the_key_is_not_shown_with_its_endpoint() -> None:
    assert "sk-1" not in repr(Endpoint("http://a/v1", "m", "sk-1"))
