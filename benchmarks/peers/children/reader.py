"""The read-bandwidth limit: how fast some threads together can load memory and do nothing with it.

    python -m benchmarks.peers.children.reader THREADS

One loop made at run time: neighbouring 64-byte loads, folded by exclusive or. The buffer is many
times larger than any cache. The best of some passes counts: this is what the memory can do.
"""

import ctypes
import mmap
import sys
import threading
import time
from collections.abc import Mapping

import numpy as np
from llvmlite import binding as llvm

from benchmarks.peers.children.commands import Command, serve

_BYTES = 2**30
_PASSES = 5
_LANES = 8  # loads under way at a time
_LOAD = 64
_STEP = _LANES * _LOAD


class Reader:
    """A buffer, and native code that reads it.

    Args:
        threads: How many read, each a part of its own.
        size: Of the buffer in bytes.
    """

    def __init__(self, threads: int, size: int = _BYTES) -> None:
        self._engine = _compiled(_source())
        address = self._engine.get_function_address("read")
        self._read = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int64)(address)
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.numbers = np.frombuffer(memory, dtype=np.uint64)
        self.numbers[:] = 1  # pages that were never written to are all the same page of zeros
        self._threads = threads

    def read(self, megabytes: int) -> float:
        """Gigabytes a second, over the first so many megabytes, or all that there are."""
        wanted = min(megabytes * 10**6, self.numbers.nbytes)
        part = wanted // self._threads // _STEP * _STEP
        return max(self._threads * part / self._pass(part) for _ in range(_PASSES)) / 1e9

    def folded(self, start: int, length: int) -> int:
        """The exclusive or of all numbers in a part, both sizes in bytes."""
        return int(self._read(self.numbers.ctypes.data + start, length))

    def _pass(self, part: int) -> float:
        starts = [number * part for number in range(self._threads)]
        readers = [threading.Thread(target=self.folded, args=(start, part)) for start in starts]
        begun = time.perf_counter()
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        return time.perf_counter() - begun


def _source() -> str:
    """The loop in LLVM's language: `read(pointer, bytes)`."""
    lanes = range(_LANES)
    lines = [
        "define i64 @read(ptr %from, i64 %bytes) {",
        "entry: br label %loop",
        "loop: %at = phi i64 [0, %entry], [%next, %loop]",
        *(f"%old{n} = phi <8 x i64> [zeroinitializer, %entry], [%new{n}, %loop]" for n in lanes),
        "%here = getelementptr i8, ptr %from, i64 %at",
    ]
    for n in lanes:
        lines += [
            f"%line{n} = getelementptr i8, ptr %here, i64 {n * _LOAD}",
            f"%loaded{n} = load <8 x i64>, ptr %line{n}, align {_LOAD}",
            f"%new{n} = xor <8 x i64> %old{n}, %loaded{n}",
        ]
    lines += [
        f"%next = add i64 %at, {_STEP}",
        "%more = icmp ult i64 %next, %bytes",
        "br i1 %more, label %loop, label %end",
        "end: %sum0 = add <8 x i64> %new0, zeroinitializer",
        *(f"%sum{n} = xor <8 x i64> %sum{n - 1}, %new{n}" for n in lanes[1:]),
        "%folded = call i64 @llvm.vector.reduce.xor.v8i64(<8 x i64> %sum" + f"{_LANES - 1})",
        "ret i64 %folded }",
        "declare i64 @llvm.vector.reduce.xor.v8i64(<8 x i64>)",
    ]
    return "\n".join(lines)


def _compiled(source: str) -> llvm.ExecutionEngine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(source), machine)
    engine.finalize_object()
    return engine


def load() -> Mapping[str, Command]:
    """Make the buffer that the command line names."""
    return {"read": Reader(int(sys.argv[1])).read}


if __name__ == "__main__":
    serve(load, time.perf_counter)
