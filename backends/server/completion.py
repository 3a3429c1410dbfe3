"""One answer on its way to a client: the engine's events as OpenAI's response bodies.

Bridges the engine's thread and the event loop. Checks no requests and knows no routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from backends.server.errors import GenerationError
from backends.server.generation import (
    Event,
    Failed,
    Finished,
    GenerationRequest,
    TextPiece,
    Waiting,
)

if TYPE_CHECKING:
    from backends.server.engine import Engine


class Completion:
    """An answer that is being generated.

    Args:
        engine: answers.
        request: what is wanted.
        model_key: the name that the bodies carry.

    Raises:
        SequenceError: the prompt has ids that the network doesn't know.
        ContextError: the prompt is too long.
        BusyError: there is no room in the queue.
    """

    def __init__(self, engine: Engine, request: GenerationRequest, model_key: str) -> None:
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._generation = engine.submit(request, self._receive)
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model_key,
        }

    def cancel(self) -> None:
        """Stops generating; harmless when it is over."""
        self._generation.cancel()

    async def whole(self) -> dict[str, Any]:
        """The body of an answer in one piece.

        Raises:
            GenerationError: the model failed.
        """
        text = ""
        async for event in self._until_finished():
            if isinstance(event, TextPiece):
                text += event.text
            elif isinstance(event, Finished):
                message = {"role": "assistant", "content": text}
                choice = {"index": 0, "message": message, "finish_reason": event.reason}
                body = {"object": "chat.completion", "choices": [choice], "usage": _usage(event)}
        return self._head | body

    async def server_sent_events(self, *, usage_apart: bool) -> AsyncIterator[str]:
        """The answer as it grows.

        While the request waits for a place, comments say how many are before it: lines that begin
        with a colon, which clients skip.

        Args:
            usage_apart: the usage gets a chunk of its own behind the last one, as OpenAI does it
                on request; else it is on the last one.
        """
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            async for event in self._until_finished():
                for said in self._said(event, usage_apart=usage_apart):
                    yield said
        except GenerationError as error:
            yield _data({"error": {"message": str(error), "type": "server_error", "code": None}})
        yield "data: [DONE]\n\n"

    def _said(self, event: Waiting | TextPiece | Finished, *, usage_apart: bool) -> Iterator[str]:
        """What the client gets of an event."""
        if isinstance(event, Waiting):
            yield f": waiting, {event.before} before you\n\n"
        elif isinstance(event, TextPiece):
            yield self._chunk({"content": event.text})
        else:
            usage = _usage(event)
            yield self._chunk({}, event.reason, usage=None if usage_apart else usage)
            if usage_apart:
                yield _data(self._head | _CHUNK | {"choices": [], "usage": usage})

    async def _until_finished(self) -> AsyncIterator[Waiting | TextPiece | Finished]:
        while True:
            event = await self._events.get()
            if isinstance(event, Failed):
                raise GenerationError(event.message)
            yield event
            if isinstance(event, Finished):
                return

    def _receive(self, event: Event) -> None:
        # In the engine's thread; when the process ends, the loop may be gone before it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _chunk(self, delta: dict[str, str], reason: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _data(self._head | _CHUNK | {"choices": [choice]} | more)


_CHUNK = {"object": "chat.completion.chunk"}


def _data(body: dict[str, Any]) -> str:
    """One event; in ASCII, since some clients break lines at other characters than LF."""
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n"


def _usage(end: Finished) -> dict[str, int]:
    return {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.completion_tokens,
        "total_tokens": end.prompt_tokens + end.completion_tokens,
    }
