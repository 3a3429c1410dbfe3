"""What figures were measured on: CPU, memory, system, versions. Measures nothing."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from backends.cores import usable_cores
from backends.measurement import Machine

_PACKAGES = ("torch", "numpy", "llvmlite", "transformers")
_CPU_INFO = Path("/proc/cpuinfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def this_machine() -> Machine:
    """Describe the machine, or the container, that this runs on."""
    return Machine(
        cpu=said_of_cpu("model name") or platform.processor() or platform.machine(),
        cores=usable_cores(),
        memory_bytes=memory_bytes(),
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        versions={"Python": platform.python_version(), **_packages()},
    )


def said_of_cpu(name: str, cpu_info: Path = _CPU_INFO) -> str:
    """Return what the system says of the first core under this name; "" where it says nothing."""
    try:
        about = cpu_info.read_text()
    except OSError:  # not Linux
        return ""
    found = re.search(rf"^{re.escape(name)}\s*: (.*)$", about, re.MULTILINE)
    return found.group(1).strip() if found else ""


def memory_bytes(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Return how much memory there is: the machine's, or what its container may use of it."""
    total = int(psutil.virtual_memory().total)
    try:
        return min(total, int(cgroup_limit.read_text()))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return total


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
