"""What the figures were measured on: CPU, memory, versions. Measures nothing."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_FLAGS = (
    *("avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
)
_PACKAGES = ("torch", "numpy", "llvmlite", "transformers")
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """A description of this machine.

    Attributes:
        cpu: Its name.
        cpu_numbers: Family, model and stepping: the name alone may say little in a virtual machine.
        flags: Those of its instruction sets that matter here.
        cores: How many this process may use.
        memory_bytes: How much there is.
        load: Load average of the last minute, before anything was run: what else the machine did.
        system: Operating system and its version.
        versions: Of what computes.
    """

    cpu: str
    cpu_numbers: str
    flags: tuple[str, ...]
    cores: int
    memory_bytes: int
    load: float
    system: str
    versions: Mapping[str, str]


def this_machine() -> Machine:
    """Describe the machine that this runs on."""
    about = _CPU_INFO.read_text() if _CPU_INFO.exists() else ""
    numbers = "/".join(_said(about, name) for name in ("cpu family", "model", "stepping"))
    present = set(_said(about, "flags").split())
    return Machine(
        cpu=_said(about, "model name") or platform.processor() or platform.machine(),
        cpu_numbers=numbers,
        flags=tuple(flag for flag in _FLAGS if flag in present),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        load=os.getloadavg()[0],
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        versions={"Python": platform.python_version(), **_packages(), "gcc": _gcc()},
    )


def _said(about: str, name: str) -> str:
    """What /proc/cpuinfo says of the first core."""
    found = re.search(rf"^{name}\s*: (.*)$", about, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _gcc() -> str:
    try:
        said = subprocess.run(
            ["gcc", "-dumpfullversion"], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return said.stdout.strip()
