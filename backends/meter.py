"""What a process takes, by the operating system: CPU time and memory, of all it started as well.

Reads when it is asked to; doesn't watch, and knows no models. What is counted:

- CPU: user and system seconds of the process and of all below it, of those that have ended too. A
  process that outlives its parent is nobody's child any more and isn't counted.
- Memory: what is resident, pages of mapped files included, though the system could take those back
  and other processes may share them. What two processes of the tree share counts twice.
- Peak: the most that one process of the tree ever held, or that all held together at a reading,
  whichever is more. Linux and Windows know the former whenever it was; elsewhere it is the most
  that was seen by reading.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_ATTEMPTS = 3
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class ProcessGone(Exception):  # noqa: N818 -- reads as what it is
    """The process has ended, or there was none: it can't be metered any more."""


@dataclass(frozen=True)
class Reading:
    """What a process and all it started have taken so far.

    Attributes:
        at_s: When, by `time.monotonic()`.
        cpu_s: Seconds of computing since it began.
        rss_bytes: Resident now.
        peak_bytes: The most that was resident; see the module's docstring.
    """

    at_s: float
    cpu_s: float
    rss_bytes: int
    peak_bytes: int


def cpu_share(before: Reading, after: Reading, cores: int) -> float:
    """Return how much of `cores` was used between two readings, 0 to 1."""
    passed_s = after.at_s - before.at_s
    if passed_s <= 0:
        return 0.0
    # Of a child that outlives its parent the time is lost: less than nothing is used by nobody.
    return max(0.0, after.cpu_s - before.cpu_s) / passed_s / cores


class Meter:
    """Meters one process and all it started."""

    def __init__(self, pid: int) -> None:
        """Take the process that has the id `pid` now, and no later one of the same id.

        Raises:
            ProcessGone: There is none.
        """
        self._pid = pid
        self._peak_bytes = 0
        try:
            self._process = psutil.Process(pid)
        except psutil.NoSuchProcess:
            raise self._gone() from None

    def read(self) -> Reading:
        """Return what it has taken so far; takes some milliseconds.

        Raises:
            ProcessGone: It has ended.
        """
        try:
            if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
                raise self._gone()
            usages = _tree_usages(self._process)
        except psutil.NoSuchProcess:
            raise self._gone() from None
        at_s = time.monotonic()
        rss_bytes = sum(usage.rss_bytes for usage in usages)
        largest = max(usage.peak_bytes for usage in usages)
        self._peak_bytes = max(self._peak_bytes, rss_bytes, largest)
        return Reading(at_s, sum(usage.cpu_s for usage in usages), rss_bytes, self._peak_bytes)

    def _gone(self) -> ProcessGone:
        return ProcessGone(f"There is no process {self._pid} any more: it can't be metered.")


@dataclass(frozen=True)
class _Usage:
    """What one process of a tree has taken; of its ended children it has the CPU time."""

    cpu_s: float = 0.0
    rss_bytes: int = 0
    peak_bytes: int = 0


def _tree_usages(process: psutil.Process) -> list[_Usage]:
    """Read a process and all below it.

    Raises:
        psutil.NoSuchProcess: It has ended.
    """
    for _ in range(_ATTEMPTS):
        try:
            return [_usage(one) for one in (process, *process.children(recursive=True))]
        except psutil.NoSuchProcess as error:
            # Of a child that ended meanwhile its parent has the CPU time now, unless it has too.
            if error.pid == process.pid:
                raise
    return [_usage(process)]


def _usage(process: psutil.Process) -> _Usage:
    try:
        with process.oneshot():
            cpu = process.cpu_times()
            memory = process.memory_info()
    except psutil.ZombieProcess:  # macOS tells nothing of those that nobody has waited for yet
        return _Usage()
    cpu_s = cpu.user + cpu.system + cpu.children_user + cpu.children_system
    return _Usage(cpu_s, memory.rss, _peak_bytes(process.pid, memory))


def _peak_bytes(pid: int, memory: object) -> int:
    """Return the most that a process ever held; 0 where the system doesn't keep it."""
    if psutil.LINUX:
        try:
            found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
        except (FileNotFoundError, ProcessLookupError):
            raise psutil.NoSuchProcess(pid) from None
        return int(found.group(1)) * 1024 if found else 0
    return int(getattr(memory, "peak_wset", 0))
