import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.statistics.intervals import FEWEST_VALUES, Mean, mean_of

differences = st.lists(st.sampled_from([n / 4 for n in range(-16, 17)]), min_size=1, max_size=20)


def interval(values: list[float]) -> tuple[float, float]:
    found = mean_of(values)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def sign(values: list[float]) -> int:
    found = mean_of(values)
    assert found is not None
    return found.sign


def sign_flip_p(values: list[float]) -> float:
    """The two-sided p of the exact sign-flip test, computed as its definition says."""
    data = np.asarray(values)
    n = len(data)
    signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    sums = np.abs(np.round(signs @ data, 9))
    return float((sums >= sums[0]).mean())


def test_of_nothing_there_is_no_mean() -> None:
    assert mean_of([]) is None


def test_six_values_have_an_interval_from_the_least_to_the_greatest() -> None:
    """Known from the definition: one of 63 subset means is cut off at each end."""
    assert mean_of([1.0, 2.0, 4.0, 3.0, 6.0, 5.0]) == Mean(3.5, 1.0, 6.0, 6)


@pytest.mark.parametrize("n", range(1, FEWEST_VALUES))
def test_fewer_values_decide_nothing_however_clear_they_look(n: int) -> None:
    assert mean_of([4.0] * n) == Mean(4.0, None, None, n)
    assert sign([4.0] * n) == 0


def test_equal_values_decide_once_there_are_enough() -> None:
    assert sign([0.5] * FEWEST_VALUES) == 1
    assert sign([-0.5] * FEWEST_VALUES) == -1
    assert sign([0.0] * 50) == 0


def test_one_value_against_the_others_leaves_six_undecided() -> None:
    assert sign([1.0] * 5 + [-0.25]) == 0


def test_sums_that_are_zero_on_paper_decide_nothing() -> None:
    assert 0.1 + 0.2 - 0.3 != 0
    assert sign([0.1, 0.2, -0.3] * 2 + [0.0] * 4) == 0


@given(st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=9))
def test_zero_is_excluded_exactly_where_the_sign_flip_test_rejects_it(values: list[float]) -> None:
    assert (sign(values) != 0) == (sign_flip_p(values) <= 0.05)


@given(differences)
def test_the_interval_holds_the_mean_and_nothing_beyond_the_values(values: list[float]) -> None:
    found = mean_of(values)
    assert found is not None
    assert found.n == len(values)
    if found.low is not None and found.high is not None:
        assert min(values) - 1e-9 <= found.low <= found.mean + 1e-9
        assert found.mean - 1e-9 <= found.high <= max(values) + 1e-9


@given(differences)
def test_seen_from_the_other_side_it_is_the_same(values: list[float]) -> None:
    here, there = mean_of(values), mean_of([-value for value in values])
    assert here is not None
    assert there == -here
    assert there.sign == -here.sign


@pytest.mark.parametrize("n", [8, 20, 40])
def test_it_covers_the_truth_as_often_as_it_says(n: int) -> None:
    """Differences of scores: halves, around a true mean of 0.3."""
    random = np.random.default_rng(n)
    draws = np.round(random.normal(0.3, 1.0, size=(400, n)) * 2) / 2
    intervals = [interval(list(values)) for values in draws]
    covered = sum(low <= 0.3 <= high for low, high in intervals) / len(intervals)
    assert 0.92 <= covered <= 0.99


@pytest.mark.parametrize("n", [8, 20])
def test_where_there_is_no_difference_it_finds_one_rarely(n: int) -> None:
    random = np.random.default_rng(n)
    draws = np.round(random.normal(0.0, 1.0, size=(400, n)) * 2) / 2
    found = sum(sign(list(values)) != 0 for values in draws) / len(draws)
    assert found <= 0.08


def test_more_values_make_it_narrower() -> None:
    random = np.random.default_rng(1)
    widths = []
    for n in (10, 40, 160):
        low, high = interval(list(random.normal(size=n)))
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert math.isclose(widths[2] / widths[1], 0.5, rel_tol=0.35)


def test_very_many_values_take_a_moment_only() -> None:
    found = mean_of([0.0, 1.0] * 50_000)
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low == pytest.approx(0.5, abs=0.01)
    assert found.high == pytest.approx(0.5, abs=0.01)
