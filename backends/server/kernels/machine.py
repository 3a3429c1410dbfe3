"""Turns written kernels into machine code of this process.

Takes a third of a second, keeps nothing on disk and needs no compiler: LLVM comes with llvmlite.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import llvmlite.binding as llvm
from llvmlite import ir

from backends.server.kernels.cpu import Level

# A generation of x86 that has every level's instructions but the ones that are added.
_GENERATION = "x86-64-v3"


class MachineCode:
    """A compiled module; its functions live as long as it does.

    Args:
        module: what was written.
        level: for which CPUs.
    """

    def __init__(self, module: ir.Module, level: Level) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple()
        # Below the best, nothing that the level doesn't name: it must run where only that is there.
        newest = "avx512f" in level.features
        machine = target.create_target_machine(
            cpu=llvm.get_host_cpu_name() if newest else _GENERATION,
            features=",".join([*(f"+{name}" for name in level.features), "-prefer-256-bit"]),
            opt=3,
            jit=True,
        )
        module.triple = llvm.get_process_triple()
        module.data_layout = str(machine.target_data)
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        tuning = llvm.create_pipeline_tuning_options(speed_level=2)
        # The kernels are vectors already, and unrolled where that helps.
        tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = False
        passes = llvm.create_pass_builder(machine, tuning)
        passes.getModulePassManager().run(parsed, passes)
        self._engine = llvm.create_mcjit_compiler(parsed, machine)
        self._engine.finalize_object()

    def function(self, name: str, parameters: Sequence[type]) -> Callable[..., None]:
        """A native function; while it runs, Python's other threads do too."""
        address = self._engine.get_function_address(name)
        return ctypes.CFUNCTYPE(None, *parameters)(address)
