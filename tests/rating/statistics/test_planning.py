import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from rating.statistics.planning import decided_chance, prompts_needed


@pytest.mark.parametrize(("mean", "spread"), [(1.0, 1.0), (0.8, 1.5), (2.0, 1.2)])
def test_for_a_large_difference_it_is_the_power_of_students_test(
    mean: float, spread: float
) -> None:
    needed = prompts_needed(mean, spread, undecided=5)
    expected = TTestPower().solve_power(mean / spread, power=0.8, alpha=0.05 / 5)
    assert needed == pytest.approx(expected, rel=0.08, abs=1)


@pytest.mark.parametrize("mean", [0.0, 0.1, 0.25, 0.5, 0.8])
def test_the_chance_is_that_of_means_drawn_at_random(mean: float) -> None:
    random = np.random.default_rng(1)
    for n in (30, 80):
        error = 1.2 / np.sqrt(n)
        drawn = random.normal(mean, error, 40_000)
        differs = np.abs(drawn) > stats.t.ppf(1 - 0.005, n - 1) * error
        same = np.abs(drawn) + stats.t.ppf(0.975, n - 1) * error < 0.5
        chance = decided_chance(np.array([n]), mean, 1.2, undecided=5)[0]
        assert chance == pytest.approx((differs | same).mean(), abs=0.01)


def test_equal_models_are_decided_as_well_by_showing_that_no_difference_matters() -> None:
    assert prompts_needed(0.0, 1.0, undecided=5) == pytest.approx(
        (stats.norm.ppf(0.9) + 1.96) ** 2 / 0.5**2, rel=0.1
    )


def test_the_sign_of_the_difference_changes_nothing() -> None:
    assert prompts_needed(-0.4, 1.1, 5) == prompts_needed(0.4, 1.1, 5)


def test_more_spread_and_more_undecided_dimensions_take_more_prompts() -> None:
    plans = [prompts_needed(0.6, spread, 5) or 0 for spread in (0.5, 1.0, 2.0)]
    assert plans == sorted(set(plans))
    assert (prompts_needed(0.8, 1.0, 5) or 0) > (prompts_needed(0.8, 1.0, 1) or 0)


def test_prompts_without_any_spread_take_no_more_than_the_least_there_can_be() -> None:
    assert prompts_needed(1.0, 0.0, 5) == 6
    assert prompts_needed(0.0, 0.0, 5) == pytest.approx(20, abs=1)


def test_what_a_hundred_thousand_prompts_do_not_decide_is_not_foretold() -> None:
    assert prompts_needed(0.3, 60.0, 5) is None
