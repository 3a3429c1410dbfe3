"""What other programs take of the cores, beside a program that is known to take one of them."""

import subprocess
import sys
import time

import psutil

from backends.cores import usable_cores
from backends.other_load import busy_s, share_of_others

BURN = "while True: pass"


def test_a_program_that_takes_a_core_is_seen_as_others_and_this_process_is_not() -> None:
    with subprocess.Popen([sys.executable, "-c", BURN]) as burner:
        try:
            process = psutil.Process(burner.pid)
            before_s, began = busy_s(), process.cpu_times()
            until_s = time.monotonic() + 1.0
            while time.monotonic() < until_s:  # as busy as the other
                pass
            taken_s, ended = busy_s() - before_s, process.cpu_times()
        finally:
            burner.kill()
    burnt_s = ended.user + ended.system - began.user - began.system
    assert burnt_s > 0.1
    assert taken_s > 0.9 * burnt_s  # others may work here as well
    assert taken_s < 1.2 * usable_cores() - 0.2  # this process had its share


def test_a_share_is_of_all_usable_cores_and_never_below_nothing() -> None:
    assert share_of_others(usable_cores() * 0.5, 1.0) == 0.5
    assert share_of_others(-0.01, 1.0) == 0.0
    assert share_of_others(1.0, 0.0) == 0.0
