"""`python app.py serve` as users start it: a process with an address, a log and a sudden end.

Knows how to start, ask, interrupt and kill it; what is done with it is up to others.
"""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from benchmarks.paths import ROOT

START_S = 120.0
"""Importing Gradio takes four seconds of a free core."""

NO_VARIABLES: Mapping[str, str] = MappingProxyType({})

_ADDRESS = re.compile(r"Twopane is at (http://\S+)")

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 30.0, what: str = "") -> T:
    """Wait until `condition` gives something true and return it. Raises TimeoutError."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"still not so after {timeout_s:g} s: {what or condition}")
        time.sleep(0.02)
    return found


def address_in(log: str) -> str | None:
    """Return the address that the app has written into its log, if it has."""
    found = _ADDRESS.search(log)
    return found.group(1) if found else None


@dataclass(frozen=True)
class AppProcess:
    """A running app."""

    process: subprocess.Popen[bytes]
    log: Path
    options: Sequence[str] = field(default_factory=tuple)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        address = address_in(self.log.read_text("utf-8"))
        assert address is not None  # `start` has waited for it
        return address

    @property
    def port(self) -> int:
        """Its port."""
        return int(self.url.rpartition(":")[2])

    def status_of(self, path: str) -> int:
        """Return the status of a GET; 0 if nobody answers."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def wait_ready(self, timeout_s: float = START_S) -> None:
        """Wait until the database and both models answer."""
        until(lambda: self.status_of("/readyz") == 200, timeout_s, f"ready: {self.log}")

    def kill(self) -> None:
        """End it without any warning, and return when it is gone."""
        self.process.kill()
        self.process.wait()

    def interrupt(self, timeout_s: float = 30.0) -> int:
        """Press Ctrl+C; return its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout_s)


def start(
    log: Path, *options: str, port: int = 0, variables: Mapping[str, str] = NO_VARIABLES
) -> AppProcess:
    """Start the app with `options` and return when it has said its address.

    Of variables that begin with `TWOPANE_` it sees only those among `variables`.

    Raises:
        RuntimeError: It has ended instead; with its last words.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TWOPANE_")}
    environment |= variables
    command = [sys.executable, "app.py", "serve", "--port", str(port), *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stderr=output, env=environment)

    def said_or_dead() -> bool:
        return bool(address_in(log.read_text("utf-8"))) or process.poll() is not None

    until(said_or_dead, START_S, f"started: {log}")
    if process.poll() is not None:
        raise RuntimeError(log.read_text("utf-8")[-2000:])
    return AppProcess(process, log, options)


@contextmanager
def running(
    log: Path, *options: str, port: int = 0, variables: Mapping[str, str] = NO_VARIABLES
) -> Iterator[AppProcess]:
    """Run the app with `options`, and end it."""
    app = start(log, *options, port=port, variables=variables)
    try:
        yield app
    finally:
        if app.process.poll() is None:
            app.process.terminate()
            app.process.wait(30)
