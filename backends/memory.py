"""How much memory models need and how much is free, estimated before anything is loaded.

The need is that of one model server: its process, its weights as it keeps them, and what a first
load and a conversation take beside. Measures no running model, and loads none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from backends.amounts import bytes_text
from backends.catalog import Model

_GB = 1_000_000_000
_CGROUP = Path("/sys/fs/cgroup")
_CPU = Path("/proc/cpuinfo")

# Python, torch and transformers with no weights: 0.4 to 0.5 GB (2026-11-22, Linux, torch 2.13).
_PROCESS_BYTES = _GB // 2
# Beside the weights: keys and values of a conversation, one layer's work, a first conversion. With
# one question answered ChatGLM-6B int4 took 4.6 GB and Qwen1.5-0.5B 1.5 GB (`make bench-weights`).
_BESIDE = 0.1
_LARGE = 100_000_000
"""More 16-bit weights than this are kept as they are; see `backends.server.precision`."""


class DoesNotFit(Exception):  # noqa: N818 -- reads as what it is
    """Models need more memory than is free; `fit` has the figures."""

    def __init__(self, fit: "Fit") -> None:
        each = ", ".join(f"{name} {bytes_text(need)}" for name, need in fit.per_model if need)
        super().__init__(
            f"Not enough memory: {bytes_text(fit.needed_bytes)} needed ({each}), "
            f"{bytes_text(fit.free_bytes)} free. Close other programs, choose smaller models, or "
            "load them all the same (--force): then the system may end one of them."
        )
        self.fit = fit


@dataclass(frozen=True)
class Fit:
    """What models need against what is free.

    Attributes:
        per_model: Title and bytes of each; 0 where nothing tells before its files are there.
        free_bytes: What the system can give to new processes.
    """

    per_model: tuple[tuple[str, int], ...]
    free_bytes: int

    @property
    def needed_bytes(self) -> int:
        """What they need together."""
        return sum(need for _, need in self.per_model)

    @property
    def fits(self) -> bool:
        """Whether they can be loaded, as far as is known."""
        return self.needed_bytes <= self.free_bytes

    def check(self) -> None:
        """Raise DoesNotFit unless they fit."""
        if not self.fits:
            raise DoesNotFit(self)


def fit(models: Iterable[Model], given_back: int = 0) -> Fit:
    """Return what `models` need against what is free, `given_back` bytes included."""
    return Fit(
        tuple((model.title, needed_bytes(model)) for model in models), free_bytes() + given_back
    )


def needed_bytes(model: Model) -> int:
    """Return what a server of `model` needs at most; 0 for a remote one, or where nothing tells."""
    weights = _weights_bytes(model)
    return int(_PROCESS_BYTES + weights * (1 + _BESIDE)) if weights else 0


def _weights_bytes(model: Model) -> int:
    """Return the size of the weights as its server keeps them."""
    if not model.local or not model.bits:
        return 0
    if model.bits <= 8:  # stay quantised
        return model.size_bytes
    parameters = model.parameters or model.size_bytes * 8 // model.bits
    short = model.bits == 16 and parameters > _LARGE and _multiplies_bfloat16()
    return parameters * (2 if short else 4)


def _multiplies_bfloat16() -> bool:
    """Whether the CPU says so; where it doesn't say, float32 is the safe guess."""
    try:
        return "bf16" in _CPU.read_text()
    except OSError:
        return False


def free_bytes(cgroup: Path = _CGROUP) -> int:
    """Return what the system, or the container, can give to new processes without swapping."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return available
    reclaimable = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
    return max(0, min(available, limit - used + reclaimable))


def private_bytes(pid: int) -> int:
    """Return what a process would give back if it ended; 0 if there is none."""
    try:
        info = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(info.rss - getattr(info, "shared", 0))  # macOS doesn't tell what is shared
