import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rating.statistics.bootstrap import (
    FEWEST_PROMPTS,
    mean_interval,
    sums_interval,
    sums_intervals,
    unseen_share,
)
from rating.statistics.figures import Interval

values = st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=6, max_size=30)


def interval(data: list[float] | np.ndarray) -> Interval:
    found = mean_interval(np.asarray(data, dtype=float))
    assert found is not None
    return found


@pytest.mark.parametrize("n", range(FEWEST_PROMPTS))
def test_fewer_than_six_prompts_have_no_interval(n: int) -> None:
    assert mean_interval(np.linspace(0, 1, n)) is None
    assert sums_interval(np.ones((n, 1)), lambda sums: sums[:, 0]) is None


@pytest.mark.parametrize("n", [20, 50, 200])
def test_of_normal_values_it_is_as_wide_as_students(n: int) -> None:
    data = stats.norm.ppf((np.arange(n) + 0.5) / n)
    student = stats.t.interval(0.95, n - 1, loc=data.mean(), scale=data.std(ddof=1) / n**0.5)
    found = interval(data)
    assert found.low == pytest.approx(student[0], rel=0.05)
    assert found.high == pytest.approx(student[1], rel=0.05)


def test_quantiles_further_out_than_2_5_percent_are_taken_as_hesterberg_has_them() -> None:
    """His table: with 10 values the 95 % interval is cut at 0.85 % and 99.15 %."""
    data = np.array([1.0, 2.0, 4.0, 4.5, 6.0, 7.0, 9.0, 9.5, 12.0, 20.0])
    random = np.random.default_rng(5)
    means = data[random.integers(0, 10, size=(200_000, 10))].mean(axis=1)
    tail = stats.norm.cdf(-np.sqrt(10 / 9) * stats.t.ppf(0.975, 9))
    assert tail == pytest.approx(0.0085, abs=0.0001)
    found = interval(data)
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [tail, 1 - tail]), abs=0.15)


@given(values)
@settings(max_examples=25)
def test_seen_from_the_other_model_it_is_the_mirror_image(data: list[float]) -> None:
    here, there = interval(data), interval([-value for value in data])
    assert (there.low, there.high) == pytest.approx((-here.high, -here.low), abs=1e-9)


@given(values, st.randoms())
@settings(max_examples=25)
def test_the_order_of_prompts_changes_nothing(data: list[float], random: object) -> None:
    shuffled = list(data)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert interval(shuffled) == interval(data)


@given(values)
@settings(max_examples=25)
def test_it_holds_the_mean(data: list[float]) -> None:
    found = interval(data)
    assert found.low - 1e-5 <= np.mean(data) <= found.high + 1e-5


def test_values_without_spread_still_leave_room_for_what_was_not_seen() -> None:
    assert unseen_share(20) == pytest.approx(1 - 0.025 ** (1 / 20))
    found = interval([0.5] * 20)
    assert (found.low, found.high) == pytest.approx((0.5 - 0.1684, 0.5 + 0.1684), abs=1e-4)
    assert interval([0.5] * 200).high < 0.52


def test_it_covers_the_truth_as_often_as_it_says_with_few_skewed_prompts() -> None:
    """Differences at a ceiling: mostly 0, some +1 or +2. 600 studies, so ± 1.8 %."""
    random = np.random.default_rng(3)
    draws = random.choice([-1.0, 0.0, 1.0, 2.0], p=[0.1, 0.5, 0.3, 0.1], size=(600, 20))
    found = [interval(draw) for draw in draws]
    covered = sum(each.low <= 0.4 <= each.high for each in found) / len(found)
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("n", [2_000, 100_000])
def test_very_many_prompts_are_drawn_in_blocks_and_as_sure_as_they_should_be(n: int) -> None:
    data = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], size=n)
    student = 1.96 * data.std() / n**0.5
    found = interval(data)
    assert found.high - data.mean() == pytest.approx(student, rel=0.12)
    assert data.mean() - found.low == pytest.approx(student, rel=0.12)


def test_several_statistics_have_an_interval_each_where_they_are_defined() -> None:
    sums = np.random.default_rng(1).normal(1, 1, size=(40, 2))

    def statistics(total: np.ndarray) -> np.ndarray:
        return np.column_stack([total[:, 0] / 40, np.full(len(total), np.nan)])

    mean, undefined = sums_intervals(sums, statistics)
    assert undefined is None
    assert mean is not None
    expected = interval(sums[:, 0])
    assert (mean.low, mean.high) == pytest.approx((expected.low, expected.high), abs=0.05)
