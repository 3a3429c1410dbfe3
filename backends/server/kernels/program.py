"""Runs a list of kernels with all threads, as one native call.

A step names a kernel, its arguments and how many chunks its work has. Threads take chunks as they
come, so that one that is held up by other programs doesn't hold up the rest, and wait for each
other after every step without sleeping; between runs they sleep. Knows no kernel.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from backends.server.kernels.emit import I32, I64, POINTER, Function, Value
from backends.server.kernels.kernel import PARAMETERS, Step, as_64_bits
from backends.server.kernels.machine import MachineCode

# Places in the memory that the threads share, in numbers of 64 bits. What is written often has a
# line of the cache for itself.
_STEPS, _COUNT, _THREADS, _TICKET, _ARRIVED, _ROUND, _ENDED = 0, 1, 2, 8, 16, 24, 32
_SHARED_SIZE = 40
_STEP_SIZE = 3
# Longer than other threads usually take; then other programs may have this core.
_SPINS = 4096


def write_runner(module: ir.Module, kernels: Sequence[str]) -> None:
    """Writes the functions ``run`` and ``work`` for kernels that are in the module already."""
    _write_run(module, kernels)
    _write_work(module)


def _write_run(module: ir.Module, kernels: Sequence[str]) -> None:
    function = Function(module, "run", (POINTER, I64))
    shared, thread = function.parameters
    steps = Value(function, function.build.inttoptr(shared.load(I64, _STEPS).raw, POINTER))
    with function.loop(0, shared.load(I64, _COUNT)) as number:
        kernel = steps.load(I64, number * _STEP_SIZE)
        arguments = steps.load(POINTER, number * _STEP_SIZE + 1)
        chunks = steps.load(POINTER, number * _STEP_SIZE + 2).load(I64)
        ticket = shared.at(_TICKET * 8)
        chunk = function.variable(function.atomic_add(ticket, 1))
        with function.repeat_while(lambda: chunk.value < chunks):
            function.switch(
                kernel,
                [_caller(function, name, arguments, chunk.value, thread) for name in kernels],
            )
            chunk.set(function.atomic_add(ticket, 1))
        _write_barrier(function, shared)
    function.finish()


def _caller(
    function: Function, name: str, arguments: Value, chunk: Value, thread: Value
) -> Callable[[], None]:
    kernel = function.declared(name, ir.FunctionType(ir.VoidType(), PARAMETERS))
    return lambda: function.build.call(kernel, [arguments.raw, chunk.raw, thread.raw])


def _write_barrier(function: Function, shared: Value) -> None:
    """Waits until every thread is here; the last one gets the next step ready."""
    threads = shared.load(I64, _THREADS)
    arrived, current = shared.at(_ARRIVED * 8), shared.at(_ROUND * 8)
    before = function.atomic_load(current)
    mine = function.atomic_add(arrived, 1)
    is_last = mine.equals(threads - 1)
    with function.build.if_else(is_last.raw) as (last, others):
        with last:
            zero = function.whole(0)
            function.atomic_store(shared.at(_TICKET * 8), zero)
            function.atomic_store(arrived, zero)
            function.atomic_store(current, before + 1)
        with others:
            _write_wait(function, current, before)


def _write_wait(function: Function, place: Value, value: Value) -> None:
    """Waits until a number in memory is another."""
    spins = function.variable(function.whole(0))
    pause = function.declared("llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), []))
    give_way = function.declared("sched_yield", ir.FunctionType(I32, []))
    with function.repeat_while(lambda: function.atomic_load(place).equals(value)):
        function.build.call(pause, [])
        spins.set(spins.value + 1)
        with function.when(spins.value > _SPINS):
            function.build.call(give_way, [])


def _write_work(module: ir.Module) -> None:
    """What a helping thread does: sleep, run, and so on until it is told to end."""
    function = Function(module, "work", (POINTER, POINTER, I64))
    shared, bell, thread = function.parameters
    wait = function.declared("sem_wait", ir.FunctionType(I32, [POINTER]))
    run = function.declared("run", ir.FunctionType(ir.VoidType(), [POINTER, I64]))
    going = function.variable(function.whole(1))
    with function.repeat_while(lambda: going.value > 0):
        # Not 0: a signal woke it.
        woken = Value(function, function.build.call(wait, [bell.raw]))
        with function.when(woken.equals(0)):
            going.set(1 - function.atomic_load(shared.at(_ENDED * 8)))
            with function.when(going.value > 0):
                function.build.call(run, [shared.raw, thread.raw])
    function.finish()


class Program:
    """Steps whose addresses are settled; keeps their arrays alive.

    Args:
        steps: in their order.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._kept = list(steps)
        self._arguments = [
            np.array([as_64_bits(value) for value in step.arguments], np.uint64) for step in steps
        ]
        self.table = np.array(
            [
                [step.kernel, arguments.ctypes.data, step.chunks.ctypes.data]
                for step, arguments in zip(steps, self._arguments, strict=True)
            ],
            np.uint64,
        ).reshape(-1, _STEP_SIZE)

    def __len__(self) -> int:
        return len(self._kept)

    def point(self, step: int, argument: int, array: NDArray[Any]) -> None:
        """Makes one argument of a step another array, which the caller keeps alive."""
        self._arguments[step][argument] = array.ctypes.data


class Threads:
    """The threads that run programs: the one that calls, and helpers that sleep in between.

    Args:
        code: has the functions of ``write_runner``.
        count: how many, at least 1.
    """

    def __init__(self, code: MachineCode, count: int) -> None:
        self.count = count
        self._code = code
        self._run = code.function("run", (ctypes.c_void_p, ctypes.c_int64))
        self._shared = np.zeros(_SHARED_SIZE, np.int64)
        self._shared[_THREADS] = count
        # As large as any system's semaphore.
        self._bell = np.zeros(16, np.int64)
        self._bell_place = ctypes.c_void_p(self._bell.ctypes.data)
        self._library = ctypes.CDLL(None, use_errno=True)
        self._library.sem_init(self._bell_place, 0, 0)
        work = code.function("work", (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64))
        for number in range(1, count):
            # The arrays are held by the call itself as long as it lasts.
            threading.Thread(
                target=_work,
                args=(work, self._shared, self._bell, code, number),
                name=f"kernels-{number}",
                daemon=True,
            ).start()
        self._end = weakref.finalize(self, _ring, self._library, self._shared, self._bell, count)

    def run(self, program: Program, start: int = 0, stop: int | None = None) -> None:
        """Runs a program, or some of its steps. Must not be called by two threads at once."""
        steps = program.table[start:stop]
        self._shared[_STEPS] = steps.ctypes.data
        self._shared[_COUNT] = len(steps)
        for _ in range(1, self.count):
            self._library.sem_post(self._bell_place)
        self._run(self._shared.ctypes.data, 0)


def _work(
    work: Callable[..., None], shared: NDArray[Any], bell: NDArray[Any], _code: object, number: int
) -> None:
    work(shared.ctypes.data, bell.ctypes.data, number)


def _ring(library: ctypes.CDLL, shared: NDArray[Any], bell: NDArray[Any], count: int) -> None:
    """Ends the helpers."""
    shared[_ENDED] = 1
    for _ in range(1, count):
        library.sem_post(ctypes.c_void_p(bell.ctypes.data))
