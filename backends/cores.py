"""How many CPU cores this process may use, and how they are shared among model servers.

Counts what the operating system grants, not what the machine has; knows nothing of load.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path

from backends.catalog import Model

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Return the number of cores, at least 1, by affinity and container limit."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    # In a container `cpu_count` is the host's: 16 threads on a quota of 2 cores stall each other.
    try:
        quota, period = cgroup_limit.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return max(1, cores)


def threads_per_server(models: Iterable[Model], cores: int | None = None) -> int:
    """Return how many threads each local server of `models` gets, at least 1."""
    local = sum(model.endpoint_url is None for model in models)
    return max(1, (cores or usable_cores()) // max(1, local))
