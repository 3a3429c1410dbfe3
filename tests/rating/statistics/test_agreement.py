import krippendorff
import numpy as np
import pytest

from rating.statistics.agreement import agreement
from rating.statistics.figures import Agreement

NA = np.nan
PUBLISHED = np.array(
    [  # K. Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), example C
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NA, NA, NA],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NA, 3],
        [NA, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NA],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NA],
    ]
)


def of(coders: np.ndarray) -> Agreement | None:
    """Alpha of a table of coders by units, each unit a prompt of its own."""
    units = coders.shape[1]
    return agreement(np.tile(np.arange(units), len(coders)), coders.ravel(), np.arange(units))


def test_krippendorffs_own_example_has_his_alpha() -> None:
    found = of(PUBLISHED)
    assert found is not None
    assert found.alpha == pytest.approx(0.815, abs=0.0005)


def test_its_interval_is_that_of_drawing_whole_units_again() -> None:
    """Held against the published package on resamples of its own."""
    found = of(PUBLISHED)
    assert found is not None
    assert found.interval is not None
    units = PUBLISHED[:, (~np.isnan(PUBLISHED)).sum(axis=0) > 1]
    random = np.random.default_rng(0)
    drawn = [
        krippendorff.alpha(
            units[:, random.integers(0, units.shape[1], units.shape[1])],
            value_domain=[1, 2, 3, 4, 5],
            level_of_measurement="ordinal",
        )
        for _ in range(600)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert found.interval.low <= low + 0.02  # ours is cut further out, for so few units
    assert found.interval.high >= high - 0.02
    assert found.interval.high <= 1


def test_raters_who_say_the_same_agree_perfectly() -> None:
    found = of(np.tile([1.0, 2, 3, 4, 5, 1, 2, 3], (3, 1)))
    assert found is not None
    assert found.alpha == pytest.approx(1.0)


def test_raters_by_chance_agree_by_chance() -> None:
    found = of(np.random.default_rng(1).integers(1, 6, size=(3, 300)).astype(float))
    assert found is not None
    assert found.interval is not None
    assert found.interval.low < 0 < found.interval.high
    assert abs(found.alpha) < 0.1


@pytest.mark.parametrize(
    "coders",
    [np.zeros((2, 0)), np.array([[1.0, 2.0, 3.0]]), np.full((3, 8), 4.0), np.full((3, 8), NA)],
    ids=["nothing", "one rater", "one score throughout", "not applicable"],
)
def test_without_a_second_opinion_or_a_difference_there_is_no_alpha(coders: np.ndarray) -> None:
    assert of(coders) is None


def test_units_of_one_prompt_are_drawn_together() -> None:
    """Two models of a prompt that are rated alike say no more than one: the interval stays."""
    coders = np.random.default_rng(4).integers(1, 6, size=(2, 40)).astype(float)
    one = of(coders)
    doubled = np.hstack([coders, coders])
    both = agreement(
        np.tile(np.arange(80), 2), doubled.ravel(), np.concatenate([np.arange(40), np.arange(40)])
    )
    assert one is not None
    assert both is not None
    assert one.interval is not None
    assert both.interval is not None
    assert both.alpha == pytest.approx(one.alpha, abs=0.01)
    assert both.interval.high - both.interval.low == pytest.approx(
        one.interval.high - one.interval.low, rel=0.05
    )
