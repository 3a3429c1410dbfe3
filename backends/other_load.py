"""What all other programs take of the cores that this process may use.

Whoever measures must know it: what others take is missing to what is measured. Time that a host
gives to its other machines ("steal") counts as taken. Doesn't say whose it is.
"""

import os

import psutil

from backends.cores import usable_cores

_IDLE = ("idle", "iowait", "guest", "guest_nice")  # a guest's time is in "user" as well


def busy_s() -> float:
    """Return how many seconds the usable cores have worked for anybody but this process so far."""
    own = psutil.Process().cpu_times()
    cores = psutil.cpu_times(percpu=True)
    usable = _usable()
    times = cores if usable is None else [cores[place] for place in usable if place < len(cores)]
    worked = sum(sum(one) - sum(getattr(one, name, 0.0) for name in _IDLE) for one in times)
    return float(worked - own.user - own.system)


def _usable() -> set[int] | None:
    """Return the places of the usable cores; None: of all."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def share_of_others(others_s: float, passed_s: float) -> float:
    """Return the share of the usable cores, 0 to 1, that `others_s` of work in `passed_s` is."""
    return max(0.0, others_s) / (passed_s * usable_cores()) if passed_s > 0 else 0.0
