import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import PermutationMethod, rankdata, wilcoxon
from statsmodels.stats.multitest import multipletests

from rating.statistics.signed_rank import EXACT_UP_TO, SignedRank, holm, signed_rank

with_ties = st.lists(st.integers(-4, 4).map(float), min_size=2, max_size=10)


def test_nothing_to_compare_gives_no_test() -> None:
    assert signed_rank(np.array([])) is None


def test_all_zeros_say_nothing() -> None:
    assert signed_rank(np.zeros(30)) == SignedRank(1.0, 0.0)


def found(differences: list[float]) -> SignedRank:
    result = signed_rank(np.array(differences))
    assert result is not None
    return result


def test_six_prompts_on_one_side_are_chance_once_in_32() -> None:
    assert found([1, 1, 1, 1, 1, 1]) == SignedRank(2 / 2**6, 1.0)


def test_zeros_take_ranks_away_from_what_is_small() -> None:
    """By hand: |d| is 0, 0, 1, 2, 3; ranks 1.5, 1.5, 3, 4, 5; positive 4 + 5, negative 3."""
    result = found([0, 0, -1, 2, 3])
    assert result.effect == pytest.approx((9 - 3) / 12)
    sums = [sum(chosen) for n in range(4) for chosen in itertools.combinations([3, 4, 5], n)]
    assert result.p == pytest.approx(2 * sum(each >= 9 for each in sums) / 8)


def p_of_all_signs(differences: list[float]) -> float:
    """The two-sided p as its definition says: the smaller tail over all 2^n signs, twice."""
    ranks = rankdata(np.abs(differences))[np.array(differences) != 0]
    seen = ranks[np.array([each for each in differences if each]) > 0].sum()
    sums = np.array([sum(c) for c in itertools.product(*((0.0, rank) for rank in ranks))])
    return float(min(1.0, 2 * min((sums >= seen).mean(), (sums <= seen).mean())))


@given(with_ties)
@settings(max_examples=40)
def test_small_samples_have_the_p_of_all_signs(differences: list[float]) -> None:
    if any(differences):
        assert found(differences).p == pytest.approx(p_of_all_signs(differences))


def test_small_samples_have_scipys_p_of_all_permutations() -> None:
    differences = [0.0, 1.0, 1.0, -1.0, 2.0, 3.0, 0.0, 4.0]
    exact = wilcoxon(differences, zero_method="pratt", method=PermutationMethod(n_resamples=2**8))
    assert found(differences).p == pytest.approx(exact.pvalue)


@pytest.mark.parametrize("n", [6, 25, 50])
def test_without_ties_it_is_scipys_exact_p(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    assert found(list(differences)).p == pytest.approx(wilcoxon(differences, method="exact").pvalue)


def test_the_exact_p_hands_over_to_the_normal_one_without_a_jump() -> None:
    random = np.random.default_rng(2)
    few = random.choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], size=EXACT_UP_TO)
    few = np.append(few, np.zeros(30))
    normal = wilcoxon(few, zero_method="pratt", correction=True, method="asymptotic").pvalue
    assert found(list(few)).p == pytest.approx(normal, rel=0.05)
    many = np.append(few, 1.0)
    normal = wilcoxon(many, zero_method="pratt", correction=True, method="asymptotic").pvalue
    assert found(list(many)).p == pytest.approx(normal)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("apart", [0.0, 0.3])
def test_many_prompts_have_scipys_normal_p(seed: int, apart: float) -> None:
    differences = np.rint(np.random.default_rng(seed).normal(apart, 1.5, 400)) / 2
    normal = wilcoxon(differences, zero_method="pratt", correction=True, method="asymptotic")
    assert found(list(differences)).p == pytest.approx(normal.pvalue)


@given(with_ties)
@settings(max_examples=40)
def test_seen_from_the_other_model_only_the_effect_turns_round(differences: list[float]) -> None:
    here, there = found(differences), found([-each for each in differences])
    assert there.p == pytest.approx(here.p)
    assert there.effect == pytest.approx(-here.effect)
    assert -1 <= here.effect <= 1


@pytest.mark.parametrize(
    "ps", [[0.5], [0.01, 0.04, 0.03, 0.005], [0.02, 0.02, 0.9, 1.0, 0.0], [0.2, 0.1]]
)
def test_holm_is_as_in_statsmodels(ps: list[float]) -> None:
    assert holm(ps) == pytest.approx(list(multipletests(ps, method="holm")[1]))


def test_what_was_not_tested_takes_no_part_in_holms_family() -> None:
    assert holm([0.01, None, 0.04]) == [pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm([None, None]) == [None, None]
