"""The meter against known use, GNU time, and other files of /proc than those that it reads."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from backends.meter import Meter, ProcessGone, Reading, cpu_share

MB = 1_000_000
GNU_TIME = "/usr/bin/time"
# What the metered programs consist of. A child runs code with the same words, until stdin ends.
WORDS = """
import subprocess, sys, time
words = sys.argv[1]

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def hold(megabytes):
    return bytearray(b"x") * (megabytes * 1_000_000)

def child(code):
    command = [sys.executable, "-c", words + code, words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process

def end(process):
    process.communicate()

def pause():
    print(flush=True)
    sys.stdin.readline()
"""

needs_proc = pytest.mark.skipif(not psutil.LINUX, reason="compares with files of /proc")
needs_time = pytest.mark.skipif(
    not psutil.LINUX or not Path(GNU_TIME).exists(), reason="needs GNU time (Debian: time)"
)


@dataclass(frozen=True)
class Running:
    """A program that has come to its first pause."""

    process: subprocess.Popen[str]
    pid: int

    def go_on(self) -> None:
        """Let it come to its next pause."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline(), "it has ended"

    def finish(self) -> str:
        """Let it come to its end, and return what was written to stderr."""
        return self.process.communicate("\n", timeout=30)[1]


@contextmanager
def running(code: str, under: Sequence[str] = ()) -> Iterator[Running]:
    """Run WORDS and `code`, perhaps under another program."""
    command = [*under, sys.executable, "-c", WORDS + code, WORDS]
    with subprocess.Popen(
        command, stdin=-1, stdout=-1, stderr=-1, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), "it has ended"
            below = psutil.Process(process.pid).children()
            yield Running(process, below[0].pid if under else process.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def scheduled_s(*pids: int) -> float:
    """CPU seconds as the scheduler counts them, in nanoseconds and not in ticks."""
    tasks = (task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def mapped_bytes(*pids: int) -> int:
    """What is resident, counted page by page and not by the counters that `VmRSS` shows."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(re.findall(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)[0]) for text in texts) * 1024


def within_5_percent(value: float) -> object:
    return pytest.approx(value, rel=0.05)


def test_the_meter_shows_what_is_known_to_be_used() -> None:
    code = """
pause()
began = time.process_time()
held = hold(200)
burn(began + 1 - time.process_time())
pause()
"""
    with running(code) as program:
        meter = Meter(program.pid)
        before = meter.read()
        program.go_on()
        after = meter.read()
    assert after.cpu_s - before.cpu_s == within_5_percent(1)
    assert after.rss_bytes - before.rss_bytes == within_5_percent(200 * MB)
    assert after.at_s - before.at_s >= 1


@needs_time
def test_cpu_and_peak_agree_with_gnu_time_also_after_a_child_has_ended() -> None:
    code = "held = hold(200); del held; burn(0.7); end(child('burn(0.5); pause()')); pause()"
    with running(code, [GNU_TIME, "-v"]) as program:
        reading = Meter(program.pid).read()
        said = program.finish()
    times = re.findall(r"(?:User|System) time \(seconds\): ([\d.]+)", said)
    (peak_kb,) = re.findall(r"Maximum resident set size \(kbytes\): (\d+)", said)
    assert reading.cpu_s == within_5_percent(sum(map(float, times)))
    assert reading.cpu_s > 1.2
    assert reading.peak_bytes == within_5_percent(int(peak_kb) * 1024)
    assert reading.rss_bytes < reading.peak_bytes - 150 * MB


@needs_proc
def test_cpu_and_memory_agree_with_other_files_of_proc_while_a_child_runs() -> None:
    code = (
        "one = child('held = hold(60); burn(0.5); pause()'); held = hold(100); burn(0.5); pause()"
    )
    with running(code) as program:
        pids = [program.pid, *(one.pid for one in psutil.Process(program.pid).children())]
        reading = Meter(program.pid).read()
        assert len(pids) == 2
        assert reading.cpu_s == within_5_percent(scheduled_s(*pids))
        assert reading.rss_bytes == within_5_percent(mapped_bytes(*pids))
    assert reading.cpu_s > 1
    assert reading.rss_bytes > 160 * MB


@needs_proc
def test_the_share_of_the_cores_agrees_with_the_schedulers_count() -> None:
    with running("burn(0.1); pause(); burn(0.6); time.sleep(0.3); pause()") as program:
        meter = Meter(program.pid)
        before, scheduled, began_s = meter.read(), scheduled_s(program.pid), time.monotonic()
        program.go_on()
        after, scheduled_after = meter.read(), scheduled_s(program.pid)
        used = (scheduled_after - scheduled) / (time.monotonic() - began_s)
    assert cpu_share(before, after, 4) == within_5_percent(used / 4)


def test_what_an_ended_child_took_stays_counted() -> None:
    code = "one = child('held = hold(60); burn(0.3); pause()'); pause(); end(one); pause()"
    with running(code) as program:
        meter = Meter(program.pid)
        alive = meter.read()
        program.go_on()
        ended = meter.read()
    assert ended.cpu_s >= alive.cpu_s > 0.3
    assert ended.rss_bytes < alive.rss_bytes - 50 * MB
    assert ended.peak_bytes == alive.peak_bytes


def test_the_peak_is_what_all_held_together() -> None:
    code = "one = child('held = hold(60); pause()'); held = hold(100); pause()"
    with running(code) as program:
        assert Meter(program.pid).read().peak_bytes > 160 * MB


def test_half_of_four_cores_is_a_share_of_one_half() -> None:
    before, after = Reading(100.0, 7.0, 0, 0), Reading(110.0, 27.0, 0, 0)
    assert cpu_share(before, after, 4) == pytest.approx(0.5)


def test_no_time_has_no_share_and_what_was_lost_of_a_child_is_not_less_than_nothing() -> None:
    reading = Reading(100.0, 7.0, 0, 0)
    assert cpu_share(reading, reading, 4) == 0
    assert cpu_share(reading, Reading(101.0, 6.0, 0, 0), 4) == 0


def test_a_process_that_has_ended_is_said_to_be_gone() -> None:
    with running("pause()") as program:
        meter = Meter(program.pid)
        assert meter.read().rss_bytes > MB
        program.finish()
        with pytest.raises(ProcessGone, match=rf"no process {program.pid} any more"):
            meter.read()
        with pytest.raises(ProcessGone):
            Meter(program.pid)


def test_a_process_that_nobody_has_waited_for_yet_is_gone_too() -> None:
    with running("pause()") as program:
        meter = Meter(program.pid)
        os.kill(program.pid, signal.SIGKILL)
        while psutil.Process(program.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        with pytest.raises(ProcessGone):
            meter.read()
