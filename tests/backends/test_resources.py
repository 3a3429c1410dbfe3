"""The monitor, on real processes that hold memory and burn CPU when they are told to."""

import asyncio
import json
import logging
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from backends.backend import Backend, State
from backends.catalog import Model
from backends.cores import usable_cores
from backends.lineup import Lineup, Models
from backends.machine import memory_bytes
from backends.resources import Kind, Limits, Monitor, ProcessReading, Snapshot
from backends.specs import resolve
from backends.supervisor import ModelServer, Patience, RemoteModel
from tests.backends.conftest import fake_command, until

HASTY = Patience(poll_s=0.05, first_backoff_s=0.1, kill_after_s=0.5)

# Stands for a model server, which nobody can tell how much memory and CPU to take.
PUPPET = """
import json, pathlib, sys, time
file, held = pathlib.Path(sys.argv[1]), b""
print(json.dumps({"event": "listening", "port": 1}), flush=True)
while True:
    hold, burn = json.loads(file.read_text())
    if hold != len(held):
        held = b""
        held = b"x" * hold
        file.with_suffix(".held").write_text(str(hold))
    until_s = time.monotonic() + 0.05
    while burn and time.monotonic() < until_s:
        pass
    time.sleep(0 if burn else 0.02)
"""


def model(key: str) -> Model:
    return Model(key=key, title=key.upper(), family="qwen2", folder=Path("/nowhere"))


class Puppet:
    """A server process that takes what the test says."""

    def __init__(self, file: Path) -> None:
        self._file, self._held = file, file.with_suffix(".held")
        self.takes()
        command = [sys.executable, "-c", PUPPET, str(file)]
        self.server = ModelServer(model("puppet"), command=lambda _, __: command, patience=HASTY)

    def takes(self, hold: int = 0, *, burn: bool = False) -> None:
        """Have it hold so many bytes, or every core it gets."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps([hold, burn]))
        new.replace(self._file)

    @property
    def process(self) -> psutil.Process:
        assert self.server.pid is not None
        return psutil.Process(self.server.pid)

    async def holds(self, count: int) -> None:
        """Have it hold so many bytes and wait until it does."""
        self.takes(count)
        await until(lambda: self._held.exists() and self._held.read_text() == str(count))


@dataclass(frozen=True)
class Stage:
    """A puppet and a remote model, in a lineup."""

    puppet: Puppet
    lineup: Lineup


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    puppet = Puppet(tmp_path / "takes")
    remote = RemoteModel(resolve("http://127.0.0.1:9/v1#far"))
    lineup = Lineup((puppet.server.model, remote.model), lambda _, __: (puppet.server, remote))
    await puppet.server.start()
    await until(lambda: puppet.server.status.state is State.LOADING)
    yield Stage(puppet, lineup)
    await puppet.server.stop()


def by_key(snapshot: Snapshot) -> dict[str, ProcessReading]:
    return {one.model_key: one for one in snapshot.processes}


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    found = (one for one in caplog.records if one.name == "backends.resources")
    return [one.getMessage() for one in found if one.levelno == level]


async def test_the_app_and_each_local_server_are_read_by_themselves(stage: Stage) -> None:
    await stage.puppet.holds(200_000_000)
    app, server = (await Monitor(stage.lineup).read()).processes
    assert (app.model_key, app.pid) == ("", os.getpid())
    assert (server.model_key, server.pid) == ("puppet", stage.puppet.server.pid)
    for reading in (app, server):
        process = psutil.Process(reading.pid)
        cpu = process.cpu_times()
        assert reading.rss_bytes == pytest.approx(process.memory_info().rss, rel=0.05)
        assert reading.cpu_s == pytest.approx(cpu.user + cpu.system, rel=0.05, abs=0.1)
        assert reading.peak_bytes >= reading.rss_bytes
        assert reading.cpu_share is None
    assert server.rss_bytes > 200_000_000


async def test_the_peak_stays_when_memory_is_given_back(stage: Stage) -> None:
    await stage.puppet.holds(200_000_000)
    await stage.puppet.holds(0)
    reading = by_key(await Monitor(stage.lineup).read())["puppet"]
    assert reading.peak_bytes > 200_000_000 > reading.rss_bytes


async def test_cpu_is_a_share_of_all_usable_cores_since_the_reading_before(stage: Stage) -> None:
    monitor = Monitor(stage.lineup)
    stage.puppet.takes(burn=True)
    await monitor.read()
    cpu, began_s = stage.puppet.process.cpu_times(), time.monotonic()
    await asyncio.sleep(1)
    reading = by_key(await monitor.read())["puppet"]
    used_s = sum(stage.puppet.process.cpu_times()[:2]) - sum(cpu[:2])
    expected = used_s / (time.monotonic() - began_s) / monitor.cores
    assert reading.cpu_share == pytest.approx(expected, rel=0.05, abs=0.01)
    assert used_s > 0.1, "it burns"


async def test_a_memory_alarm_begins_above_its_limit_and_ends_well_below_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "backends.resources")
    idle = (await Monitor(stage.lineup).read()).rss_bytes
    limit = 1.6 * idle / memory_bytes()
    monitor = Monitor(stage.lineup, Limits(memory=limit))
    assert (await monitor.read()).alarms == ()
    await stage.puppet.holds(int(0.52 * idle))
    assert (await monitor.read()).alarms == (), "below the limit"
    await stage.puppet.holds(int(1.2 * idle))
    (alarm,) = (await monitor.read()).alarms
    assert (alarm.kind, alarm.limit, alarm.most_by) == (Kind.MEMORY, limit, "puppet")
    assert alarm.share == pytest.approx(2.2 * idle / memory_bytes(), rel=0.05)
    await stage.puppet.holds(int(0.52 * idle))
    (lower,) = (await monitor.read()).alarms
    assert lower.share < limit, "it lasts until it is well below"
    assert lower.since == alarm.since
    assert logged(caplog, logging.INFO) == []
    await stage.puppet.holds(0)
    assert (await monitor.read()).alarms == ()
    await monitor.read()
    (begin,), (end,) = (logged(caplog, level) for level in (logging.WARNING, logging.INFO))
    assert re.match(
        r"memory alarm: .* hold [\d.]+ [MG]B, .*most .* puppet with [\d.]+ [MG]B", begin
    )
    assert re.match(r"memory alarm ended after \d+ s: now they hold [\d.]+ [MG]B, \d+%", end)


async def test_a_cpu_alarm_begins_and_ends_by_itself_with_what_a_process_burns(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "backends.resources")
    limits = Limits(cpu=0.25 / usable_cores())
    monitor = Monitor(stage.lineup, limits, every_s=0.2, sustained_s=1)
    monitor.start()
    stage.puppet.takes(burn=True)
    await until(lambda: bool(monitor.snapshot().alarms))
    (alarm,) = monitor.snapshot().alarms
    assert (alarm.kind, alarm.most_by) == (Kind.CPU, "puppet")
    assert alarm.share >= alarm.most_share > 0
    stage.puppet.takes(burn=False)
    await until(lambda: not monitor.snapshot().alarms)
    await monitor.stop()
    (begin,), (end,) = (logged(caplog, level) for level in (logging.WARNING, logging.INFO))
    assert re.match(r"cpu alarm: .* took \d+% of the \d+ cores in the last 1 s, .* puppet", begin)
    assert end.startswith("cpu alarm ended")


async def test_cpu_is_judged_only_over_the_whole_time(stage: Stage) -> None:
    limits = Limits(cpu=0.25 / usable_cores())
    monitor = Monitor(stage.lineup, limits, every_s=0.2, sustained_s=1)
    stage.puppet.takes(burn=True)
    alarms = []
    for _ in range(6):
        await asyncio.sleep(0.2)
        alarms.append(len((await monitor.read()).alarms))
    assert alarms == [0, 0, 0, 0, 1, 1]


async def test_without_limits_nothing_is_too_much(stage: Stage) -> None:
    monitor = Monitor(stage.lineup, every_s=0.1, sustained_s=0.1)
    stage.puppet.takes(burn=True)
    for _ in range(3):
        await asyncio.sleep(0.1)
        assert (await monitor.read()).alarms == ()


async def test_a_server_that_dies_between_readings_is_just_not_there(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor(stage.lineup)
    await monitor.read()
    process = stage.puppet.process
    process.kill()
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)  # noqa: ASYNC251 -- whoever watches it must not have noticed yet
    assert stage.puppet.server.pid == process.pid
    assert list(by_key(await monitor.read())) == [""]
    assert list(by_key(await Monitor(stage.lineup).read())) == [""]
    await until(lambda: stage.puppet.server.pid not in (None, process.pid))
    again = by_key(await monitor.read())["puppet"]
    assert again.cpu_share is None
    assert logged(caplog, logging.ERROR) == []


async def test_other_models_are_read_as_soon_as_they_are_there(tmp_path: Path) -> None:
    def make(models: Models, _: bool) -> tuple[ModelServer, ModelServer]:
        first, second = (ModelServer(one, command=fake_command(), patience=HASTY) for one in models)
        return first, second

    lineup = Lineup((model("a"), model("b")), make)
    monitor = Monitor(lineup)
    assert list(by_key(await monitor.read())) == [""]
    await lineup.start()
    try:
        await asyncio.gather(*(one.wait_ready(20) for one in lineup.backends))
        assert list(by_key(await monitor.read())) == ["", "a", "b"]
        await lineup.change((model("b"), model("c")))
        await asyncio.gather(*(one.wait_ready(20) for one in lineup.backends))
        shares = {key: one.cpu_share for key, one in by_key(await monitor.read()).items()}
        assert list(shares) == ["", "b", "c"]
        assert shares["b"] is not None, "it has been there before"
        assert shares["c"] is None
    finally:
        await lineup.stop()


async def test_the_history_is_bounded_and_ends_when_it_is_stopped(stage: Stage) -> None:
    monitor = Monitor(stage.lineup, every_s=0.02, history_s=0.2)
    assert list(monitor.history) == []
    assert list(monitor.snapshot().processes) == []
    monitor.start()
    await until(lambda: len(monitor.history) == 10)
    first = monitor.history[0]
    await until(lambda: first not in monitor.history)
    await monitor.stop()
    history = monitor.history
    assert len(history) == 10
    assert [one.at for one in history] == sorted(one.at for one in history)
    await asyncio.sleep(0.1)
    assert monitor.history == history
    assert monitor.snapshot() is history[-1]


async def test_stopping_what_was_never_started_does_nothing(stage: Stage) -> None:
    await Monitor(stage.lineup).stop()


async def test_a_server_beside_the_lineup_is_read_as_long_as_it_runs(
    stage: Stage, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Puppet(folder / "takes.json")
    running: set[Backend] = set()
    monitor = Monitor(stage.lineup, others=running)
    await other.server.start()
    try:
        running.add(other.server)
        await other.holds(20_000_000)
        pids = {one.pid for one in (await monitor.read()).processes}
        assert other.server.pid in pids
    finally:
        await other.server.stop()
    assert len((await monitor.read()).processes) == len(pids) - 1
