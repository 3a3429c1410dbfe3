"""Real model server processes, started as the app starts them."""

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from tests.paths import ROOT


@dataclass(frozen=True)
class Server:
    """A process that listens, perhaps still loading, and OpenAI's own client for it."""

    process: subprocess.Popen[str]
    port: int
    client: openai.OpenAI

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, Any]:
        return _send(urllib.request.Request(self.url + path))

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        return _send(urllib.request.Request(self.url + path, body, headers))

    def chat(self, **fields: Any) -> tuple[int, Any]:
        return self.post("/v1/chat/completions", json.dumps(fields).encode())

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.get("/health")[0] == 200, 60)

    def wait_until_loaded(self) -> tuple[int, Any]:
        """Wait until it is ready or has failed; return what it says then."""
        wait_until(lambda: self.get("/health")[0] != 503, 60)
        return self.get("/health")

    def running(self) -> int:
        """How many requests are being answered."""
        count: int = self.get("/health")[1]["running"]
        return count


def _send(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"didn't happen within {timeout_s} s"
        time.sleep(0.01)


def start_server(*options: str) -> subprocess.Popen[str]:
    """A server process on a free port, with an open stdin."""
    return subprocess.Popen(
        [sys.executable, "-m", "backends.server", "--port", "0", "--threads", "1", *options],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def running_server(model: Path | str, *options: str) -> Iterator[Server]:
    """A server that listens; killed in the end."""
    with start_server("--model", str(model), *options) as process:
        try:
            assert process.stdout is not None
            event = json.loads(process.stdout.readline())
            assert event["event"] == "listening"
            with openai.OpenAI(
                base_url=f"http://127.0.0.1:{event['port']}/v1",
                api_key="none",
                max_retries=0,
                timeout=30,
            ) as client:
                yield Server(process, event["port"], client)
        finally:
            process.kill()
            process.communicate()
