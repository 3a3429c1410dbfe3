"""What the figures were measured on, with what matters to compiled peers. Measures nothing."""

import os
import subprocess
from dataclasses import dataclass

from backends import machine, measurement
from backends.machine import said_of_cpu

_FLAGS = (
    *("avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512bw", "avx512vl"),
    *("avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
)


@dataclass(frozen=True, kw_only=True)
class Machine(measurement.Machine):
    """A description of this machine.

    Attributes:
        cpu_numbers: Family, model and stepping: the name alone may say little in a virtual machine.
        flags: Those of its instruction sets that matter here.
        load: Load average of the last minute, before anything was run: what else the machine did.
    """

    cpu_numbers: str
    flags: tuple[str, ...]
    load: float


def this_machine() -> Machine:
    """Describe the machine that this runs on."""
    here = machine.this_machine()
    present = set(said_of_cpu("flags").split())
    return Machine(
        cpu=here.cpu,
        cores=here.cores,
        memory_bytes=here.memory_bytes,
        system=here.system,
        versions={**here.versions, "gcc": _gcc()},
        cpu_numbers="/".join(said_of_cpu(name) for name in ("cpu family", "model", "stepping")),
        flags=tuple(flag for flag in _FLAGS if flag in present),
        load=os.getloadavg()[0],
    )


def _gcc() -> str:
    try:
        said = subprocess.run(
            ["gcc", "-dumpfullversion"], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "none"
    return said.stdout.strip()
