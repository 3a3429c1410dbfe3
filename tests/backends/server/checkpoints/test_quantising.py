"""The quantised forms, against their definition in numpy's float64."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from backends.server.checkpoints import quantising
from backends.server.checkpoints.precision import INT4_GROUP
from backends.server.checkpoints.quantising import (
    PlainTensor,
    QuantisedMatrix,
    quantised,
    quantised_matrix,
)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _weight(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return (torch.randn(rows, columns, generator=random) / 30).to(dtype)


def _values(matrix: QuantisedMatrix) -> NDArray[Any]:
    """The weights that it stands for, float64."""
    rows, columns = matrix.shape
    scales = matrix.scales().double().numpy().reshape(rows, -1, 1)
    numbers = matrix.numbers().numpy().reshape(rows, scales.shape[1], -1)
    values: NDArray[Any] = (numbers * scales).reshape(rows, columns)
    return values


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), columns=st.integers(1, 70), dtype=st.sampled_from(DTYPES))
def test_eight_bits_are_off_by_half_a_step_of_their_row_at_most(
    rows: int, columns: int, dtype: torch.dtype
) -> None:
    weight = _weight(rows, columns, dtype=dtype)
    matrix = quantised_matrix("a", weight, 8)
    exact = weight.double().numpy()
    step = np.abs(exact).max(axis=1, keepdims=True) / 127
    numbers, scales = matrix.numbers(), matrix.scales()
    assert (numbers.dtype, tuple(numbers.shape)) == (torch.int8, (rows, columns))
    assert (scales.dtype, tuple(scales.shape)) == (torch.float32, (rows,))
    np.testing.assert_allclose(scales, step[:, 0], rtol=1e-6)
    assert (np.abs(numbers.numpy()).max(axis=1) == 127).all()
    assert (np.abs(_values(matrix) - exact) <= step * (0.5 + 1e-4)).all()


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), groups=st.integers(1, 4), dtype=st.sampled_from(DTYPES))
def test_four_bits_are_off_by_a_step_of_their_group_at_most(
    rows: int, groups: int, dtype: torch.dtype
) -> None:
    weight = _weight(rows, groups * INT4_GROUP, dtype=dtype)
    matrix = quantised_matrix("a", weight, 4)
    exact = weight.double().numpy().reshape(rows, groups, INT4_GROUP)
    numbers, scales = matrix.numbers(), matrix.scales()
    assert (numbers.dtype, numbers.shape) == (torch.int8, weight.shape)
    assert (scales.dtype, tuple(scales.shape)) == (torch.float16, (rows, groups))
    assert -8 <= int(numbers.min()) <= int(numbers.max()) <= 7
    largest = np.take_along_axis(exact, np.abs(exact).argmax(axis=2)[..., None], axis=2)
    np.testing.assert_allclose(scales, largest[..., 0] / -8, rtol=1e-3)
    values = _values(matrix).reshape(exact.shape)
    # The largest is -8 steps; 8 steps on the other side are cut to 7.
    assert (np.abs(values - exact) <= np.abs(largest) / 8 * 1.01).all()
    assert np.abs(values - exact).mean() < np.abs(largest).mean() / 8 * 0.3


@pytest.mark.parametrize("bits", [8, 4])
def test_numbers_that_fit_are_kept_exactly(bits: int) -> None:
    most = 2 ** (bits - 1) - 1
    numbers = torch.randint(-most, most + 1, (6, 64))
    numbers[:, ::INT4_GROUP] = -8 if bits == 4 else 127
    matrix = quantised_matrix("a", numbers * 0.25, bits)
    np.testing.assert_allclose(_values(matrix), numbers * 0.25, rtol=1e-6)


@pytest.mark.parametrize("bits", [8, 4])
def test_rows_of_zeros_stay_zeros(bits: int) -> None:
    weight = _weight(4, 64)
    weight[1:3] = 0
    matrix = quantised_matrix("a", weight, bits)
    assert not matrix.numbers()[1:3].any()
    assert not _values(matrix)[1:3].any()


@pytest.mark.parametrize("bits", [8, 4])
def test_large_matrices_are_quantised_in_pieces_to_the_same_numbers(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = _weight(50, 64)
    whole = quantised_matrix("a", weight, bits)
    numbers, scales = whole.numbers(), whole.scales()
    # So that a small matrix is a large one.
    monkeypatch.setattr(quantising, "_CHUNK", 300)
    assert torch.equal(whole.numbers(), numbers)
    assert torch.equal(whole.scales(), scales)


def test_tensors_are_quantised_where_it_is_wanted_and_plain_elsewhere() -> None:
    tensors = {"a.weight": _weight(4, 64).bfloat16(), "a.bias": torch.ones(4).half()}
    wanted = {"a.weight": 4, "a.bias": None}
    matrix, bias = quantised(tensors.items(), wanted.__getitem__)
    assert isinstance(matrix, QuantisedMatrix)
    assert (matrix.name, matrix.bits, matrix.shape) == ("a", 4, (4, 64))
    assert isinstance(bias, PlainTensor)
    assert (bias.name, bias.shape, bias.values().dtype) == ("a.bias", (4,), torch.float32)
