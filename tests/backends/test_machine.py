import os
import platform
from pathlib import Path

import psutil

from backends.cores import usable_cores
from backends.machine import memory_bytes, said_of_cpu, this_machine

CPU_INFO = """processor\t: 0
vendor_id\t: GenuineIntel
model\t\t: 207
model name\t: INTEL(R) XEON(R) PLATINUM 8581C CPU @ 2.10GHz
flags\t\t: fpu avx2

processor\t: 1
model name\t: another
"""


def test_this_machine_is_described_by_what_the_system_says_of_it() -> None:
    machine = this_machine()
    assert machine.cpu
    assert machine.cores == usable_cores() <= (os.cpu_count() or 1)
    assert 2**28 < machine.memory_bytes <= psutil.virtual_memory().total
    assert machine.system.startswith(platform.system())
    assert machine.versions["Python"] == platform.python_version()


def test_the_versions_are_those_of_what_computes() -> None:
    assert {"torch", "numpy", "llvmlite", "transformers"} <= set(this_machine().versions)


def test_the_first_cores_words_are_taken_by_their_whole_name(tmp_path: Path) -> None:
    about = tmp_path / "cpuinfo"
    about.write_text(CPU_INFO)
    assert said_of_cpu("model name", about) == "INTEL(R) XEON(R) PLATINUM 8581C CPU @ 2.10GHz"
    assert said_of_cpu("model", about) == "207"
    assert said_of_cpu("bogomips", about) == ""


def test_a_system_without_such_a_file_says_nothing(tmp_path: Path) -> None:
    assert said_of_cpu("model name", tmp_path / "none") == ""


def test_a_container_has_no_more_memory_than_its_limit(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("1000000000\n")
    assert memory_bytes(limit) == 1_000_000_000
    total = psutil.virtual_memory().total
    limit.write_text("max\n")
    assert memory_bytes(limit) == total
    limit.write_text(f"{2 * total}\n")
    assert memory_bytes(limit) == memory_bytes(tmp_path / "none") == total
