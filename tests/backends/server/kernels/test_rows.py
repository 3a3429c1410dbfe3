import math

import numpy as np
import pytest
from numpy.typing import NDArray

from backends.server.kernels import GROUP, INT8, Argument, Kernels, pack
from tests.backends.server.kernels.steps import RoundedRows, run

EPSILON = 1e-5


def _norm_arguments(
    source: NDArray[np.float32], index: NDArray[np.int32], out: RoundedRows, keep: float = 1.0
) -> dict[str, Argument]:
    width = source.shape[1]
    random = np.random.default_rng(width)
    weight, bias = np.ones(width), np.zeros(width)
    weight += random.normal(0, 0.1, width)
    bias += random.normal(0, 0.1, width)
    return {
        "source": source,
        "index": index,
        "width": width,
        "weight": weight.astype(np.float32),
        "bias": bias.astype(np.float32),
        "epsilon": EPSILON,
        "keep": keep,
        **out.arguments,
    }


def _assert_rounds(rounded: RoundedRows, exact: NDArray[np.float64]) -> None:
    """Each number is the nearest, in steps of a 127th of its group's largest."""
    groups = exact.reshape(len(exact), -1, GROUP)
    peaks = abs(groups).max(axis=2)
    np.testing.assert_allclose(rounded.scales, peaks / 127, rtol=1e-5, atol=1e-12)
    errors = abs(rounded.values - exact).reshape(groups.shape) / peaks[..., None]
    assert errors.max() < 0.5 / 127 + 1e-5
    sums = rounded.numbers.reshape(groups.shape).sum(axis=2, dtype=np.int64)
    np.testing.assert_array_equal(rounded.sums, -sums)


@pytest.mark.parametrize("width", [32, 96, 1024])
def test_rms_norm_divides_by_the_root_of_the_mean_square(kernels: Kernels, width: int) -> None:
    source = np.random.default_rng(0).normal(0, 3, (5, width)).astype(np.float32)
    before, out = source.copy(), RoundedRows(3, width)
    arguments = _norm_arguments(source, np.array([4, 0, 2], np.int32), out)
    run(kernels, "rms_norm", arguments, 3)
    rows = source[[4, 0, 2]].astype(np.float64)
    expected = rows / np.sqrt((rows**2).mean(axis=1, keepdims=True) + EPSILON)
    _assert_rounds(out, expected * arguments["weight"])
    np.testing.assert_array_equal(source, before)


@pytest.mark.parametrize("width", [32, 96, 1024])
def test_layer_norm_leaves_its_result_times_a_factor(kernels: Kernels, width: int) -> None:
    source = np.random.default_rng(1).normal(5, 3, (4, width)).astype(np.float32)
    rows, out = source.astype(np.float64), RoundedRows(4, width)
    arguments = _norm_arguments(source, np.arange(4, dtype=np.int32), out, keep=7.5)
    run(kernels, "layer_norm", arguments, 4)
    centred = rows - rows.mean(axis=1, keepdims=True)
    alike = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON)
    expected = alike * arguments["weight"] + arguments["bias"]
    _assert_rounds(out, expected)
    np.testing.assert_allclose(source, expected * 7.5, rtol=1e-4, atol=1e-5)


def test_zeros_are_rounded_to_zeros(kernels: Kernels) -> None:
    out = RoundedRows(1, 64)
    out.numbers[:], out.scales[:] = 5, np.nan
    arguments = _norm_arguments(np.zeros((1, 64), np.float32), np.zeros(1, np.int32), out)
    run(kernels, "rms_norm", arguments, 1)
    assert not out.numbers.any()
    assert not out.scales.any()
    assert not out.sums.any()


# Where exp leaves its range, too.
NUMBERS = (*np.linspace(-12, 12, 57), -500.0, -88.0, -1e-30, 0.0, 1e-30, 88.0, 500.0)


def _gate(kernels: Kernels, name: str, source: NDArray[np.float32], columns: int) -> RoundedRows:
    out = RoundedRows(len(source), columns)
    groups = columns // GROUP
    arguments: dict[str, Argument] = {
        "source": source,
        "width": source.shape[1],
        "in_chunk": 2,
        "row_chunks": -(-groups // 2),
        **out.arguments,
    }
    run(kernels, name, arguments, len(source) * -(-groups // 2))
    return out


def test_gates_let_through_what_their_sigmoid_says(kernels: Kernels) -> None:
    gates = np.array([NUMBERS + (1.0,) * 32] * 2, np.float64)
    random = np.random.default_rng(2)
    through = random.normal(0, 1, gates.shape)
    out = _gate(kernels, "silu_gate", np.hstack((gates, through)).astype(np.float32), 96)
    with np.errstate(over="ignore"):
        _assert_rounds(out, gates / (1 + np.exp(-gates)) * through.astype(np.float32))


def test_gelu_is_the_form_with_tanh(kernels: Kernels) -> None:
    values = np.array([NUMBERS + (1.0,) * 32], np.float64)
    out = _gate(kernels, "gelu", values.astype(np.float32), 96)
    inner = math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)
    _assert_rounds(out, values / 2 * (1 + np.tanh(inner)))


def test_the_embedding_gives_the_rows_that_were_packed(kernels: Kernels) -> None:
    random = np.random.default_rng(3)
    numbers = random.integers(-128, 128, (40, 64)).astype(np.int8)
    scales = random.random(48).astype(np.float32)
    ids = np.array([39, 0, 17, 17], np.int32)
    out = np.zeros((4, 64), np.float32)
    arguments: dict[str, Argument] = {
        "ids": ids,
        "weights": pack(numbers, INT8),
        "row_scales": scales,
        "columns": 64,
        "out": out,
    }
    run(kernels, "look_up", arguments, 4)
    np.testing.assert_array_equal(out, numbers[ids] * scales[ids][:, None])
