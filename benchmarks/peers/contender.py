"""The parent's end of the line protocol: a contender is a process that answers commands.

A contender that isn't asked is stopped by a signal, so that its threads take nothing from the
others. Knows no measures. POSIX only.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.paths import ROOT

_END_S = 20.0


class ContenderError(Exception):
    """A contender can't start, has ended or has failed; says how."""


@dataclass(frozen=True)
class Contender:
    """How a contender is started.

    Attributes:
        name: What it is called in the report.
        command: Interpreter, `-m`, module and its arguments, all but the number of threads.
        variables: Environment variables in addition to this process's.
        threads_variable: One that says the number of threads too.
    """

    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    threads_variable: str = ""


class RunningContender:
    """A contender's process, stopped but for the time in which it answers.

    Args:
        contender: What is to run.
        threads: How many it may use; it gets as many cores.
        log: Gets whatever it writes to stderr.

    Raises:
        ContenderError: It can't start.
    """

    def __init__(self, contender: Contender, threads: int, log: Path) -> None:
        self._contender = contender
        self._log = log
        environment = {**os.environ, **contender.variables}
        if contender.threads_variable:
            environment[contender.threads_variable] = str(threads)
        with _on_cores(threads), log.open("ab") as output:
            self._process = subprocess.Popen(
                [*contender.command, str(threads)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
                # Of its own, to be stopped with all that it starts. The system ends a group that is
                # stopped when this process dies.
                process_group=0,
            )
        with ExitStack() as stack:
            stack.callback(self.close)
            self.load_s = float(self._answer())
            stack.pop_all()
        self._signal(signal.SIGSTOP)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, command: str) -> Any:
        """Return the answer to a command.

        Raises:
            ContenderError: It has failed, or has ended.
        """
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            return self._answer()
        except BrokenPipeError:
            raise self._ended() from None
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End it: gently, if it lets itself be."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._signal(signal.SIGCONT)
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._process.stdout.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        answer = json.loads(line)
        if "error" in answer:
            raise ContenderError(f"{self._contender.name}: {answer['error']}")
        return answer["value"]

    def _ended(self) -> ContenderError:
        last = "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-5:])
        return ContenderError(f"{self._contender.name} has ended: {last}")


@contextmanager
def _on_cores(number: int) -> Iterator[None]:
    """Have processes that are started meanwhile run on so many cores only."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
