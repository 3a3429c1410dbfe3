"""One model server process: started, listened to, ended with everything it started.

Holds the write end of the process's stdin: when this program ends, however it ends, the process
reads the end of file and exits. Knows nothing of models, health or restarts.
"""

import asyncio
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

_ROOT = Path(__file__).parents[1]  # where `python -m backends.server` finds its package
_EXIT_POLL_S = 0.1
_LAST_LINES_S = 1.0


class ServerProcess:
    """A started process. Make one with `ServerProcess.start`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process
        self._port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._last_line = ""
        # What a server writes while it loads can't quote a prompt; later it could.
        self.log_level = logging.INFO
        self._readers = [
            asyncio.create_task(self._read_stdout()),
            asyncio.create_task(self._read_stderr()),
        ]

    @classmethod
    async def start(cls, name: str, command: Sequence[str]) -> "ServerProcess":
        """Start `command`; `name` stands before its lines in the log.

        Raises:
            OSError: The program can't be started.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # A group of its own: Ctrl+C in the terminal is for the app, which then stops its
            # servers; and whatever a server starts can be ended with it.
            start_new_session=True,
        )
        return cls(name, process)

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    async def last_words(self) -> str:
        """Return the last line that a dead process wrote to stderr, or ""."""
        await asyncio.wait(self._readers, timeout=_LAST_LINES_S)
        return self._last_line

    async def port(self) -> int:
        """Wait for the line that says the port; wait for ever if it never comes."""
        return await asyncio.shield(self._port)

    async def wait(self) -> int:
        """Wait for the process to end and return its exit code, negative for a signal."""
        # Not `Process.wait`: in Python 3.11 it also waits until every copy of the pipes is closed,
        # so a process left behind by a dead server would hide its death.
        while self._process.returncode is None:  # noqa: ASYNC110
            await asyncio.sleep(_EXIT_POLL_S)
        return self._process.returncode

    async def end(self, kill_after_s: float) -> None:
        """End the process and all that it started: politely, then by force after `kill_after_s`."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(self.wait(), kill_after_s)
            except TimeoutError:
                logger.info("%s: didn't end in %g s, killing it", self._name, kill_after_s)
        self._signal(signal.SIGKILL)
        await self.wait()
        self._port.cancel()
        if self._process.stdin is not None:
            self._process.stdin.close()
        _, still_open = await asyncio.wait(self._readers, timeout=_LAST_LINES_S)
        for reader in still_open:  # something has left the group and keeps the pipe
            reader.cancel()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS: the latter for the dead
            logger.debug("%s: nothing of it is left", self._name)

    async def _read_stdout(self) -> None:
        async for line in _lines(self._process.stdout):
            port = _announced_port(line)
            if port is not None and not self._port.done():
                self._port.set_result(port)
            else:
                logger.debug("%s: %s", self._name, line)

    async def _read_stderr(self) -> None:
        async for line in _lines(self._process.stderr):
            logger.log(self.log_level, "%s: %s", self._name, line)
            self._last_line = line or self._last_line


async def _lines(reader: asyncio.StreamReader | None) -> AsyncIterator[str]:
    while reader is not None:
        try:
            line = await reader.readline()
        except ValueError:  # longer than the reader's 64 kB, and thrown away by it
            continue
        if not line:
            return
        yield line.decode("utf-8", "replace").rstrip()


def _announced_port(line: str) -> int | None:
    """Return the port of `{"event": "listening", "port": N}`, None for any other line."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or event.get("event") != "listening":
        return None
    port = event.get("port")
    return port if isinstance(port, int) and 0 < port < 65536 else None
