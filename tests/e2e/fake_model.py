"""A chat model whose every word a test decides, behind the API of the real ones.

Why a fake: the built-in models say what they like as fast as they can. Here a test says what is
answered, how fast, where it pauses until it is told to go on, and where it breaks off. It is the
scripted server of the backend tests, run inside the test process so that a test can change it.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from tests.backends.fake_server import FakeServer, Handler, chunk, options_of, usage

HELD_S = 60.0
"""A forgotten `release` must not hang the suite."""


@dataclass(frozen=True)
class Answer:
    """What a fake says to one request.

    Attributes:
        text: The whole answer.
        piece: Characters in a piece of the stream.
        pieces_per_s: How fast the pieces come.
        first_s: How long nothing comes at all.
        hold_after: Wait for `FakeModel.release` after so many characters.
        break_after: Break the connection off after so many characters.
        status: Anything but 200 is an error instead of an answer.
    """

    text: str = "好的。"
    piece: int = 2
    pieces_per_s: float = 100.0
    first_s: float = 0.0
    hold_after: int | None = None
    break_after: int | None = None
    status: int = 200
    error: str = ""


Script = Callable[[list[dict[str, str]]], Answer]
"""Says what to answer to a conversation of `{"role", "content"}`."""


class FakeModel(FakeServer):
    """One running fake; `script` may be changed at any time."""

    def __init__(self, name: str) -> None:
        super().__init__(options_of())
        self.RequestHandlerClass = _ScriptedHandler
        self.name = name
        self.answering = 0
        self._script: Script = lambda _: Answer()
        self._go_on = threading.Event()

    @property
    def spec(self) -> str:
        """What the app's `--left` or `--right` takes."""
        return f"http://127.0.0.1:{self.server_address[1]}#{self.name}"

    @property
    def key(self) -> str:
        """What the app calls it."""
        return f"{self.name}@127.0.0.1:{self.server_address[1]}"

    @property
    def conversations(self) -> list[list[dict[str, str]]]:
        """The messages of every request so far."""
        return [request["body"]["messages"] for request in self.requests]

    def says(self, text: str, **more: Any) -> Self:
        """Answer everything with `text` from now on."""
        return self.follows(lambda _: Answer(text, **more))

    def follows(self, script: Script) -> Self:
        """Answer as `script` says from now on."""
        self._go_on.set()  # whoever is still held by the script before
        self._script, self._go_on = script, threading.Event()
        return self

    def release(self) -> None:
        """Let the answers go on that are held."""
        self._go_on.set()

    def reply(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what is played to a request; its body waits where the script says so."""
        answer = self._script(request["messages"])
        if answer.status != 200:
            body = json.dumps({"error": {"message": answer.error, "code": answer.error}})
            headers = {"Content-Type": "application/json"}
            return {"status": answer.status, "headers": headers, "body": [body]}
        return {"body": self._body(answer, self._go_on)}

    def _body(self, answer: Answer, go_on: threading.Event) -> Iterator[str | float]:
        yield chunk({"role": "assistant", "content": ""})
        yield answer.first_s
        pieces = range(0, len(answer.text), answer.piece)
        for start in pieces:
            if answer.hold_after is not None and start >= answer.hold_after:
                go_on.wait(HELD_S)
            if answer.break_after is not None and start >= answer.break_after:
                raise ConnectionError("broken off, as the script says")
            yield chunk({"content": answer.text[start : start + answer.piece]})
            yield 1 / answer.pieces_per_s
        yield chunk(reason="stop")
        yield usage(7, len(pieces))
        yield "data: [DONE]\n\n"


class _ScriptedHandler(Handler):
    """Plays what the server's script says, whatever the prompt."""

    server: FakeModel

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"body": request, "headers": {}})
        self.server.answering += 1
        try:
            self._play(self.server.reply(request))
        finally:
            self.server.answering -= 1

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the test's output is not the place."""


@contextmanager
def running_fake_model(name: str) -> Iterator[FakeModel]:
    """Run a fake called `name`."""
    fake = FakeModel(name)
    thread = threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield fake
    finally:
        fake.shutdown()
        thread.join()
        fake.server_close()
