"""Scripted chat models with a real OpenAI-compatible HTTP face, in the event loop of the test.

Why a fake: a real model can't be told its words, its speed, when to wait for the test, or when to
die in the middle of an answer. All that is asked of it goes through `backends.client`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from backends.catalog import MODELS
from backends.client import Endpoint, ModelUnavailable
from tests.backends.fake_server import chunk, usage


class _Death:
    """The connection breaks off, as when a server process is killed."""


DIE: Final = _Death()

Step = str | float | asyncio.Event | _Death
"""Text to send, seconds to wait, what to wait for, or the end."""


@dataclass(frozen=True)
class Refusal:
    """An HTTP error instead of an answer."""

    status: int
    code: str


TOO_LONG = Refusal(400, "context_length_exceeded")
BUSY = Refusal(429, "rate_limit_exceeded")

Script = Sequence[Step] | Refusal


def spoken(text: str, interval_s: float) -> list[Step]:
    """The script of a model that says a character every `interval_s`."""
    return [step for char in text for step in (char, interval_s)]


class FakeModel:
    """A chat model for `rating.run`; `script` says how it answers next, `key` what it is."""

    def __init__(self, key: str) -> None:
        known = MODELS.get(key, MODELS["tiny-qwen"])
        self.model = replace(known, key=key, revision=f"revision-of-{key}")
        self.precision = f"precision-of-{key}"
        self.script: Script = ["好"]
        self.finish = "stop"
        self.up = True
        self.requests: list[dict[str, Any]] = []
        self.hung_up = 0
        self._port = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def endpoint(self) -> Endpoint:
        if not self.up:
            raise ModelUnavailable
        return Endpoint(f"http://127.0.0.1:{self._port}/v1", self.model.key)

    async def wait_ready(self, timeout: float) -> None:
        _ = self.endpoint

    @property
    def asked(self) -> list[list[str]]:
        """What was said in each conversation it was asked to go on with."""
        return [[message["content"] for message in r["messages"]] for r in self.requests]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer requests."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length:")[1].split("\r\n")[0])
            self.requests.append(json.loads(await reader.readexactly(length)))
        except asyncio.IncompleteReadError:  # stopped while it was asking
            writer.close()
            return
        answer = asyncio.create_task(self._answer(self.script, writer))
        hanging_up = asyncio.create_task(reader.read())
        self._tasks |= {answer, hanging_up}
        await asyncio.wait([answer, hanging_up], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self.hung_up += 1
            answer.cancel()
        hanging_up.cancel()
        writer.close()

    async def _answer(self, script: Script, writer: asyncio.StreamWriter) -> None:
        if isinstance(script, Refusal):
            body = json.dumps({"error": {"message": "no", "code": script.code}})
            writer.write(
                f"HTTP/1.1 {script.status} No\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
            )
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        for step in script:
            match step:
                case str():
                    await _send(writer, chunk({"content": step}))
                case asyncio.Event():
                    await step.wait()
                case _Death():
                    writer.transport.abort()
                    return
                case _:
                    await asyncio.sleep(step)
        pieces = sum(isinstance(step, str) for step in script)
        end = [chunk(reason=self.finish), usage(7, pieces), "data: [DONE]\n\n"]
        await _send(writer, *end)
        writer.write(b"0\r\n\r\n")


async def _send(writer: asyncio.StreamWriter, *events: str) -> None:
    data = "".join(events).encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()
