import gc
import threading
import time

import numpy as np
import pytest

from backends.server.kernels import Kernels, Program
from tests.backends.server.kernels.steps import RoundedRows
from tests.backends.server.kernels.test_rows import _norm_arguments


def _chain(kernels: Kernels, length: int) -> tuple[Program, np.ndarray, list[RoundedRows]]:
    """Steps that each need what the one before has left: layer norms of the same rows."""
    source = np.random.default_rng(0).normal(0, 1, (40, 64)).astype(np.float32)
    outs = [RoundedRows(40, 64) for _ in range(length)]
    index = np.arange(40, dtype=np.int32)
    steps = [
        kernels.step("layer_norm", _norm_arguments(source, index, out, keep=1.5), 40)
        for out in outs
    ]
    return Program(steps), source, outs


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_each_step_waits_for_the_one_before(kernels: Kernels, threads: int) -> None:
    expected, first, _ = _chain(kernels, 200)
    kernels.threads(1).run(expected)
    program, source, _ = _chain(kernels, 200)
    kernels.threads(threads).run(program)
    np.testing.assert_array_equal(source, first)


def test_a_program_runs_in_parts(kernels: Kernels) -> None:
    whole, expected, _ = _chain(kernels, 12)
    kernels.threads(2).run(whole)
    program, source, _ = _chain(kernels, 12)
    threads = kernels.threads(2)
    for start in range(0, len(program), 5):
        threads.run(program, start, start + 5)
    np.testing.assert_array_equal(source, expected)


def test_programs_run_again_and_again(kernels: Kernels) -> None:
    program, source, outs = _chain(kernels, 3)
    start, threads = source.copy(), kernels.threads(3)
    results = []
    for _ in range(300):
        source[:] = start
        threads.run(program)
        results.append(outs[-1].numbers.copy())
    assert all((result == results[0]).all() for result in results)


def test_how_much_there_is_to_do_may_change_between_runs(kernels: Kernels) -> None:
    source = np.ones((4, 64), np.float32)
    out, count = RoundedRows(4, 64), np.array([2])
    arguments = _norm_arguments(source, np.arange(4, dtype=np.int32), out)
    program = Program([kernels.step("rms_norm", arguments, count)])
    threads = kernels.threads(2)
    threads.run(program)
    assert out.scales.any(axis=1).tolist() == [True, True, False, False]
    count[0] = 4
    threads.run(program)
    assert out.scales.any(axis=1).all()


def test_python_goes_on_while_a_program_runs(kernels: Kernels) -> None:
    program, _, _ = _chain(kernels, 20_000)
    threads, done = kernels.threads(1), threading.Event()

    def run() -> None:
        threads.run(program)
        done.set()

    runner = threading.Thread(target=run)
    runner.start()
    turns = 0
    while not done.is_set():
        turns += 1
        time.sleep(0)
    runner.join()
    assert turns > 10


def test_threads_that_nobody_needs_any_more_end(kernels: Kernels) -> None:
    before = threading.active_count()
    threads = kernels.threads(4)
    assert threading.active_count() == before + 3
    del threads
    gc.collect()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_a_step_wants_the_kernels_arguments(kernels: Kernels) -> None:
    with pytest.raises(TypeError, match="look_up wants other arguments: columns, ids, out"):
        kernels.step("look_up", {"weights": 0, "row_scales": 0}, 1)
