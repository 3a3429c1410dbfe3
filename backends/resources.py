"""What the app and its local model servers take of this machine, read every few seconds.

Keeps the last minutes for a chart, and raises an alarm when all of them together take too much:
each may be modest and the machine full all the same. How one process is read is `meter`'s; does
nothing about an alarm but say so.
"""

import asyncio
import logging
import os
import re
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from operator import itemgetter
from pathlib import Path

import psutil

from backends.amounts import bytes_text, duration_text
from backends.cores import usable_cores
from backends.lineup import Lineup
from backends.machine import memory_bytes
from backends.meter import Meter, ProcessGone, Reading, cpu_share
from backends.supervisor import Backend, ModelServer

logger = logging.getLogger(__name__)

EVERY_S = 2.0
"""Between two readings."""
SUSTAINED_S = 60.0
"""What CPU is judged over: a short answer may take every core."""
HISTORY_S = 600.0
_OWN_STATUS = Path("/proc/self/status")
_ENDS_BELOW = 0.9
"""Of its limit: an alarm that ended at the limit itself would come and go with every reading."""


class Kind(StrEnum):
    """What there is too much of."""

    MEMORY = "memory"
    CPU = "cpu"


@dataclass(frozen=True)
class Limits:
    """Above which share of the machine, 0 to 1, an alarm begins; None: never.

    Attributes:
        memory: Of all memory, held now.
        cpu: Of all usable cores, on average over `SUSTAINED_S`.
    """

    memory: float | None = None
    cpu: float | None = None

    def of(self, kind: Kind) -> float | None:
        """Return the limit of that kind."""
        return self.memory if kind is Kind.MEMORY else self.cpu


@dataclass(frozen=True)
class ProcessReading:
    """What one process takes.

    Attributes:
        model_key: Whose server it is; "" for the app itself.
        peak_bytes: Most memory that it ever held.
        cpu_s: CPU time since it began.
        cpu_share: Of all usable cores since the reading before, 0 to 1; None at its first.
    """

    model_key: str
    pid: int
    rss_bytes: int
    peak_bytes: int
    cpu_s: float
    cpu_share: float | None


@dataclass(frozen=True)
class Alarm:
    """Too much is taken, by all processes together.

    Attributes:
        share: Of the machine, 0 to 1, now; of CPU, on average over `SUSTAINED_S`.
        limit: The share above which it began.
        most_by: The process that takes most of it, by its `model_key`.
        most_share: That one's part of `share`.
    """

    kind: Kind
    share: float
    limit: float
    most_by: str
    most_share: float
    since: datetime


@dataclass(frozen=True)
class Snapshot:
    """What all processes take at one moment: the app first, then the local model servers."""

    processes: tuple[ProcessReading, ...]
    alarms: tuple[Alarm, ...]
    at: datetime

    @property
    def rss_bytes(self) -> int:
        """Memory of all together."""
        return sum(one.rss_bytes for one in self.processes)

    @property
    def cpu_share(self) -> float:
        """Of all usable cores, of all together, since the snapshot before."""
        return sum(one.cpu_share or 0.0 for one in self.processes)


class Monitor:
    """Reads the app and its local model servers. All calls belong to one event loop."""

    def __init__(
        self,
        lineup: Lineup,
        limits: Limits | None = None,
        *,
        others: Collection[Backend] = (),
        every_s: float = EVERY_S,
        sustained_s: float = SUSTAINED_S,
        history_s: float = HISTORY_S,
    ) -> None:
        """Make ready to read; `others` run beside the lineup's, as they come and go."""
        self._lineup = lineup
        self._others = others
        self.limits = limits or Limits()
        self.memory_bytes = memory_bytes()
        self.cores = usable_cores()
        self._every_s = every_s
        self._sustained_s = sustained_s
        self._history: deque[Snapshot] = deque(maxlen=max(1, round(history_s / every_s)))
        self._recent: deque[tuple[ProcessReading, ...]]  # what CPU is judged by
        self._recent = deque(maxlen=max(1, round(sustained_s / every_s)))
        self._alarms: dict[Kind, Alarm] = {}
        self._before: dict[int, tuple[Meter | _Own, Reading]] = {}  # by process id
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    @property
    def history(self) -> tuple[Snapshot, ...]:
        """The snapshots of the last `history_s` seconds, the oldest first."""
        return tuple(self._history)

    def snapshot(self) -> Snapshot:
        """Return the newest one; an empty one before there is any."""
        return self._history[-1] if self._history else Snapshot((), (), datetime.now(UTC))

    def start(self) -> None:
        """Begin to read and return at once."""
        self._task = asyncio.create_task(self._keep_reading(), name="monitor")
        self._task.add_done_callback(_note_end)

    async def stop(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep_reading(self) -> None:
        while True:
            await self.read()
            await asyncio.sleep(self._every_s)

    async def read(self) -> Snapshot:
        """Take a snapshot now, and log which alarms begin and end with it."""
        async with self._reading:
            # Aside, since a stream of answers would stall for the milliseconds that it takes.
            processes = await asyncio.to_thread(self._read, self._servers())
            at = datetime.now(UTC)
            self._recent.append(processes)
            alarms = [
                self._judge(Kind.MEMORY, self._memory_shares(processes), at),
                self._judge(Kind.CPU, self._cpu_shares(), at),
            ]
            snapshot = Snapshot(processes, tuple(one for one in alarms if one is not None), at)
            self._history.append(snapshot)
            return snapshot

    def _servers(self) -> dict[int, str]:
        """Return whose server each process is."""
        backends = (*self._lineup.backends, *self._others)
        servers = [one for one in backends if isinstance(one, ModelServer)]
        return {one.pid: one.model.key for one in servers if one.pid is not None}

    def _read(self, servers: Mapping[int, str]) -> tuple[ProcessReading, ...]:
        """Read all processes; one that has died meanwhile is left out."""
        before, self._before = self._before, {}
        found = []
        for pid, model_key in {os.getpid(): "", **servers}.items():
            try:
                meter, last = before.get(pid) or (Meter(pid) if model_key else _Own(), None)
                now = meter.read()
            except ProcessGone:
                continue
            self._before[pid] = meter, now
            share = None if last is None else cpu_share(last, now, self.cores)
            found.append(
                ProcessReading(model_key, pid, now.rss_bytes, now.peak_bytes, now.cpu_s, share)
            )
        return tuple(found)

    def _memory_shares(self, processes: Iterable[ProcessReading]) -> Mapping[str, float]:
        return {one.model_key: one.rss_bytes / self.memory_bytes for one in processes}

    def _cpu_shares(self) -> Mapping[str, float]:
        """Return each one's mean over `sustained_s`; nothing before so much time has passed."""
        shares: dict[str, float] = defaultdict(float)
        if len(self._recent) == self._recent.maxlen:
            for one in chain.from_iterable(self._recent):
                shares[one.model_key] += (one.cpu_share or 0.0) / len(self._recent)
        return shares

    def _judge(self, kind: Kind, shares: Mapping[str, float], at: datetime) -> Alarm | None:
        """Say whether there is an alarm now, and log it if that is new."""
        limit, before = self.limits.of(kind), self._alarms.pop(kind, None)
        share = sum(shares.values())
        if limit is None or share <= limit * (_ENDS_BELOW if before else 1):
            if before is not None:
                self._log_end(before, share, at)
            return None
        most_by, most_share = max(shares.items(), key=itemgetter(1))
        since = before.since if before else at
        alarm = self._alarms[kind] = Alarm(kind, share, limit, most_by, most_share, since)
        if before is None:
            self._log_begin(alarm)
        return alarm

    def _log_begin(self, alarm: Alarm) -> None:
        logger.warning(
            "%s alarm: the app and its model servers %s, most of it %s with %s; the limit is %s",
            alarm.kind,
            self._taken(alarm.kind, alarm.share),
            alarm.most_by or "the app",
            self._amount(alarm.kind, alarm.most_share),
            f"{alarm.limit:.0%}",
        )

    def _log_end(self, alarm: Alarm, share: float, at: datetime) -> None:
        lasted = duration_text((at - alarm.since).total_seconds())
        taken = self._taken(alarm.kind, share)
        logger.info("%s alarm ended after %s: now they %s", alarm.kind, lasted, taken)

    def _taken(self, kind: Kind, share: float) -> str:
        if kind is Kind.CPU:
            return f"took {share:.0%} of the {self.cores} cores in the last {self._sustained_s:g} s"
        return f"hold {self._amount(kind, share)}, {share:.0%} of this machine's memory"

    def _amount(self, kind: Kind, share: float) -> str:
        return f"{share:.0%}" if kind is Kind.CPU else bytes_text(share * self.memory_bytes)


def _note_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("memory and CPU are read no more", exc_info=error)


class _Own:
    """Meters this process alone: to a `Meter` the model servers are part of it."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._peak_bytes = 0

    def read(self) -> Reading:
        """Return what it has taken so far."""
        with self._process.oneshot():
            cpu, memory = self._process.cpu_times(), self._process.memory_info()
        self._peak_bytes = max(self._peak_bytes, memory.rss, _own_peak_bytes())
        return Reading(time.monotonic(), cpu.user + cpu.system, memory.rss, self._peak_bytes)


def _own_peak_bytes() -> int:
    """Return the most that this process ever held; 0 where the system doesn't say."""
    try:
        about = _OWN_STATUS.read_text()
    except OSError:  # not Linux
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", about, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0
