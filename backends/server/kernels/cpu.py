"""Which kernels this CPU can run, and which of them are used.

Looks at the CPU and at one setting; compiles nothing.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass

import llvmlite.binding as llvm

from backends.server.errors import ServerError

SETTING = "TWOPANE_KERNELS"


@dataclass(frozen=True)
class Level:
    """A set of instructions that the kernels are written for.

    Attributes:
        name: what the setting calls it.
        features: what LLVM calls the instructions; the CPU needs all.
        rows: how many rows of activations a matrix product takes at a time, the most first: as
            many as its sums fit into registers.
    """

    name: str
    features: tuple[str, ...]
    rows: tuple[int, ...]


# Best first. F16C converts float16, which keys, values and scales are stored in.
LEVELS = (
    Level("avx512-vnni", ("avx512f", "avx512bw", "avx512vl", "avx512vnni", "f16c"), (8, 4, 2, 1)),
    Level("avx-vnni", ("avx2", "fma", "f16c", "avxvnni"), (3, 1)),
    Level("avx2", ("avx2", "fma", "f16c"), (3, 1)),
)
TORCH = "torch"
"""The setting's name for no kernels of our own."""


class UnknownLevel(ServerError):  # noqa: N818 - reads as what it is
    """The setting names kernels that don't exist, or that this CPU can't run."""


def possible_levels() -> tuple[Level, ...]:
    """What this CPU can run, best first; nothing where torch has to do it."""
    # Threads are woken through semaphores, as Linux has them.
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return ()
    has = llvm.get_host_cpu_features()
    return tuple(
        level for level in LEVELS if all(has.get(feature, False) for feature in level.features)
    )


def chosen_level() -> Level | None:
    """The best that is possible, or the one that the setting names; None: torch's kernels.

    Raises:
        UnknownLevel: the setting names something else.
    """
    possible = possible_levels()
    wanted = os.environ.get(SETTING, "").strip().lower()
    if not wanted:
        return possible[0] if possible else None
    if wanted == TORCH:
        return None
    for level in possible:
        if level.name == wanted:
            return level
    names = ", ".join([level.name for level in possible] + [TORCH])
    raise UnknownLevel(f"{SETTING} is {wanted!r}, but this CPU has: {names}.")
