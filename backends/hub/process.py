"""A process of `worker`: started, given tasks, listened to, ended.

Knows nothing of hubs: it hands over tasks, says what the worker says, and kills it when it is
closed, wherever it is stuck then. What the client writes to stderr goes to the log.
"""

import json
import logging
import os
import queue
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from backends.hub.worker import Task, environment

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[2]  # where `python -m backends.hub` finds its package
_COMMAND = (sys.executable, "-m", "backends.hub")
_LAST_WORDS_S = 1.0


class WorkerProcess:
    """A worker with the client of `hub`. Must be closed."""

    def __init__(self, hub: str) -> None:
        self._name = hub
        self._last_line = ""
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._process = subprocess.Popen(
            (*_COMMAND, hub),
            cwd=_ROOT,
            env=environment(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        )
        self._stdin, stdout, stderr = _pipes(self._process)
        self._readers = [
            threading.Thread(target=self._read_stdout, args=(stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def close(self) -> None:
        """End it, wherever it is."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(_LAST_WORDS_S)
        self._stdin.close()

    def hand_over(self, task: Task) -> None:
        """Give it a task; it may be working on none when it gets one."""
        try:
            self._stdin.write(json.dumps(asdict(task)) + "\n")
            self._stdin.flush()
        except OSError:  # it is dead already, which its end will tell
            logger.debug("%s: took no task", self._name)

    def next_event(self, timeout_s: float) -> dict[str, Any] | None:
        """Return what it says next; None if it says nothing for `timeout_s`.

        The last event is `ended`, when it has exited.
        """
        try:
            return self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def last_words(self) -> str:
        """Return the last line that it has written to stderr."""
        self._readers[1].join(_LAST_WORDS_S)
        return self._last_line

    def _read_stdout(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                if event := _event(line):
                    self._events.put(event)
                else:
                    logger.debug("%s: %s", self._name, line.rstrip())
        self._events.put({"event": "ended"})

    def _read_stderr(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                self._last_line = line.rstrip() or self._last_line
                logger.debug("%s: %s", self._name, line.rstrip())


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RuntimeError("a process has been started without its pipes")
    return process.stdin, process.stdout, process.stderr


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
