"""Fixtures: fake model servers, and models that stand for them."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends.catalog import Model
from backends.client import Endpoint, Message

FAKE_SERVER = Path(__file__).with_name("fake_server.py")


@dataclass(frozen=True)
class Fake:
    """A running fake model server."""

    url: str
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(f"{self.url}/v1", "fake")

    def seen(self) -> dict[str, Any]:
        """What the server has been asked so far."""
        with urllib.request.urlopen(f"{self.url}/seen") as response:
            seen: dict[str, Any] = json.load(response)
        return seen


@contextmanager
def running_fake(*options: str) -> Iterator[Fake]:
    """Run a fake model server."""
    command = [sys.executable, str(FAKE_SERVER), "--watch-parent", *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        try:
            yield Fake(f"http://127.0.0.1:{port}", process)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def shared_fake() -> Iterator[Fake]:
    """A fake model server for tests that don't harm it."""
    with running_fake() as fake:
        yield fake


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A fake model server of the test's own."""
    with running_fake() as fake:
        yield fake


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A local model; the fake server doesn't look at its folder."""
    return Model(key="some-model", title="Some model", family="qwen2", folder=tmp_path)


def fake_command(*options: str) -> Callable[[Model, int], list[str]]:
    """What to give `ModelServer(command=...)` so that it starts the fake."""

    def command(model: Model, threads: int) -> list[str]:
        program = [sys.executable, str(FAKE_SERVER), "--watch-parent"]
        return [*program, "--threads", str(threads), *options]

    return command


def script(
    *body: str | float, status: int = 200, headers: dict[str, str] | None = None
) -> list[Message]:
    """The conversation that makes the fake server send `body`."""
    said: dict[str, Any] = {"status": status, "body": body}
    if headers is not None:
        said["headers"] = headers
    return [Message("user", json.dumps(said))]


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> float:
    """Wait until `condition` holds and return how many seconds it took."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < timeout_s, "it never came to be"
        await asyncio.sleep(0.01)
    return time.monotonic() - began_s
