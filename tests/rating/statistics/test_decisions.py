import numpy as np
import pytest

from rating.statistics.bootstrap import mean_interval
from rating.statistics.decisions import decide
from rating.statistics.figures import Interval, Verdict, VerdictKind
from rating.statistics.signed_rank import SignedRank, signed_rank


def verdict(differences: np.ndarray, family: int = 5) -> Verdict:
    """The verdict on differences whose p stands first of `family`."""
    test = signed_rank(differences)
    p = None if test is None else min(1.0, test.p * family)
    return decide(differences, mean_interval(differences), test, p, family)


def test_without_prompts_there_are_no_data() -> None:
    assert verdict(np.array([])) == Verdict(VerdictKind.NO_DATA)


def test_five_prompts_decide_nothing_and_nothing_is_foretold_from_them() -> None:
    assert verdict(np.full(5, 4.0)) == Verdict(VerdictKind.UNDECIDED)


@pytest.mark.parametrize(
    ("sign", "kind"), [(1, VerdictKind.SECOND_BETTER), (-1, VerdictKind.FIRST_BETTER)]
)
def test_a_clear_difference_names_the_better_model(sign: int, kind: VerdictKind) -> None:
    assert verdict(sign * np.array([0.5, 1.0, 1.5, 2.0] * 5)) == Verdict(kind)


def test_what_the_other_dimensions_cost_can_undo_a_difference() -> None:
    differences = np.array([1.0] * 6 + [2.0])
    assert verdict(differences, family=1).kind is VerdictKind.SECOND_BETTER
    assert verdict(differences).kind is VerdictKind.UNDECIDED


def test_an_interval_within_half_a_point_is_no_difference_worth_having() -> None:
    differences = np.array([0.5, -0.5, 0.0, 0.0] * 10)
    found = verdict(differences)
    assert found.kind is VerdictKind.NO_DIFFERENCE
    interval = mean_interval(differences)
    assert interval is not None
    assert found.margin == pytest.approx(max(-interval.low, interval.high))


def test_an_interval_that_leaves_half_a_point_open_is_not() -> None:
    test, differences = SignedRank(0.5, 0.1), np.array([0.1] * 30 + [0.0] * 30)
    open_above = decide(differences, Interval(-0.1, 0.51), test, 1.0, 5)
    open_below = decide(differences, Interval(-0.51, 0.1), test, 1.0, 5)
    assert open_above.kind is open_below.kind is VerdictKind.UNDECIDED


def test_equal_scores_prove_from_twenty_prompts_on_that_there_is_little_never_nothing() -> None:
    assert verdict(np.zeros(19)).kind is VerdictKind.UNDECIDED
    found = verdict(np.zeros(20))
    assert found.kind is VerdictKind.NO_DIFFERENCE
    assert found.margin == pytest.approx(1 - 0.025 ** (1 / 20))


def test_a_test_that_points_away_from_the_mean_decides_nothing() -> None:
    """Many small steps down, a few large ones up: the ranks say down, the mean says up."""
    differences = np.array([-0.5] * 40 + [4.0] * 6)
    found = verdict(differences)
    assert differences.mean() > 0
    assert found.kind is VerdictKind.UNDECIDED


def test_an_undecided_dimension_gets_a_plan() -> None:
    found = verdict(np.array([2.0, -1.0, 1.0, 0.0, 1.0, -1.0, 2.0, -2.0]))
    assert found.kind is VerdictKind.UNDECIDED
    assert found.more_prompts is not None
    assert 20 < found.more_prompts < 500
