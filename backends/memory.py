"""How much memory models need and how much is free, estimated before anything is loaded.

The need is that of one model server: its process, its weights as it keeps them, what a first load
and an answer take beside, and what it keeps of ended answers. Several long answers at a time may
take more: what a token takes isn't known before the files are there. Measures no running model,
and loads none.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from backends.amounts import bytes_text
from backends.catalog import Model

_GB = 1_000_000_000
_CGROUP = Path("/sys/fs/cgroup")
_CPU = Path("/proc/cpuinfo")

# A server without weights (2026-11-22, Linux, torch 2.13): 0.4 to 0.5 GB where torch computes,
# below 0.2 GB where the kernels made at run time compute.
_TORCH_BYTES = _GB // 2
_NATIVE_BYTES = _GB // 5
# Of what is free once a model is loaded, so much is for the keys and values of ended answers.
_CACHE_SHARE = 8
LEAST_CACHE_BYTES = 256_000_000
"""And so much at least: what counts as needed where nothing else is wanted."""
_MOST_CACHE_BYTES = 2 * _GB
# Beside the weights: keys and values of an answer, one layer's work, a first conversion.
_BESIDE = 0.1
_LARGE = 100_000_000
"""More 16-bit weights than this aren't made 32 bits wide; see `checkpoints.precision`."""
# Bits of a weight, scales included. In int4 the embedding has 8: a large share of a small model.
_BITS = {"float32": 32.0, "bfloat16": 16.0, "int8": 8.1, "int4": 6.0}


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


def fit(
    models: Iterable[Model],
    given_back: int = 0,
    precisions: Sequence[str] = (),
    cache_bytes: int | None = None,
) -> Fit:
    """Return what `models` need against what is free, `given_back` bytes included."""
    needs = ((model.title, needed_bytes(model, precisions, cache_bytes)) for model in models)
    return Fit(tuple(needs), free_bytes() + given_back)


def needed_bytes(
    model: Model, precisions: Sequence[str] = (), cache_bytes: int | None = None
) -> int:
    """Return what a server of `model` needs; 0 for a remote one, or where nothing tells.

    `precisions` are those that are wanted, the first that the weights allow being taken; without
    one that they allow, their own. `cache_bytes` is what each server is told to use for ended
    answers; where it isn't told, it takes more than the least only of what is free then.
    """
    if not model.local or not model.bits:
        return 0
    possible = _possible(model)
    precision = next((one for one in precisions if one in possible), possible[0])
    weights = _parameters(model) * _BITS[precision] / 8
    if model.bits <= 8:  # stay as they are stored
        weights = model.size_bytes
    kept = LEAST_CACHE_BYTES if cache_bytes is None else cache_bytes
    process = _TORCH_BYTES + kept
    if precision in ("int8", "int4") and _kernels_compute():
        # torch converts the weights, once; who converts them holds no conversations yet.
        process = max(_TORCH_BYTES, _NATIVE_BYTES + kept)
    return int(process + weights * (1 + _BESIDE))


def default_cache_bytes(free: int) -> int:
    """Return how much a server may use for ended answers, given what is free beside its model."""
    return min(max(free // _CACHE_SHARE, LEAST_CACHE_BYTES), _MOST_CACHE_BYTES)


def _possible(model: Model) -> tuple[str, ...]:
    """Return in what the model can compute, its own choice first."""
    if model.bits <= 8:
        return f"int{model.bits}", "float32"
    large = model.bits == 16 and _parameters(model) > _LARGE
    if model.family == "qwen2":
        return ("int8" if large else "float32", *_BITS)
    return ("bfloat16" if large and _says("bf16") else "float32", "float32", "bfloat16")


def _parameters(model: Model) -> int:
    return model.parameters or model.size_bytes * 8 // model.bits


def _kernels_compute() -> bool:
    """Whether our own kernels do, with which a server needs no torch."""
    return _says("avx2") and os.environ.get("TWOPANE_KERNELS", "").strip().lower() != "torch"


def _says(feature: str) -> bool:
    """Whether the CPU names a feature; where it names none, the larger need is the safe guess."""
    try:
        return feature in _CPU.read_text()
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
