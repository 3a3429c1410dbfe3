import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from rating.statistics.shares import share_of


def test_of_nothing_there_is_no_share() -> None:
    assert share_of(np.zeros(0, dtype=bool), np.zeros(0, dtype=int)) is None


@pytest.mark.parametrize("hits", [0, 3, 10, 15, 20])
def test_one_rating_a_prompt_has_wilsons_interval(hits: int) -> None:
    found = share_of(np.arange(20) < hits, np.arange(20))
    assert found is not None
    assert (found.value, found.n) == (hits / 20, 20)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx(
        proportion_confint(hits, 20, method="wilson")
    )


@pytest.mark.parametrize("share", [0.0, 0.2, 0.75, 1.0])
def test_an_interval_of_a_share_stays_between_none_and_all(share: float) -> None:
    prompts = np.repeat(np.arange(12), 20)
    found = share_of(np.arange(240) % 20 < 20 * share, prompts)
    assert found is not None
    assert found.interval is not None
    dust = 1e-12
    assert 0 <= found.interval.low <= share + dust
    assert share - dust <= found.interval.high <= 1


def test_raters_who_all_say_the_same_of_a_prompt_count_as_about_one() -> None:
    prompts = np.arange(30)
    hits = prompts % 3 == 0
    one = share_of(hits, prompts)
    ten = share_of(np.repeat(hits, 10), np.repeat(prompts, 10))
    assert one is not None
    assert ten is not None
    assert one.interval is not None
    assert ten.interval is not None
    assert ten.n == 300
    width = one.interval.high - one.interval.low
    assert ten.interval.high - ten.interval.low == pytest.approx(width, rel=0.08)


def test_raters_who_differ_within_prompts_make_it_narrower() -> None:
    random = np.random.default_rng(1)
    prompts = np.repeat(np.arange(40), 5)
    found = share_of(random.random(200) < 0.5, prompts)
    assert found is not None
    assert found.interval is not None
    low, high = proportion_confint(20, 40, method="wilson")
    assert found.interval.high - found.interval.low < (high - low) * 0.7


def test_one_prompt_alone_says_little_however_many_rate_it() -> None:
    found = share_of(np.arange(50) < 30, np.zeros(50, dtype=int))
    assert found is not None
    assert found.interval is not None
    assert found.interval.high - found.interval.low > 0.7
