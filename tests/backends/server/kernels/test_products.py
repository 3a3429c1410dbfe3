import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backends.server.kernels import (
    GROUP,
    INT4,
    INT4_GROUPED,
    INT8,
    LANES,
    HeadShape,
    Kernels,
    Weights,
    fits,
    pack,
    pack_scales,
    panel_bytes,
    panel_count,
    possible_levels,
    unpack,
)
from tests.backends.server.kernels.steps import RoundedRows, compiled_for, run

FORMS = (INT8, INT4, INT4_GROUPED)
# Odd ones among them: one row, no full panel, one more than a panel; one group of columns.
SHAPES = ((1, 32), (15, 64), (16, 32), (17, 96), (100, 160), (48, 1024), (33, 2816))
ROWS = (1, 2, 3, 5, 11, 12, 13, 30, 97)


class Matrix:
    """A random matrix of whole numbers with scales, packed."""

    def __init__(self, form: Weights, rows: int, columns: int, random: np.random.Generator) -> None:
        lowest, beyond = -(2**form.zero_shift), 2**form.zero_shift
        self.form = form
        self.numbers = random.integers(lowest, beyond, (rows, columns)).astype(np.int8)
        shape = (rows, columns // GROUP) if form.grouped else (rows,)
        kind = np.float16 if form.grouped else np.float32
        self.scales: NDArray[np.floating] = (random.random(shape) - 0.5).astype(kind)
        self.bias = np.zeros(panel_count(rows) * LANES, np.float32)
        self.bias[:rows] = random.random(rows)

    @property
    def values(self) -> NDArray[np.float64]:
        scales = self.scales.astype(np.float64)
        if not self.form.grouped:
            return scales[:, None] * self.numbers
        wide: NDArray[np.float64] = np.repeat(scales, GROUP, axis=1)
        return wide * self.numbers


def _product(
    kernels: Kernels,
    matrix: Matrix,
    given: RoundedRows,
    out: NDArray[np.float32],
    *,
    adds: bool = False,
    in_chunk: int = 2,
    threads: int = 1,
) -> None:
    panels = panel_count(len(matrix.numbers))
    arguments = {
        "weights": pack(matrix.numbers, matrix.form),
        "weight_scales": pack_scales(matrix.scales, matrix.form),
        "bias": matrix.bias,
        "panels": panels,
        "in_chunk": in_chunk,
        **given.arguments,
        "out": out,
        "width": out.shape[1],
        "rows": np.array([len(given.numbers)]),
        "adds": int(adds),
    }
    run(kernels, f"product_{matrix.form.name}", arguments, -(-panels // in_chunk), threads)


def _room(matrix: Matrix, rows: int) -> NDArray[np.float32]:
    return np.full((rows, panel_count(len(matrix.numbers)) * LANES), np.nan, np.float32)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_whole_numbers_are_multiplied_exactly(kernels: Kernels, form: Weights) -> None:
    random = np.random.default_rng(0)
    for (outputs, inputs), rows in zip(SHAPES, ROWS, strict=False):
        matrix = Matrix(form, outputs, inputs, random)
        given = RoundedRows.random(rows, inputs, random)
        # With all scales 1 and no bias nothing is rounded: sums stay below 2**24.
        matrix.scales[:], matrix.bias[:], given.scales[:] = 1, 0, 1
        out = _room(matrix, rows)
        _product(kernels, matrix, given, out)
        exact = given.numbers.astype(np.int64) @ matrix.numbers.astype(np.int64).T
        assert abs(exact).max() < 2**24
        np.testing.assert_array_equal(out[:, :outputs], exact)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
@pytest.mark.parametrize("rows", ROWS)
def test_the_product_is_that_of_the_dequantised_weights(
    kernels: Kernels, form: Weights, rows: int
) -> None:
    random = np.random.default_rng(rows)
    for outputs, inputs in SHAPES:
        matrix = Matrix(form, outputs, inputs, random)
        given = RoundedRows.random(rows, inputs, random)
        out = _room(matrix, rows)
        _product(kernels, matrix, given, out)
        expected = given.values @ matrix.values.T + matrix.bias[:outputs]
        size = abs(given.values) @ abs(matrix.values).T + 1
        assert (abs(out[:, :outputs] - expected) / size).max() < 1e-6


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    form=st.sampled_from(FORMS),
    outputs=st.integers(1, 130),
    groups=st.integers(1, 9),
    rows=st.integers(1, 40),
    in_chunk=st.integers(1, 9),
)
@pytest.mark.parametrize("level", possible_levels(), ids=lambda level: level.name)
def test_any_shape_gives_the_product(
    level: object, seed: int, form: Weights, outputs: int, groups: int, rows: int, in_chunk: int
) -> None:
    random = np.random.default_rng(seed)
    kernels = compiled_for(level, HeadShape(32))
    matrix = Matrix(form, outputs, groups * GROUP, random)
    given_rows = RoundedRows.random(rows, groups * GROUP, random)
    out = _room(matrix, rows)
    _product(kernels, matrix, given_rows, out, in_chunk=in_chunk)
    expected = given_rows.values @ matrix.values.T + matrix.bias[:outputs]
    size = abs(given_rows.values) @ abs(matrix.values).T + 1
    assert (abs(out[:, :outputs] - expected) / size).max() < 1e-6


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_product_can_be_added_to_what_is_there(kernels: Kernels, form: Weights) -> None:
    random = np.random.default_rng(1)
    matrix, given = Matrix(form, 40, 64, random), RoundedRows.random(5, 64, random)
    fresh, added = _room(matrix, 5), np.full((5, 48), 2.5, np.float32)
    _product(kernels, matrix, given, fresh)
    _product(kernels, matrix, given, added, adds=True)
    np.testing.assert_allclose(added, fresh + 2.5, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_row_has_the_same_product_in_any_company_and_with_any_threads(
    kernels: Kernels, form: Weights
) -> None:
    random = np.random.default_rng(2)
    matrix, given = Matrix(form, 100, 96, random), RoundedRows.random(30, 96, random)
    together = _room(matrix, 30)
    _product(kernels, matrix, given, together, threads=3)
    for row in range(30):
        alone = RoundedRows(1, 96)
        for name in ("numbers", "scales", "sums"):
            getattr(alone, name)[:] = getattr(given, name)[row]
        out = _room(matrix, 1)
        _product(kernels, matrix, alone, out)
        np.testing.assert_array_equal(out[0], together[row])


def test_every_level_gives_the_same_bits() -> None:
    random = np.random.default_rng(3)
    for form in FORMS:
        matrix, given = Matrix(form, 60, 128, random), RoundedRows.random(14, 128, random)
        results = []
        for level in possible_levels():
            out = _room(matrix, 14)
            _product(compiled_for(level, HeadShape(32)), matrix, given, out)
            results.append(out)
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_packed_weights_can_be_read_back(form: Weights) -> None:
    random = np.random.default_rng(4)
    for rows, columns in SHAPES:
        numbers = Matrix(form, rows, columns, random).numbers
        packed = pack(numbers, form)
        assert packed.shape == (panel_count(rows), panel_bytes(columns, form))
        np.testing.assert_array_equal(unpack(packed, rows, form), numbers)


def test_columns_that_make_no_full_group_do_not_fit() -> None:
    assert fits(64)
    assert not fits(48)
